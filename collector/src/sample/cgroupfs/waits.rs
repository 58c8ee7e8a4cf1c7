//! The disk I/O of a cgroup, and the time in which its tasks waited for a resource (Documentation/accounting/psi.rst).

use serde::{Deserialize, Serialize};

use super::directory::Directory;

/// Counts since the cgroup was created; `None` for each that the kernel does not report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Bytes read from disks: v2 `io.stat` `rbytes`, v1 `blkio.throttle.io_service_bytes_recursive` `Read`.
    pub disk_read_bytes: Option<u64>,
    /// Bytes written to disks: v2 `wbytes`, v1 `Write`. v1 charges what is written back later to the root cgroup.
    pub disk_written_bytes: Option<u64>,
    /// Time in which it had runnable tasks and none of them ran: `full` of v2 `cpu.pressure` (Linux 5.13), in microseconds.
    pub cpu_stalled_us: Option<u64>,
    /// Time in which a task waited for memory: `some` of v2 `memory.pressure`, in microseconds.
    pub memory_stalled_us: Option<u64>,
    /// Time in which a task waited for I/O: `some` of v2 `io.pressure`, in microseconds.
    pub io_stalled_us: Option<u64>,
}

impl Waits {
    /// What a cgroup has used and waited so far when it is created.
    pub(super) const NOTHING: Self = Self {
        disk_read_bytes: Some(0),
        disk_written_bytes: Some(0),
        cpu_stalled_us: Some(0),
        memory_stalled_us: Some(0),
        io_stalled_us: Some(0),
    };

    /// Reads its files, which are opened each time: they are read seldom, and descriptors are scarce.
    pub(super) fn read(unified: Option<&Directory>, blkio: Option<&Directory>) -> Self {
        let v2 = |name: &str| unified?.read(name);
        let stalled = |name: &str, kind: &str| stalled_us(&v2(name)?, kind);
        let disk = blkio.and_then(|directory| directory.read("blkio.throttle.io_service_bytes_recursive"));
        let disk = disk.map(|text| v1_bytes(&text)).or_else(|| v2("io.stat").map(|text| v2_bytes(&text)));
        Self {
            disk_read_bytes: disk.map(|(read, _)| read),
            disk_written_bytes: disk.map(|(_, written)| written),
            cpu_stalled_us: stalled("cpu.pressure", "full"),
            memory_stalled_us: stalled("memory.pressure", "some"),
            io_stalled_us: stalled("io.pressure", "some"),
        }
    }

    /// Each of these counts, or the earlier one.
    #[must_use]
    pub(super) fn or(self, earlier: Self) -> Self {
        self.zip(earlier, Option::or)
    }

    /// Continues the counts of an earlier cgroup.
    #[must_use]
    pub(super) fn after(self, earlier: Self) -> Self {
        self.zip(earlier, |one, other| one.map(|one| one + other.unwrap_or_default()))
    }

    /// What came in between, where both are known.
    #[must_use]
    pub fn since(self, first: Self) -> Self {
        self.zip(first, |now, then| now?.checked_sub(then?))
    }

    /// The sum, where one is known.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        self.zip(more, |one, other| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        })
    }

    fn zip(self, other: Self, with: fn(Option<u64>, Option<u64>) -> Option<u64>) -> Self {
        Self {
            disk_read_bytes: with(self.disk_read_bytes, other.disk_read_bytes),
            disk_written_bytes: with(self.disk_written_bytes, other.disk_written_bytes),
            cpu_stalled_us: with(self.cpu_stalled_us, other.cpu_stalled_us),
            memory_stalled_us: with(self.memory_stalled_us, other.memory_stalled_us),
            io_stalled_us: with(self.io_stalled_us, other.io_stalled_us),
        }
    }
}

/// `total` of a line of a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn stalled_us(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

/// Bytes read and written of all devices: `8:0 rbytes=1 wbytes=2 rios=3 …`. A cgroup without I/O has no line.
fn v2_bytes(text: &str) -> (u64, u64) {
    let sum = |name: &str| {
        let fields = text.split_whitespace().filter_map(|field| field.strip_prefix(name));
        fields.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// The same of `8:0 Read 1`, `8:0 Write 2`, `8:0 Sync 3`, …, `Total 3`.
fn v1_bytes(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let of_kind = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().filter(|found| *found == kind)?;
            fields.next()?.parse::<u64>().ok()
        };
        text.lines().filter_map(of_kind).fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let pressure = "some avg10=1.53 avg60=0.87 avg300=0.30 total=4513452\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n";
        assert_eq!((stalled_us(pressure, "some"), stalled_us(pressure, "full")), (Some(4_513_452), Some(17)));
        assert_eq!(stalled_us("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", "full"), None);
        let v2 = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=7 dios=1\n8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n";
        assert_eq!((v2_bytes(v2), v2_bytes("")), ((4097, 8194), (0, 0)));
        let v1 = "254:0 Read 4096\n254:0 Write 512\n254:0 Sync 4608\n254:0 Async 0\n254:0 Total 4608\n8:0 Read 1\nTotal 4609\n";
        assert_eq!(v1_bytes(v1), (4097, 512));
    }

    #[test]
    fn a_directory_has_what_its_kernel_reports() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        put("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n");
        put(
            "cpu.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
        );
        let at = Directory::Mounted(directory.path().to_owned());
        let read = Waits::read(Some(&at), None);
        assert_eq!((read.disk_read_bytes, read.disk_written_bytes), (Some(10), Some(20)));
        assert_eq!((read.cpu_stalled_us, read.memory_stalled_us), (Some(4), None));
        let later = Waits { cpu_stalled_us: Some(9), ..read };
        assert_eq!(later.since(read).cpu_stalled_us, Some(5));
        assert_eq!(
            (later.since(Waits::NOTHING).memory_stalled_us, later.since(read).disk_read_bytes),
            (None, Some(0))
        );
        assert_eq!(Waits::default().or(read), read);
        assert_eq!(later.after(read).cpu_stalled_us, Some(13));
    }
}
