//! `/proc/meminfo` (`proc_meminfo(5)`).

use std::path::Path;

/// The values that the collector uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    /// `MemTotal`, in bytes.
    pub total_bytes: u64,
    /// `MemAvailable`, in bytes; on kernels before 3.14, `MemFree` + `Buffers` + `Cached`.
    pub available_bytes: u64,
    /// `Shmem`, in bytes: shared memory, including the files of all tmpfs mounts; 0 if the kernel does not report it.
    pub shmem_bytes: u64,
}

impl MemInfo {
    /// Reads it; `None` if it cannot be read or a needed value is missing.
    pub fn read(proc_path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(proc_path.join("meminfo")).ok()?)
    }

    /// Parses it; `None` if a needed value is missing.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let bytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
        };
        let available = bytes("MemAvailable").or_else(|| {
            Some(bytes("MemFree")? + bytes("Buffers").unwrap_or(0) + bytes("Cached").unwrap_or(0))
        });
        Some(Self {
            total_bytes: bytes("MemTotal")?,
            available_bytes: available?,
            shmem_bytes: bytes("Shmem").unwrap_or(0),
        })
    }

    /// Memory that is not available.
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.available_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_is_what_is_not_available() {
        let content = b"MemTotal:       24606748 kB\nMemFree:        20000000 kB\nMemAvailable:   23000000 kB\nCached: 5 kB\nShmem: 3 kB\n";
        let meminfo = MemInfo::parse(content).unwrap();
        assert_eq!(meminfo.used_bytes(), (24_606_748 - 23_000_000) * 1024);
        assert_eq!(meminfo.shmem_bytes, 3072);
        let old = b"MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 20 kB\nCached: 30 kB\n";
        assert_eq!(MemInfo::parse(old).unwrap().used_bytes(), 40 * 1024);
        for bad in [b"".as_slice(), b"MemTotal: 100 kB\n", b"MemTotal: x kB\nMemAvailable: 1 kB\n", b"\xff"] {
            assert_eq!(MemInfo::parse(bad), None);
        }
    }
}
