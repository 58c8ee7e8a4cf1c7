//! The eBPF program on the real kernel, as root: what it tells against the kernel's own books.
//!
//! The collector runs as nobody with `CAP_BPF` and `CAP_PERFMON` and nothing else.

mod containers;
mod faults;
mod lives;
mod refused;
mod sight;

use tests::privileges::Capabilities;

use crate::beside::{self, Measured};

/// No pass sees the workload: everything comes from the program.
const BETWEEN_PASSES: &str = "--interval=60s";

/// A collector with the eBPF program.
fn measure(interval: &str, script: &str) -> Measured {
    let measured = beside::measure(Capabilities::Ebpf, &["--ebpf=require", "--top=100", interval], script);
    let collector = measured.payload.collector.as_ref().unwrap();
    assert_eq!((collector.source.as_str(), &collector.source_reason), ("ebpf", &None));
    measured
}

/// With passes that see much, something, or nothing.
fn at_all_intervals(script: &str, check: impl Fn(&Measured)) {
    for interval in ["--interval=50ms", "--interval=700ms", BETWEEN_PASSES] {
        let measured = measure(interval, script);
        assert_attributed(&measured, 0);
        check(&measured);
    }
}

/// What is promised: 99.5 to 100.5 % of what the kernel charged.
///
/// A kernel under load does not tell of some frees. Each is counted as a lost record, and what the process used since
/// the scheduler had last looked is missing, a tick at most.
#[track_caller]
fn assert_attributed(measured: &Measured, cgroup: usize) {
    let (found, truth) = measured.attributed_and_truth(cgroup);
    let lost = measured.payload.attribution.as_ref().unwrap().lost_records;
    assert!(lost <= 50, "{lost} records were lost\n{}", measured.log);
    let ticks = if lost > 0 { 0.03 } else { 0.0 };
    let off = (found - truth).abs();
    assert!(off <= 0.005 * truth + ticks, "{found} s of {truth} s, {lost} records lost\n{}", measured.log);
}
