//! How much memory a page fault can bring.

use std::path::Path;

use super::files::keyed;

/// Where the sizes of pages of anonymous memory are set.
const SETTINGS: &str = "kernel/mm/transparent_hugepage";

/// What is known of the pages that faults bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultPages {
    /// Single ones, unless the kernel counts a huge one, of so many bytes, or is told to give them wherever it can.
    Counted { huge_bytes: u64, always_huge: bool },
    /// Of several sizes, of which nobody counts which.
    Unknown,
}

impl FaultPages {
    /// Reads what is set below `/sys`.
    pub(super) fn read(sys: &Path) -> Self {
        let settings = sys.join(SETTINGS);
        let read = |name: &str| std::fs::read_to_string(settings.join(name)).ok();
        let huge_bytes = read("hpage_pmd_size").and_then(|text| text.trim().parse::<u64>().ok());
        let Some((enabled, huge_bytes)) = read("enabled").zip(huge_bytes) else { return Self::Unknown };
        let entries = std::fs::read_dir(&settings).into_iter().flatten().flatten();
        // Sizes below that of a huge page, from Linux 6.8 on: one that inherits is used if huge ones are.
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

    /// What faults have brought into a cgroup at the most, in bytes, by its `memory.stat`.
    pub(super) fn faulted(self, stat: &str) -> Option<u64> {
        let Self::Counted { huge_bytes, always_huge } = self else { return None };
        let faults = keyed(stat, "total_pgfault").or_else(|| keyed(stat, "pgfault"))?;
        // v1 counts no huge ones: there are none if there are none now and they are not given to everybody.
        // Single pages that are there may become a huge one, which is larger than they were.
        let made = keyed(stat, "thp_collapse_alloc").unwrap_or_default();
        let huge = keyed(stat, "thp_fault_alloc").map(|huge| huge.saturating_add(made)).or_else(|| {
            let none_now = keyed(stat, "total_rss_huge") == Some(0);
            (none_now && !always_huge).then_some(0)
        })?;
        let page = rustix::param::page_size() as u64;
        Some(faults.saturating_mul(page).saturating_add(huge.saturating_mul(huge_bytes)))
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
    }
}
