/*
 * Put in front of the C library (LD_PRELOAD): a disk under the files of one directory that can lose power and fail.
 *
 * Beside each file it keeps a shadow: what the file holds on the disk, brought up to date by fsync and fdatasync and
 * by nothing else. Whoever takes the shadows for the files after a kill has what a power loss would have left, with
 * all that was not synced lost.
 *
 *   DISK_FILES    the directory; its files that end in "db" and "db-wal" are watched
 *   DISK_SHADOWS  where the shadows are
 *   DISK_LAZY     if set, the sync of a log waits until the database itself is written to, as with synchronous=NORMAL
 *   DISK_NO_LOCKS if set, locks are answered as on a file system that does not know them
 *
 * While DISK_SHADOWS holds a file named fail-sync, syncs fail with EIO and, as the kernel does, forget what was not
 * written; while it holds one named fail-write, writes fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS 65536
#define FILES 16

struct file {
    char path[512];
    char shadow[512];
    int log;
    int deferred;
    /* What was written since the last sync, as one range. */
    off_t from, to;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static int count;
/* Index of the file plus one. */
static unsigned char of_fd[FDS];
static const char *directory, *shadows;
static int lazy, no_locks;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fcntl)(int, int, ...);
static int (*real_close)(int);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fcntl = dlsym(RTLD_NEXT, "fcntl64");
    real_close = dlsym(RTLD_NEXT, "close");
    directory = getenv("DISK_FILES");
    shadows = getenv("DISK_SHADOWS");
    lazy = getenv("DISK_LAZY") != NULL;
    no_locks = getenv("DISK_NO_LOCKS") != NULL;
}

static int failing(const char *what) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", shadows, what);
    return access(path, F_OK) == 0;
}

static struct file *file_of(int fd) {
    return fd >= 0 && fd < FDS && of_fd[fd] ? &files[of_fd[fd] - 1] : NULL;
}

static void copy(struct file *file, off_t from, off_t to) {
    static char buffer[1 << 16];
    int in = real_open(file->path, O_RDONLY);
    int out = real_open(file->shadow, O_WRONLY | O_CREAT, 0600);
    struct stat stat;
    if (in < 0 || out < 0 || fstat(in, &stat) != 0 || ftruncate64(out, stat.st_size) != 0) abort();
    if (to > stat.st_size) to = stat.st_size;
    while (from < to) {
        size_t want = to - from < (off_t)sizeof buffer ? (size_t)(to - from) : sizeof buffer;
        ssize_t got = pread(in, buffer, want, from);
        if (got <= 0 || real_pwrite(out, buffer, got, from) != got) abort();
        from += got;
    }
    real_close(in);
    real_close(out);
}

static void settle(struct file *file) {
    copy(file, file->from, file->to);
    file->from = file->to = 0;
    file->deferred = 0;
}

static void watch(int fd, const char *path) {
    size_t length = strlen(path);
    if (fd < 0 || fd >= FDS) return;
    pthread_mutex_lock(&lock);
    of_fd[fd] = 0;
    int log = length > 4 && strcmp(path + length - 4, "-wal") == 0;
    if (directory && shadows && strncmp(path, directory, strlen(directory)) == 0
        && (log || (length > 2 && strcmp(path + length - 2, "db") == 0))) {
        int at = 0;
        while (at < count && strcmp(files[at].path, path) != 0) at++;
        if (at == count) {
            if (count == FILES) abort();
            struct file *file = &files[count++];
            snprintf(file->path, sizeof file->path, "%s", path);
            snprintf(file->shadow, sizeof file->shadow, "%s/%s", shadows, strrchr(path, '/') + 1);
            file->log = log;
            struct stat stat;
            /* What was there before the start is on the disk. */
            if (fstat(fd, &stat) == 0 && stat.st_size > 0) copy(file, 0, stat.st_size);
        }
        of_fd[fd] = at + 1;
    }
    pthread_mutex_unlock(&lock);
}

static int open_any(const char *path, int flags, mode_t mode) {
    int fd = real_open(path, flags, mode);
    watch(fd, path);
    return fd;
}

#define OPEN(name)                                             \
    int name(const char *path, int flags, ...) {               \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        mode_t mode = flags & O_CREAT ? va_arg(arguments, int) : 0; \
        va_end(arguments);                                     \
        return open_any(path, flags, mode);                    \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS) of_fd[fd] = 0;
    pthread_mutex_unlock(&lock);
    return real_close(fd);
}

static ssize_t write_any(int fd, const void *bytes, size_t length, off_t at, int positioned) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file && failing("fail-write")) {
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    if (file) {
        if (!positioned) at = lseek(fd, 0, SEEK_CUR);
        /* Before the log is copied into the database, it is synced. */
        for (int other = 0; !file->log && other < count; other++)
            if (files[other].deferred) settle(&files[other]);
        if (file->to == 0 || at < file->from) file->from = at;
        if (at + (off_t)length > file->to) file->to = at + length;
    }
    ssize_t written = positioned ? real_pwrite(fd, bytes, length, at) : real_write(fd, bytes, length);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return write_any(fd, bytes, length, at, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return write_any(fd, bytes, length, at, 1); }
ssize_t write(int fd, const void *bytes, size_t length) {
    if (!file_of(fd)) return real_write(fd, bytes, length);
    return write_any(fd, bytes, length, 0, 0);
}

static int sync_any(int fd) {
    int result = 0;
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file && failing("fail-sync")) {
        file->from = file->to = 0;
        errno = EIO;
        result = -1;
    } else if (file && file->log && lazy) {
        file->deferred = 1;
    } else if (file) {
        settle(file);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_any(fd); }
int fdatasync(int fd) { return sync_any(fd); }

static int fcntl_any(int fd, int command, void *argument) {
    if (no_locks && file_of(fd) && (command == F_SETLK || command == F_SETLKW || command == F_GETLK)) {
        errno = ENOLCK;
        return -1;
    }
    return real_fcntl(fd, command, argument);
}

#define FCNTL(name)                                \
    int name(int fd, int command, ...) {           \
        va_list arguments;                         \
        va_start(arguments, command);              \
        void *argument = va_arg(arguments, void *); \
        va_end(arguments);                         \
        return fcntl_any(fd, command, argument);   \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
