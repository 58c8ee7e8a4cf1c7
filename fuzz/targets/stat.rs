//! `/proc/[pid]/stat`: a command name may hold anything.
#![no_main]

use collector::sample::pid_stat::PidStat;

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    if let Ok(stat) = PidStat::parse(content) {
        assert!(stat.comm.as_bytes().len() <= 15 && !stat.comm.as_bytes().contains(&0));
        let _ = (stat.comm.to_string(), stat.is_zombie());
    }
});
