//! Memory over a long run; a test of its own, so that nothing else is in the process.

use collector::accumulate::{Accumulator, PassFacts, Present};
use collector::attribute::ContainerIndex;
use collector::attribute::cpu::{CpuLedger, ProcessTimes};
use collector::sample::pid_stat::Comm;
use collector::sample::process_table::ProcessKey;

const CONTAINERS: u32 = 100;
const PROCESSES: u32 = 1_000;
const TICK_NS: u64 = 10_000_000;
const PASSES: u32 = 86_400;
/// Of 32 MiB in all; what the program needs before it measures is well under the rest.
const BUDGET_BYTES: u64 = 22 << 20;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// 24 h with a pass a second, 100 containers and 1,000 processes, each of them at work now and then, one ending and one
/// beginning in every pass.
#[test]
fn a_day_of_a_hundred_containers_fits() {
    // What a pass sees is the test's own, and not to leave gaps between what is measured.
    let (mut seen, mut present) =
        (Vec::with_capacity(PROCESSES as usize), Vec::with_capacity(PROCESSES as usize));
    // What each process has used; the one that begins takes the place of the one that ended.
    let mut used = vec![0u64; PROCESSES as usize];
    let before = resident_bytes();
    let mut ledger = CpuLedger::new(0, TICK_NS);
    let mut run = Accumulator::new(1.0, 10);
    for pass in 0..PASSES {
        let pids = pass..pass + PROCESSES;
        if pass > 0 {
            used[((pass - 1) % PROCESSES) as usize] = 0;
        }
        seen.clear();
        present.clear();
        for pid in pids {
            let noise = u64::from(pid.wrapping_mul(2_654_435_761) ^ pass.wrapping_mul(40_503));
            let own_ticks = &mut used[(pid % PROCESSES) as usize];
            *own_ticks += if noise.is_multiple_of(7) { noise % 100 } else { 0 };
            let key = ProcessKey { pid, start_ticks: u64::from(pid) };
            let container = Some(ContainerIndex(pid % CONTAINERS));
            seen.push(ProcessTimes {
                key,
                ppid: 0,
                zombie: false,
                own_ns: *own_ticks * TICK_NS,
                children_ns: 0,
                container,
            });
            let comm = Comm::new(format!("command-{}", pid % 3_000).as_bytes());
            let rss_bytes = (noise % 500_000) * 4096;
            present.push(Present {
                key,
                parent_pid: 1,
                comm,
                container,
                nested: None,
                rss_bytes,
                age_seconds: 1.0,
            });
        }
        let charges = ledger.advance(&seen, None);
        run.add(&PassFacts {
            at_seconds: f64::from(pass),
            elapsed_seconds: if pass > 0 { 1.0 } else { 0.0 },
            present: &present,
            exited: None,
            charges: &charges,
            used: None,
            host_cpu_percent: Some(f64::from(pass % 100)),
            host_memory_bytes: Some(u64::from(pass) << 12),
        });
        for container in 0..CONTAINERS {
            run.add_working_set(ContainerIndex(container), u64::from(pass % 1_000) << 20, 1.0);
        }
    }
    let grown = resident_bytes() - before;
    assert_eq!(run.containers().count(), CONTAINERS as usize);
    assert!(grown < BUDGET_BYTES, "{} KiB", grown / 1024);
}
