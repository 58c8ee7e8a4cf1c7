//! `/proc/[pid]/status` (`proc_pid_status(5)`): the kinds of memory that a process has.

/// The memory of one process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// `RssAnon` (Linux 4.5): heap, stacks, and pages of private mappings that were written.
    pub anonymous_bytes: u64,
    /// `RssShmem`: shared memory and files of a tmpfs, as far as it has mapped and touched them.
    pub shared_bytes: u64,
    /// `VmHWM`: its highest RSS.
    pub peak_rss_bytes: u64,
}

impl ProcessMemory {
    /// Parses the content of the file; `None` if a value is missing, as for a process that has ended.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(content);
        let bytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            anonymous_bytes: bytes("RssAnon")?,
            shared_bytes: bytes("RssShmem")?,
            peak_rss_bytes: bytes("VmHWM")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_memory_are_told_apart() {
        let content = b"Name:\tpython3 \xff\nVmHWM:\t  309000 kB\nVmRSS:\t 12 kB\nRssAnon:\t  8 kB\nRssFile:\t 3 kB\nRssShmem:\t 1 kB\n";
        let expected =
            ProcessMemory { anonymous_bytes: 8192, shared_bytes: 1024, peak_rss_bytes: 309_000 * 1024 };
        assert_eq!(ProcessMemory::parse(content), Some(expected));
        for bad in [b"".as_slice(), b"Name:\tkthreadd\n", b"VmHWM:\t1 kB\nRssAnon:\tx kB\nRssShmem:\t1 kB\n"]
        {
            assert_eq!(ProcessMemory::parse(bad), None);
        }
    }
}
