//! Whether proc shows all processes: its mount options `hidepid` and `subset` (Documentation/filesystems/proc.rst), in
//! `/proc/self/mountinfo`.

use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::mountinfo::unescape;

/// Returns what the proc tree at this path hides from this process, if anything.
pub fn hidden(proc_path: &Path) -> Option<String> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let path = proc_path.canonicalize().ok()?;
    let option = hiding_option(&mounts, path.as_os_str().as_encoded_bytes())?;
    let exempt = !option.starts_with("subset") && (sees_all() || in_group(&mounts, &path));
    (!exempt).then(|| format!("proc is mounted with {option}: processes of other users are not seen"))
}

/// The option of the topmost proc mount there that hides something.
pub fn hiding_option(mountinfo: &[u8], path: &[u8]) -> Option<String> {
    let options = super_options(mountinfo, path)?;
    let hiding = |option: &&str| {
        matches!(option.strip_prefix("hidepid="), Some(value) if !matches!(value, "0" | "off"))
            || option.starts_with("subset=")
    };
    options.split(',').find(hiding).map(ToOwned::to_owned)
}

/// The last field of the last line whose fifth field is `path` and whose file system is proc.
fn super_options(mountinfo: &[u8], path: &[u8]) -> Option<String> {
    let lines = mountinfo.split(|&byte| byte == b'\n').rev();
    let line = lines.into_iter().find(|line| {
        let point = line.split(|&byte| byte == b' ').nth(4);
        point.is_some_and(|point| unescape(point) == path)
    })?;
    // Optional fields end with a hyphen; type, source and options follow it.
    let text = String::from_utf8_lossy(line);
    let mut fields = text.split_once(" - ")?.1.split(' ');
    (fields.next()? == "proc").then_some(())?;
    fields.nth(1).map(ToOwned::to_owned)
}

/// A process with `CAP_SYS_PTRACE` sees every process.
fn sees_all() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// Whether this process is in the group that `gid=` exempts.
fn in_group(mountinfo: &[u8], path: &Path) -> bool {
    let options = super_options(mountinfo, path.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let exempt = options.split(',').find_map(|option| option.strip_prefix("gid=")?.parse::<u32>().ok());
    let mut ours = rustix::process::getgroups().unwrap_or_default();
    ours.push(rustix::process::getegid());
    exempt.is_some_and(|gid| ours.iter().any(|group| group.as_raw() == gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_hide_are_found_on_the_topmost_mount_of_proc() {
        let table = b"22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
            40 1 0:45 / /other\\040proc rw shared:1 - proc proc rw,gid=27,hidepid=invisible\n\
            41 1 0:46 / /mnt rw - tmpfs tmpfs rw,hidepid=2\n\
            42 1 0:47 / /container rw - proc proc rw,subset=pid\n";
        let found = |path: &[u8]| hiding_option(table, path);
        assert_eq!(found(b"/proc"), None);
        assert_eq!(found(b"/other proc").as_deref(), Some("hidepid=invisible"));
        assert_eq!(found(b"/mnt"), None);
        assert_eq!(found(b"/container").as_deref(), Some("subset=pid"));
        let over = [&table[..], b"43 1 0:48 / /proc rw - proc proc rw,hidepid=2\n"].concat();
        assert_eq!(hiding_option(&over, b"/proc").as_deref(), Some("hidepid=2"));
        assert_eq!(hiding_option(b"\n1 2\n - \n", b"/proc"), None);
    }
}
