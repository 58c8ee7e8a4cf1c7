//! `/proc/[pid]/mountinfo`.
#![no_main]

use collector::sample::{hidepid, mountinfo};

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    if let Some(mount) = mountinfo::pod_mount(content) {
        assert!(!mount.container.is_empty() && !mount.pod_uid.is_empty());
    }
    if let Some(id) = mountinfo::docker_id(content) {
        assert_eq!(id.len(), 64);
    }
    assert!(mountinfo::network_owners(content).iter().all(|(_, id)| id.len() == 64));
    assert!(mountinfo::kubelet_pod(content).is_none_or(|uid| !uid.is_empty()));
    assert!(mountinfo::unescape(content).len() <= content.len());
    let _ = hidepid::hiding_option(content, b"/proc");
});
