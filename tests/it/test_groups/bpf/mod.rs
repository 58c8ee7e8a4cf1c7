//! The eBPF program on the real kernel, as root, compared with the kernel's own count.
//!
//! The collector runs as the user nobody, with only `CAP_BPF` and `CAP_PERFMON`.

mod containers;
mod faults;
mod lives;
mod refused;
mod sight;

use tests::privileges::Capabilities;

use crate::beside::{self, Measured};

/// No pass sees the workload: all figures come from the eBPF program.
const BETWEEN_PASSES: &str = "--interval=60s";

/// Measures with the eBPF program.
fn measure(interval: &str, script: &str) -> Measured {
    let measured = beside::measure(Capabilities::Ebpf, &["--ebpf=require", "--top=100", interval], script);
    let collector = measured.payload.collector.as_ref().unwrap();
    assert_eq!((collector.source.as_str(), &collector.source_reason), ("ebpf", &None));
    measured
}

/// Measures with passes that see much, something, or nothing.
fn at_all_intervals(script: &str, check: impl Fn(&Measured)) {
    for interval in ["--interval=50ms", "--interval=700ms", BETWEEN_PASSES] {
        let measured = measure(interval, script);
        assert_attributed(&measured, 0);
        check(&measured);
    }
}

/// The promise: 99.5 to 100.5 % of the CPU time that the kernel charged.
///
/// A kernel under load does not report some ends of processes. Each counts as a lost record. The process's CPU time since
/// the last look of the scheduler is then missing, at most a tick.
#[track_caller]
fn assert_attributed(measured: &Measured, cgroup: usize) {
    let (found, truth) = measured.attributed_and_truth(cgroup);
    let lost = measured.payload.attribution.as_ref().unwrap().lost_records;
    assert!(lost <= 50, "{lost} records were lost\n{}", measured.log);
    let ticks = if lost > 0 { 0.03 } else { 0.0 };
    let off = (found - truth).abs();
    assert!(off <= 0.005 * truth + ticks, "{found} s of {truth} s, {lost} records lost\n{}", measured.log);
}
