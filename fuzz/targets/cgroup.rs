//! `/proc/[pid]/cgroup`, and the containers that are read from it.
#![no_main]

use collector::attribute::containers::Containers;
use collector::attribute::identity::identify;
use collector::config::process_map::ProcessMap;
use collector::sample::bpf::CgroupIds;
use collector::sample::cgroup::CgroupLines;
use collector::sample::pid_stat::Comm;

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    let _ = identify(&CgroupLines::parse(content));
    let map = ProcessMap::parse(r#"{"node": "runner"}"#).expect("a map");
    for own in [false, true] {
        let mut containers = Containers::new(map.clone(), own);
        let mut parent = None;
        // Each line separately too, so that one file makes a tree of containers.
        for (at, part) in content.split_inclusive(|&byte| byte == b'\n').chain([content]).take(64).enumerate()
        {
            let ids = CgroupIds { unified: at as u64, v1: 0 };
            let comm = Comm::new(if at % 3 == 0 { b"node" } else { b"sh" });
            let place = containers.place_of(ids, comm, parent, |_| Some(part.to_vec())).expect("a place");
            assert!(!containers[place.container].name().is_empty());
            parent = Some(place);
        }
        let mut again = Containers::new(map.clone(), own);
        assert!(again.restore(containers.save()));
    }
});
