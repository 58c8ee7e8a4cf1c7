//! How much memory page faults can add.

use std::path::Path;

use super::keyed::keyed;

/// Directory of the page size settings for anonymous memory.
const SETTINGS: &str = "kernel/mm/transparent_hugepage";

/// The sizes of the pages that faults add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPages {
    /// Single pages, except for huge ones, which the kernel counts or, if `always_huge`, uses wherever it can.
    Counted {
        /// Size of a huge page.
        huge_bytes: u64,
        /// Whether the kernel uses huge pages without being asked.
        always_huge: bool,
    },
    /// Pages of several sizes; the kernel does not count which.
    Unknown,
}

impl FaultPages {
    /// Reads the settings below `/sys`.
    pub fn read(sys: &Path) -> Self {
        let settings = sys.join(SETTINGS);
        let read = |name: &str| std::fs::read_to_string(settings.join(name)).ok();
        let huge_bytes = read("hpage_pmd_size").and_then(|text| text.trim().parse::<u64>().ok());
        let Some((enabled, huge_bytes)) = read("enabled").zip(huge_bytes) else { return Self::Unknown };
        let entries = std::fs::read_dir(&settings).into_iter().flatten().flatten();
        // Sizes below a huge page's (Linux 6.8 and later). A size set to `inherit` is used if huge pages are.
        let other_sizes = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("hugepages-"))
            .filter(|entry| entry.file_name() != *format!("hugepages-{}kB", huge_bytes / 1024))
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("enabled")).ok())
            .any(|setting| !setting.contains("[never]"));
        if other_sizes {
            return Self::Unknown;
        }
        Self::Counted { huge_bytes, always_huge: enabled.contains("[always]") }
    }

    /// The most that faults can have added to a cgroup, in bytes, from its `memory.stat`.
    pub fn faulted(self, stat: &str) -> Option<u64> {
        let Self::Counted { huge_bytes, always_huge } = self else { return None };
        let faults = keyed(stat, "total_pgfault").or_else(|| keyed(stat, "pgfault"))?;
        // v1 does not count huge pages. There were none if there are none now and the kernel does not always use them. The
        // kernel may also collapse single pages into a huge one, which is larger than they were.
        let made = keyed(stat, "thp_collapse_alloc").unwrap_or_default();
        let huge = keyed(stat, "thp_fault_alloc").map(|huge| huge.saturating_add(made)).or_else(|| {
            let none_now = keyed(stat, "total_rss_huge") == Some(0);
            (none_now && !always_huge).then_some(0)
        })?;
        let page = rustix::param::page_size() as u64;
        Some(faults.saturating_mul(page).saturating_add(huge.saturating_mul(huge_bytes)))
    }

    /// The memory of all huge pages that faults and collapses ever added on the machine, in bytes, from `/proc/vmstat`.
    pub fn huge_on_machine(self, vmstat: &str) -> Option<u64> {
        let Self::Counted { huge_bytes, .. } = self else { return None };
        let huge = keyed(vmstat, "thp_fault_alloc")?.saturating_add(keyed(vmstat, "thp_collapse_alloc")?);
        Some(huge.saturating_mul(huge_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(enabled: &str, smaller: &str) -> FaultPages {
        let sys = tempfile::tempdir().unwrap();
        let at = sys.path().join(SETTINGS);
        for (size, setting) in
            [("hugepages-64kB", smaller), ("hugepages-2048kB", "always [inherit] madvise never")]
        {
            std::fs::create_dir_all(at.join(size)).unwrap();
            std::fs::write(at.join(size).join("enabled"), setting).unwrap();
        }
        std::fs::write(at.join("enabled"), enabled).unwrap();
        std::fs::write(at.join("hpage_pmd_size"), "2097152\n").unwrap();
        FaultPages::read(sys.path())
    }

    #[test]
    fn what_faults_can_have_brought() {
        let page = rustix::param::page_size() as u64;
        let (never, single) = ("always inherit madvise [never]", "always [madvise] never");
        let v1 = |huge| format!("pgfault 1\ntotal_pgfault 10\ntotal_rss_huge {huge}\n");
        let v2 = "pgfault 10\nthp_fault_alloc 3\nthp_collapse_alloc 1\n";
        assert_eq!(settings(single, never).faulted(&v1(0)), Some(10 * page));
        assert_eq!(settings(single, never).faulted(&v1(4096)), None);
        assert_eq!(settings("[always] madvise never", never).faulted(&v1(0)), None);
        assert_eq!(settings("[always] madvise never", never).faulted(v2), Some(10 * page + (4 << 21)));
        assert_eq!(settings(single, "always [inherit] madvise never").faulted(v2), None);
        assert_eq!(settings(single, never).faulted("file 1\n"), None);
        assert_eq!(FaultPages::read(Path::new("/nonexistent")), FaultPages::Unknown);
        assert_eq!(settings(single, never).huge_on_machine(v2), Some(4 << 21));
        assert_eq!(settings(single, "always [inherit] madvise never").huge_on_machine(v2), None);
        assert_eq!(settings(single, never).huge_on_machine("pgfault 10\n"), None);
    }
}
