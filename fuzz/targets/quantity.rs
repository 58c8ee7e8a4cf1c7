//! Quantities, durations, and the JSON of `CGROUP_LIMITS` and `CGROUP_PROCESS_MAP`.
#![no_main]

use collector::config::limits;
use collector::config::process_map::ProcessMap;
use program::{duration, quantity};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(cores) = quantity::cpu_cores(text) {
        assert!(cores.is_finite() && cores > 0.0);
    }
    if let Ok(bytes) = quantity::memory_bytes(text) {
        assert!(bytes > 0);
    }
    let _ = (duration::parse(text), limits::parse(text), ProcessMap::parse(text));
});
