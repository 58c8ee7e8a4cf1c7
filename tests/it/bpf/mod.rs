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
    // One kernel in use does not tell of some frees in ten thousand; those are counted, and no time is lost by it.
    let lost = measured.payload.attribution.as_ref().unwrap().lost_records;
    assert!(lost <= 50, "{lost}\n{}", measured.log);
    measured
}

/// With passes that see much, something, or nothing.
fn at_all_intervals(script: &str, check: impl Fn(&Measured)) {
    for interval in ["--interval=50ms", "--interval=700ms", BETWEEN_PASSES] {
        let measured = measure(interval, script);
        measured.assert_share(0, 99.5, 100.5);
        check(&measured);
    }
}
