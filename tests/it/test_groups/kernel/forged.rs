//! A sidecar beside a job with forged mounts: the job decides what is mounted in the place of its cgroups.
//!
//! No forged file may become a figure, none may delay a pass or the last summary, and no file outside may be read.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::jail::Jail;
use tests::program::{path, workload};
use wire::{Certainty, ContainerUsage, Payload};

/// Memory that the job holds.
const BYTES: u64 = 50_000_000;
/// A value that is only in the forged files.
const MADE_UP: &str = "987654321987";
/// For the whole pod. The job takes less than two seconds, and a hanging collector hangs forever.
const IN_TIME: Duration = Duration::from_secs(15);

const NOT_MOUNTED: Option<&str> = Some("its own cgroup is not mounted in it");

/// The first process of a PID namespace that a sidecar and a job share. Each has its own mounts, and the sidecar's show no
/// cgroup. The job forges before it enters its cgroups, so the sidecar never sees it there without the forgery.
const POD: &str = r#"
    unshare --mount sh -c '
        umount --lazy --recursive /sys/fs/cgroup
        exec "$COLLECTOR" --interval=100ms --ebpf=off --output=json --output-file="$T/report.json" 2> "$T/log"' &
    until grep --quiet measuring "$T/log"; do sleep 0.05; done
    unshare --mount sh -ec '
        mkdir "$T/host" && mount --rbind /sys/fs/cgroup "$T/host"
        eval "$FORGE"
        for name in $NAMES; do echo 0 > "$T/host/$name/$ID/cgroup.procs"; done
        "$WORKLOAD" burn 500 &
        sleep 1 | "$WORKLOAD" idle 1 "$BYTES" > /dev/null
        wait
        sleep 0.3'
    kill -TERM $! && wait $!
"#;

/// Shell commands with which the job forges.
const FORGING: &str = r#"
    # What a runtime mounts: its own cgroup in each hierarchy, or what is named instead.
    cgroups() {
        mount -t tmpfs none /sys/fs/cgroup
        for name in $NAMES; do
            mkdir -p "/sys/fs/cgroup/$name"
            mount --bind "$T/host/$name/$1" "/sys/fs/cgroup/$name"
        done
    }
    # Does something in a directory for each file that could be read there.
    each() {
        for file in cgroup.procs cpuacct.usage cpu.stat cpu.max cpu.cfs_quota_us cpu.cfs_period_us memory.stat memory.current \
            memory.peak memory.events memory.max memory.usage_in_bytes memory.max_usage_in_bytes memory.oom_control \
            memory.limit_in_bytes; do "$1" "$2/$file"; done
    }
    # All of the above in the place of each hierarchy.
    everywhere() {
        for name in $NAMES; do mkdir -p "$2/$name"; each "$1" "$2/$name"; done
    }
    number() { case "$1" in
        */cgroup.procs) seq 1 200 > "$1";;
        */cpuacct.usage | */memory.current | */memory.peak | */memory.max* | */memory.usage* | */memory.limit* | */cpu.cfs*)
            echo 987654321987 > "$1";;
        *) printf "%s 987654321987\n" usage_usec throttled_usec nr_periods nr_throttled throttled_time oom_kill inactive_file \
            total_inactive_file file total_cache hierarchical_memory_limit > "$1";;
    esac; }
    garbage() { head -c 100000 /dev/urandom > "$1"; }
    pipe() { mkfifo "$1"; }
    folder() { mkdir "$1"; }
    huge() { truncate --size=8G "$1"; }
    endless() { ln -s /dev/zero "$1"; }
    tmpfs() { mount -t tmpfs none /sys/fs/cgroup; }
    # Covers what is there with what has the same name in $T/forged.
    cover() {
        if [ -e "$1" ] && [ -e "$T/forged/${1#/sys/fs/cgroup/}" ]; then
            mount --bind "$T/forged/${1#/sys/fs/cgroup/}" "$1"
        fi
    }
    zero() { if [ -e "$1" ]; then mount --bind /dev/zero "$1"; fi; }
"#;

struct Told {
    payload: Payload,
    jail: Jail,
    directory: tempfile::TempDir,
    log: String,
}

impl Told {
    #[track_caller]
    fn job(&self) -> &ContainerUsage {
        let is_it = |usage: &&ContainerUsage| usage.id.as_deref() == Some(self.jail.id());
        let job = self.payload.containers.iter().find(is_it);
        job.unwrap_or_else(|| panic!("the job is not there: {:#?}", self.payload.containers))
    }

    fn reason(&self) -> Option<&str> {
        self.payload.collector.as_ref().unwrap().account_reason.as_deref()
    }

    /// Checks that passes continued and that the summary has their figures.
    #[track_caller]
    fn assert_seen(&self, forge: &str) {
        let (job, truth) = (self.job(), self.jail.cpu_seconds().unwrap());
        assert!(self.payload.sample_count >= 8, "{forge}: {} samples", self.payload.sample_count);
        let found = job.cpu_seconds.unwrap();
        // The shell's sum includes processes that ended between two passes. Some time was used before entering the cgroups.
        assert!((found - truth).abs() < 0.1 * truth + 0.05, "{forge}: {found} s of {truth} s");
        let peak = job.memory_bytes.peak;
        assert!((BYTES as f64..2.0 * BYTES as f64).contains(&peak), "{forge}: {peak} bytes");
        let text = serde_json::to_string(&self.payload).unwrap();
        assert!(!text.contains(&MADE_UP[..9]), "{forge}: {text}");
    }

    /// Checks that no memory figure comes from the kernel's account.
    #[track_caller]
    fn assert_memory_is_sampled(&self, forge: &str) {
        let job = self.job();
        assert_eq!(job.memory_certainty, Some(Certainty::Sampled), "{forge}: {job:#?}");
        assert_eq!(
            (job.memory_needed_at_least_bytes, job.memory_needed_at_most_bytes),
            (None, None),
            "{forge}"
        );
        assert_eq!((job.memory_peak_bytes, job.memory_limit_bytes), (None, None), "{forge}");
        assert_eq!((job.memory_bound_bytes, job.oom_kills), (None, None), "{forge}");
        assert!(job.working_set_bytes.is_none(), "{forge}");
    }

    /// Checks that no CPU figure comes from the kernel's account.
    #[track_caller]
    fn assert_cpu_is_sampled(&self, forge: &str) {
        let job = self.job();
        assert_eq!(job.cpu_certainty, Some(Certainty::Sampled), "{forge}: {job:#?}");
        assert_eq!((job.cgroup_cpu_seconds, job.cpu_limit_cores), (None, None), "{forge}");
        assert_eq!((job.cpu_periods, job.cpu_throttled_seconds), (None, None), "{forge}");
    }
}

fn measure(forge: &str) -> Told {
    let directory = tempfile::tempdir().unwrap();
    let [jail, other] = [(); 2].map(|()| Jail::new(None).unwrap());
    // A value in the other container's account.
    let enter = |path: &Path| format!("echo $$ > {}/cgroup.procs; ", path.display());
    let enter: String = other.directories().iter().map(|path| enter(path)).collect();
    let mut burn = Command::new("sh");
    burn.args(["-c", &format!("{enter} \"$0\" burn 100")]).arg(workload());
    assert!(burn.status().unwrap().success());
    let mut pod = Command::new("timeout");
    pod.args([
        "--signal=KILL",
        "30",
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount",
        "--mount-proc",
    ]);
    pod.args(["sh", "-c", POD]).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    pod.env("T", directory.path()).env("ID", jail.id()).env("OTHER", other.id());
    pod.env("NAMES", if tests::cgroup::has_v1() { "memory cpuacct cpu" } else { "." });
    pod.env("FORGE", format!("{FORGING}\n{forge}")).env("BYTES", BYTES.to_string());
    pod.env("COLLECTOR", path("COLLECTOR_BIN", "collector")).env("WORKLOAD", workload());
    pod.env("COLLECTOR_SPOOL_DIR", "none").env("COLLECTOR_LOG_LEVEL", "debug");
    let began = Instant::now();
    let output = pod.output().unwrap();
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    assert!(output.status.success(), "{forge}: {output:?}\n{log}");
    assert!(began.elapsed() < IN_TIME, "{forge}: {:?}\n{log}", began.elapsed());
    let report = std::fs::read(directory.path().join("report.json")).unwrap();
    Told { payload: serde_json::from_slice(&report).unwrap(), jail, directory, log }
}

#[test]
fn what_a_runtime_mounts_is_the_account() {
    // Its own cgroups, or everyone's, with the machine's cgroup namespace.
    for forge in ["cgroups $ID", "cgroups ."] {
        let told = measure(forge);
        told.assert_seen(forge);
        let job = told.job();
        assert_eq!((job.cpu_certainty, told.reason()), (Some(Certainty::Exact), None), "{forge}: {job:#?}");
        let truth = told.jail.cpu_seconds().unwrap();
        assert!((job.cgroup_cpu_seconds.unwrap() - truth).abs() < 0.01, "{forge}: {job:#?} of {truth}");
        assert!(job.memory_needed_at_most_bytes.unwrap() >= BYTES, "{forge}: {job:#?}");
        assert_eq!(job.oom_kills, Some(0), "{forge}");
    }
}

#[test]
fn nothing_that_is_made_up_becomes_a_figure() {
    let forgeries = [
        // Nothing, and file systems that are not cgroup file systems.
        "tmpfs",
        "tmpfs; everywhere number /sys/fs/cgroup",
        "tmpfs; everywhere garbage /sys/fs/cgroup",
        "tmpfs; everywhere pipe /sys/fs/cgroup",
        "tmpfs; everywhere folder /sys/fs/cgroup",
        "tmpfs; everywhere huge /sys/fs/cgroup",
        "tmpfs; everywhere endless /sys/fs/cgroup",
        "tmpfs; for name in $NAMES; do [ $name = . ] || mkfifo /sys/fs/cgroup/$name; done",
        // The cgroup of another job.
        "cgroups $OTHER",
        // Its own cgroup, with other files mounted over its files.
        "cgroups $ID; everywhere number $T/forged; for name in $NAMES; do each cover /sys/fs/cgroup/$name; done",
        "cgroups $ID; everywhere pipe $T/forged; for name in $NAMES; do each cover /sys/fs/cgroup/$name; done",
        "cgroups $ID; everywhere huge $T/forged; for name in $NAMES; do each cover /sys/fs/cgroup/$name; done",
        "cgroups $ID; for name in $NAMES; do each zero /sys/fs/cgroup/$name; done",
        // All files but the list of its processes.
        "cgroups $ID; everywhere number $T/forged
            for name in $NAMES; do each cover /sys/fs/cgroup/$name; umount /sys/fs/cgroup/$name/cgroup.procs; done",
    ];
    // Several at once, because they mostly wait.
    for some in forgeries.chunks(5) {
        std::thread::scope(|scope| {
            for forge in some {
                scope.spawn(move || {
                    let told = measure(forge);
                    told.assert_seen(forge);
                    told.assert_memory_is_sampled(forge);
                    told.assert_cpu_is_sampled(forge);
                    assert_eq!(told.reason(), NOT_MOUNTED, "{forge}\n{}", told.log);
                });
            }
        });
    }
}

#[test]
fn a_part_that_is_made_up_leaves_the_rest_exact_and_is_told() {
    let forges = [
        "cgroups $ID; everywhere number $T/forged
            for file in /sys/fs/cgroup/*memory*/memory.* /sys/fs/cgroup/memory.*; do cover $file; done",
        "cgroups $ID; everywhere pipe $T/forged
            for file in /sys/fs/cgroup/*memory*/memory.* /sys/fs/cgroup/memory.*; do cover $file; done",
    ];
    for forge in forges {
        let told = measure(forge);
        told.assert_seen(forge);
        told.assert_memory_is_sampled(forge);
        assert_eq!(told.job().cpu_certainty, Some(Certainty::Exact), "{forge}");
        assert_eq!(told.reason(), Some("its own cgroup is mounted in it without memory figures"), "{forge}");
    }
}

#[test]
fn no_file_is_read_that_a_link_leads_to() {
    let forgeries = [
        // In the place of a hierarchy, of each file, and of the whole directory.
        "everywhere number $T/outside; tmpfs
            for name in $NAMES; do [ $name = . ] || ln -s $T/outside/$name /sys/fs/cgroup/$name; done",
        "everywhere number $T/outside; tmpfs
            link() { ln -s $T/outside/${1#/sys/fs/cgroup/} $1; }; everywhere link /sys/fs/cgroup",
        "everywhere number $T/outside; umount --lazy --recursive /sys/fs/cgroup
            mount -t tmpfs none /sys/fs; ln -s $T/outside /sys/fs/cgroup",
    ];
    // With these times the next read of a file updates its access time.
    let unread = "find $T/outside -type f -exec touch -a -d @1 {} +";
    for forge in forgeries {
        let told = measure(&format!("{forge}; {unread}"));
        told.assert_seen(forge);
        told.assert_memory_is_sampled(forge);
        told.assert_cpu_is_sampled(forge);
        assert_eq!(told.reason(), NOT_MOUNTED, "{forge}\n{}", told.log);
        let outside = told.directory.path().join("outside");
        let mut files = Vec::new();
        for name in std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().path()) {
            match std::fs::read_dir(&name) {
                Ok(inside) => files.extend(inside.map(|entry| entry.unwrap().path())),
                Err(_) => files.push(name),
            }
        }
        assert!(files.len() > 10, "{forge}: {files:?}");
        let accessed = |file: &Path| std::fs::metadata(file).unwrap().accessed().unwrap();
        let before: Vec<_> = files.iter().map(|file| accessed(file)).collect();
        assert!(
            before.iter().all(|time| *time == std::time::UNIX_EPOCH + Duration::from_secs(1)),
            "{forge}: {before:?}"
        );
        std::fs::read(&files[0]).unwrap();
        assert_ne!(accessed(&files[0]), before[0], "readings do not show here");
    }
}
