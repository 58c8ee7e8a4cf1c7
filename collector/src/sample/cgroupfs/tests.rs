mod limits;

use std::fs;
use std::path::Path;

use super::*;
use crate::sample::cgroup::CgroupLines;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn version_2_tells_everything_from_one_directory() {
    let id = "a".repeat(64);
    let root = tempfile::tempdir().unwrap();
    let pod = "kubepods/pod1";
    let at = |name: &str| format!("{pod}/{id}/{name}");
    write(
        root.path(),
        &[
            ("cgroup.controllers", "cpu memory"),
            ("kubepods/pod1/memory.max", "900"),
            (
                &at("cpu.stat"),
                "usage_usec 1500\nuser_usec 1\nnr_periods 40\nnr_throttled 3\nthrottled_usec 70\n",
            ),
            (&at("cpu.max"), "150000 100000\n"),
            (&at("memory.current"), "1000\n"),
            (&at("memory.stat"), "anon 5\nfile 400\ninactive_file 300\n"),
            (&at("memory.events"), "low 0\noom 9\noom_kill 2\noom_group_kill 0\n"),
            (&at("memory.peak"), "1200\n"),
            (&at("memory.max"), "max\n"),
        ],
    );
    let content = format!("0::/{pod}/{id}/init\n");
    let hierarchies = Hierarchies::below(root.path());
    let mut reader = hierarchies.container(CgroupLines::parse(content.as_bytes()), &id).unwrap();
    let expected = CgroupReading {
        cpu_ns: Some(1_500_000),
        throttled_ns: Some(70_000),
        oom_kills: Some(2),
        working_set_bytes: Some(700),
        memory_peak_bytes: Some(1200),
        memory: Some(MemoryLook { usage: 1000, cache: 400, peak: Some(1200), ..MemoryLook::default() }),
        cpu_limit_cores: Some(1.5),
        memory_limit_bytes: None,
        periods: Some(Periods { all: 40, throttled: 3 }),
        bounds: Bounds { cpu_cores: None, memory_bytes: Some(900) },
        waits: Waits::default(),
    };
    assert_eq!(reader.read(), Some(expected));
}

#[test]
fn version_1_has_a_directory_for_each_controller() {
    let id = "b".repeat(64);
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("unified/cgroup.controllers", ""),
            (&format!("cpu,cpuacct/docker/{id}/cpuacct.usage"), "123456789\n"),
            (
                &format!("cpu,cpuacct/docker/{id}/cpu.stat"),
                "nr_periods 4\nnr_throttled 1\nthrottled_time 999\n",
            ),
            (&format!("cpu,cpuacct/docker/{id}/cpu.cfs_quota_us"), "-1\n"),
            (&format!("cpu,cpuacct/docker/{id}/cpu.cfs_period_us"), "100000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            (&format!("memory/docker/{id}/memory.usage_in_bytes"), "5000\n"),
            (&format!("memory/docker/{id}/memory.stat"), "inactive_file 1\ntotal_inactive_file 2000\n"),
            (&format!("memory/docker/{id}/memory.limit_in_bytes"), "268435456\n"),
            (
                &format!("memory/docker/{id}/memory.oom_control"),
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
        ],
    );
    let content = format!("9:memory:/docker/{id}\n4:cpu,cpuacct:/docker/{id}\n0::/\n");
    let hierarchies = Hierarchies::below(root.path());
    let mut reader = hierarchies.container(CgroupLines::parse(content.as_bytes()), &id).unwrap();
    let expected = CgroupReading {
        cpu_ns: Some(123_456_789),
        throttled_ns: Some(999),
        oom_kills: Some(1),
        working_set_bytes: Some(3000),
        memory_peak_bytes: None,
        memory: None,
        cpu_limit_cores: None,
        memory_limit_bytes: Some(268_435_456),
        periods: Some(Periods { all: 4, throttled: 1 }),
        bounds: Bounds::default(),
        waits: Waits::default(),
    };
    assert_eq!(reader.read(), Some(expected));
}

#[test]
fn a_container_that_shows_a_path_of_another_namespace_is_found_by_its_id() {
    let id = "c".repeat(64);
    let root = tempfile::tempdir().unwrap();
    let scope = format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope");
    write(root.path(), &[("cgroup.controllers", ""), (&format!("{scope}/cpu.stat"), "usage_usec 7\n")]);
    let content = format!("0::/../cri-containerd-{id}.scope\n");
    let hierarchies = Hierarchies::below(root.path());
    let mut reader = hierarchies.container(CgroupLines::parse(content.as_bytes()), &id).unwrap();
    let reading = reader.read().unwrap();
    assert_eq!((reading.cpu_ns, reading.throttled_ns, reading.periods), (Some(7_000), None, None));
}

#[test]
fn mounts_are_taken_from_mountinfo() {
    let root = tempfile::tempdir().unwrap();
    let id = "d".repeat(64);
    write(root.path(), &[(&format!("v2/{id}/cpu.stat"), "usage_usec 1\n")]);
    let point = root.path().display();
    let mountinfo = format!(
        "30 1 0:26 / {point}/v1 rw,relatime - cgroup cgroup rw,cpu,cpuacct\n31 1 0:27 /docker {point}/v2 rw - cgroup2 cgroup2 rw\n"
    );
    let hierarchies = Hierarchies::from_mountinfo(mountinfo.as_bytes());
    let content = format!("0::/docker/{id}\n");
    let lines = CgroupLines::parse(content.as_bytes());
    assert_eq!(hierarchies.container(lines, &id).unwrap().read().unwrap().cpu_ns, Some(1_000));
    assert!(hierarchies.container(lines, &"e".repeat(64)).is_none());
    assert!(Hierarchies::from_mountinfo(b"1 2 0:1 / / rw - ext4 d rw\n").is_empty());
}

#[test]
fn what_a_path_that_leads_up_begins_with_is_searched_for_once() {
    let ids = ["c".repeat(64), "d".repeat(64), "e".repeat(64)];
    let root = tempfile::tempdir().unwrap();
    let pod = |index: usize| format!("kubepods/pod{index}/{}", ids[index]);
    write(root.path(), &[("cgroup.controllers", "cpu")]);
    for index in 0..2 {
        write(root.path(), &[(&format!("{}/cpu.stat", pod(index)), "usage_usec 7\n")]);
    }
    let hierarchies = Hierarchies::below(root.path());
    let found = |up: &str, index: usize| {
        let content = format!("0::{up}/{}/below\n", pod(index));
        let reader = hierarchies.container(CgroupLines::parse(content.as_bytes()), &ids[index]);
        reader.and_then(|mut reader| reader.read()).and_then(|reading| reading.cpu_ns)
    };
    assert_eq!((found("/../..", 0), found("/../..", 1)), (Some(7_000), Some(7_000)));
    // It is known now where the path leads. A container that is not there is still searched for.
    assert_eq!(found("/../..", 2), None);
    assert_eq!(found("/..", 1), Some(7_000), "another number of levels begins elsewhere");
}
