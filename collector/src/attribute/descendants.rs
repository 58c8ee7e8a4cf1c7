//! Run mode: which processes belong to the command.

use std::collections::{HashMap, HashSet};

use crate::sample::process_table::{Observation, ProcessKey};

/// Returns the descendants of `root` among `observations`, and `root` itself with only the CPU time of the children that it
/// reaped.
///
/// `root` is their subreaper, so an orphan becomes its child. A descendant stays one. `members` is kept from pass to pass.
pub fn descendants(
    observations: Vec<Observation>,
    root: u32,
    members: &mut HashSet<ProcessKey>,
) -> Vec<Observation> {
    let by_pid: HashMap<u32, ProcessKey> =
        observations.iter().map(|process| (process.key.pid, process.key)).collect();
    let mut found: HashSet<ProcessKey> =
        observations.iter().map(|process| process.key).filter(|key| members.contains(key)).collect();
    // A parent comes before its children unless PIDs wrapped around, so this repeats until it finds nothing new.
    loop {
        let before = found.len();
        for process in &observations {
            let of_root = process.ppid == root;
            let of_member = by_pid.get(&process.ppid).is_some_and(|parent| found.contains(parent));
            if (of_root || of_member) && process.key.pid != root {
                found.insert(process.key);
            }
        }
        if found.len() == before {
            break;
        }
    }
    *members = found;
    let belongs = |process: &Observation| process.key.pid == root || members.contains(&process.key);
    let mut processes: Vec<Observation> = observations.into_iter().filter(belongs).collect();
    for process in &mut processes {
        if process.key.pid == root {
            process.own_ticks = 0;
            process.rss_pages = 0;
        }
    }
    processes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::pid_stat::Comm;

    fn process(pid: u32, ppid: u32) -> Observation {
        Observation {
            key: ProcessKey { pid, start_ticks: u64::from(pid) },
            ppid,
            comm: Comm::new(b"x"),
            zombie: false,
            kernel_thread: false,
            own_ticks: 5,
            final_ns: None,
            reaped_ticks: 7,
            rss_pages: 9,
            minor_faults: 0,
            stack_start: 0,
            cgroup: None,
        }
    }

    fn pids(processes: &[Observation]) -> Vec<u32> {
        processes.iter().map(|process| process.key.pid).collect()
    }

    #[test]
    fn only_what_the_command_started_counts() {
        let mut members = HashSet::new();
        // 60 is a child of 70: the PIDs wrapped around between them.
        let all = vec![process(1, 0), process(50, 1), process(60, 70), process(70, 50), process(80, 1)];
        let found = descendants(all, 50, &mut members);
        assert_eq!(pids(&found), [50, 60, 70]);
        assert_eq!((found[0].own_ticks, found[0].reaped_ticks, found[0].rss_pages), (0, 7, 0));
        // 70 ended, and a process that is not a descendant adopted 60. 60 stays a descendant.
        let found = descendants(vec![process(1, 0), process(50, 1), process(60, 1)], 50, &mut members);
        assert_eq!(pids(&found), [50, 60]);
        // Another process with the PID of a descendant is not a descendant.
        let mut other = process(60, 1);
        other.key.start_ticks = 999;
        assert_eq!(pids(&descendants(vec![process(50, 1), other], 50, &mut members)), [50]);
    }
}
