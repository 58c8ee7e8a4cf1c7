//! An almost empty root directory, for programs of a user that no machine knows.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The user of the images, and its group.
pub const USER: u32 = 65532;

/// The contents of the root besides the programs and a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// `/dev`, with `null` and `urandom`.
    pub devices: bool,
    /// `/proc`.
    pub proc: bool,
}

/// Mounts a root for one program, in a mount namespace that ends with it, and becomes the program.
///
/// A program that is not static gets this machine's libraries and nothing else.
const ENTER: &str = r#"set -e
mount -t tmpfs -o mode=755 none "$ROOT"
mkdir "$ROOT/bin" "$ROOT/data"
for program in $PROGRAMS; do
    : > "$ROOT/bin/${program##*/}"
    mount --bind "$program" "$ROOT/bin/${program##*/}"
done
for directory in $LIBRARIES; do
    if [ -d "$directory" ]; then
        mkdir -p "$ROOT$directory"
        mount --bind "$directory" "$ROOT$directory"
    fi
done
for device in $DEVICES; do
    mkdir -p "$ROOT/dev"
    : > "$ROOT$device"
    mount --bind "$device" "$ROOT$device"
done
if [ -n "$PROC" ]; then
    mkdir "$ROOT/proc"
    mount --bind /proc "$ROOT/proc"
fi
mount --bind "$DATA" "$ROOT/data"
mount -o remount,ro,bind "$ROOT"
root=$ROOT chroot=$(command -v chroot)
unset PATH ROOT DATA PROGRAMS LIBRARIES DEVICES PROC
exec "$chroot" --userspec="$OWNER" --groups= "$root" "$@"
"#;

/// Such a root. Entering it needs root.
#[derive(Debug)]
pub struct Bare {
    directory: tempfile::TempDir,
    programs: Vec<PathBuf>,
}

impl Bare {
    /// A root with these programs in `/bin`.
    ///
    /// # Panics
    /// If its directories cannot be made.
    pub fn new(programs: &[PathBuf]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["root", "data"] {
            std::fs::create_dir(directory.path().join(name)).expect("create");
        }
        std::os::unix::fs::chown(directory.path().join("data"), Some(USER), Some(USER)).expect("chown");
        Self { directory, programs: programs.to_vec() }
    }

    /// The directory that is `/data` in the root, the only writable one.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Runs a program in the root, by its path.
    pub fn command(&self, layout: Layout, program: &str) -> Command {
        let libraries = if self.programs.iter().all(|program| is_static(program)) {
            ""
        } else {
            "/lib /lib64 /usr/lib /usr/lib64"
        };
        let programs: Vec<_> = self.programs.iter().map(|program| program.to_string_lossy()).collect();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", ENTER, "enter", program]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("ROOT", self.directory.path().join("root")).env("DATA", self.data());
        command.env("PROGRAMS", programs.join(" ")).env("LIBRARIES", libraries);
        command.env("DEVICES", if layout.devices { "/dev/null /dev/urandom" } else { "" });
        command.env("PROC", if layout.proc { "yes" } else { "" });
        command.env("OWNER", format!("{USER}:{USER}"));
        command
    }
}

/// Whether a program has no dynamic loader (`PT_INTERP`), whose path would be at the beginning of the file.
fn is_static(program: &Path) -> bool {
    let mut head = vec![0; 4096];
    let file = std::fs::File::open(program);
    let read = file.and_then(|mut file| std::io::Read::read(&mut file, &mut head));
    let head = &head[..read.unwrap_or(0)];
    !head.windows(10).any(|window| window == b"/ld-linux-" || window == b"/ld-linux.")
}
