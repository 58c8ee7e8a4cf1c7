//! Reads the memory of processes one by one, for containers whose cgroups cannot be read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::accumulate::Present;
use crate::accumulate::shared_pages::{LookedAt, MachineMemory, Resident, SharedPages};
use crate::attribute::ContainerIndex;
use crate::sample::fault_pages::FaultPages;
use crate::sample::meminfo::MemInfo;
use crate::sample::process_memory::ProcessMemory;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// Only the kinds of memory of larger processes are read. Those of many small ones matter less than the time it takes.
const LEAST_BYTES: u64 = 8 << 20;
/// The kinds of memory come before this length of `status`, unless the process is in hundreds of groups.
const STATUS_BYTES: usize = 4096;

/// Follows the memory of processes from look to look.
#[derive(Debug)]
pub(super) struct MemoryFollower {
    pages: FaultPages,
    shared: SharedPages,
}

impl MemoryFollower {
    pub(super) fn new() -> Self {
        Self { pages: FaultPages::read(Path::new("/sys")), shared: SharedPages::default() }
    }

    /// Looks at processes that a pass has just read.
    pub(super) fn look(
        &mut self,
        processes: &[Observation],
        present: &[Present],
        table: &ProcessTable,
        proc_path: &Path,
    ) -> BTreeMap<ContainerIndex, LookedAt> {
        let places: BTreeMap<ProcessKey, &Present> = present.iter().map(|one| (one.key, one)).collect();
        let page_bytes = rustix::param::page_size() as u64;
        let residents: Vec<Resident> = processes
            .iter()
            .filter_map(|process| {
                let place = places.get(&process.key)?;
                let rss_bytes = place.rss_bytes;
                Some(Resident {
                    key: process.key,
                    ppid: process.ppid,
                    container: place.container?,
                    rss_bytes,
                    faulted_bytes: process.minor_faults.saturating_mul(page_bytes),
                    kinds: (rss_bytes >= LEAST_BYTES).then(|| read_kinds(table, process.key)).flatten(),
                })
            })
            .collect();
        self.shared.look(&residents, self.machine(proc_path))
    }

    fn machine(&self, proc_path: &Path) -> MachineMemory {
        let vmstat = std::fs::read_to_string(proc_path.join("vmstat")).ok();
        MachineMemory {
            shared_bytes: MemInfo::read(proc_path).map_or(0, |meminfo| meminfo.shmem_bytes),
            huge_bytes: vmstat.and_then(|vmstat| self.pages.huge_on_machine(&vmstat)),
        }
    }
}

fn read_kinds(table: &ProcessTable, key: ProcessKey) -> Option<ProcessMemory> {
    let mut space = [0; STATUS_BYTES];
    let length = table.read_beginning(key, "status", &mut space).ok()?;
    ProcessMemory::parse(&space[..length])
}
