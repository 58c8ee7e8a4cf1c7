//! Who a limit belongs to, in every layout that runtimes, the kubelet and systemd use.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const V1_NONE: &str = "9223372036854771712\n";

/// A tree of cgroups, v1 or v2.
struct Tree {
    root: tempfile::TempDir,
    v2: bool,
}

/// CPU limit, memory limit, and those above: cores and bytes.
type LimitFiles = (Option<f64>, Option<u64>, Option<f64>, Option<u64>);

impl Tree {
    fn v2() -> Self {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("cgroup.controllers", "cpu memory")]);
        Self { root, v2: true }
    }

    /// The machine's root has no CPU quota, and its memory limit stands for "no limit".
    fn v1() -> Self {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("memory/memory.limit_in_bytes", V1_NONE), ("cpu,cpuacct/cpu.shares", "1024")]);
        Self { root, v2: false }
    }

    fn both() -> [Self; 2] {
        [Self::v2(), Self::v1()]
    }

    /// Adds a cgroup with limits: cores and bytes.
    fn cgroup(&self, path: &str, cores: Option<f64>, bytes: Option<u64>) -> &Self {
        let quota = cores.map(|cores| (cores * 100_000.0).to_string());
        let bytes = bytes.map(|bytes| bytes.to_string());
        let files = if self.v2 {
            vec![
                (format!("{path}/cpu.max"), format!("{} 100000\n", quota.as_deref().unwrap_or("max"))),
                (format!("{path}/memory.max"), format!("{}\n", bytes.as_deref().unwrap_or("max"))),
                (format!("{path}/memory.current"), "100\n".to_owned()),
                (format!("{path}/memory.stat"), "inactive_file 0\n".to_owned()),
            ]
        } else {
            let cpu = format!("cpu,cpuacct/{path}");
            vec![
                (format!("{cpu}/cpu.cfs_quota_us"), quota.unwrap_or("-1".to_owned())),
                (format!("{cpu}/cpu.cfs_period_us"), "100000\n".to_owned()),
                (format!("{cpu}/cpuacct.usage"), "7000\n".to_owned()),
                (format!("memory/{path}/memory.limit_in_bytes"), bytes.unwrap_or(V1_NONE.to_owned())),
                (format!("memory/{path}/memory.usage_in_bytes"), "100\n".to_owned()),
                (format!("memory/{path}/memory.stat"), "total_inactive_file 0\n".to_owned()),
            ]
        };
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        write(self.root.path(), &files);
        self.throttled(path, 0, 0)
    }

    /// Sets the counts of a cgroup's own limit.
    fn throttled(&self, path: &str, all: u64, throttled: u64) -> &Self {
        let counts = format!("nr_periods {all}\nnr_throttled {throttled}\n");
        let (file, content) = if self.v2 {
            (format!("{path}/cpu.stat"), format!("usage_usec 7\n{counts}throttled_usec {throttled}\n"))
        } else {
            (format!("cpu,cpuacct/{path}/cpu.stat"), format!("{counts}throttled_time {}\n", throttled * 1000))
        };
        write(self.root.path(), &[(&file, &content)]);
        self
    }

    fn lines(&self, path: &str) -> String {
        if self.v2 {
            format!("0::/{path}\n")
        } else {
            format!("9:memory:/{path}\n4:cpu,cpuacct:/{path}\n1:name=systemd:/{path}\n")
        }
    }

    /// Reads the container of a process in that cgroup.
    fn reader(&self, path: &str) -> CgroupReader {
        let lines = self.lines(path);
        Hierarchies::below(self.root.path()).container(CgroupLines::parse(lines.as_bytes()), ID).unwrap()
    }

    fn limits(&self, path: &str) -> LimitFiles {
        limits(self.reader(path))
    }

    /// The limits of a process in no container.
    fn limits_of_cgroup(&self, path: &str) -> LimitFiles {
        let lines = self.lines(path);
        let hierarchies = Hierarchies::below(self.root.path());
        limits(hierarchies.cgroup(CgroupLines::parse(lines.as_bytes()), &format!("/{path}")).unwrap())
    }
}

fn limits(mut reader: CgroupReader) -> LimitFiles {
    let reading = reader.read().unwrap();
    let bounds = reading.bounds;
    (reading.cpu_limit_cores, reading.memory_limit_bytes, bounds.cpu_cores, bounds.memory_bytes)
}

#[test]
fn a_container_of_a_kubelet_has_its_own_limit_and_its_pods_and_nodes_are_bounds() {
    let places = [
        format!("kubepods/burstable/pod1/{ID}"),
        format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
        ),
    ];
    for place in places {
        for tree in Tree::both() {
            let pod = place.rsplit_once('/').unwrap().0;
            let class = pod.rsplit_once('/').unwrap().0;
            let node = class.rsplit_once('/').unwrap().0;
            // The node's allocatable memory is the limit of `kubepods`.
            tree.cgroup(node, None, Some(9000)).cgroup(class, None, None);
            tree.cgroup(pod, None, None).cgroup(&place, None, None);
            assert_eq!(tree.limits(&place), (None, None, None, Some(9000)), "no limit at all: {place}");
            tree.cgroup(pod, Some(0.5), Some(800));
            assert_eq!(tree.limits(&place), (None, None, Some(0.5), Some(800)), "the pod's: {place}");
            // All its containers have limits: the pod's are their sums.
            tree.cgroup(&place, Some(0.5), Some(300));
            assert_eq!(tree.limits(&place), (Some(0.5), Some(300), Some(0.5), Some(800)), "{place}");
            tree.cgroup(&place, Some(64.0), Some(1 << 40));
            let far = (Some(64.0), Some(1 << 40), Some(0.5), Some(800));
            assert_eq!(tree.limits(&place), far, "set by somebody, however high: {place}");
        }
    }
}

#[test]
fn what_is_inside_a_container_is_not_its_own_but_for_cruns_cgroup_of_its_processes() {
    for tree in Tree::both() {
        let docker = format!("docker/{ID}");
        tree.cgroup(&docker, None, Some(500));
        // systemd in a container, and a container engine.
        for inside in ["init", "init.scope", "system.slice/a.service", "container"] {
            tree.cgroup(&format!("{docker}/{inside}"), Some(0.1), Some(50));
            assert_eq!(tree.limits(&format!("{docker}/{inside}")), (None, Some(500), None, None), "{inside}");
        }
        for scope in [format!("pod.slice/crio-{ID}.scope"), format!("machine.slice/libpod-{ID}.scope")] {
            let inner = format!("{scope}/container");
            let slice = scope.split_once('/').unwrap().0;
            tree.cgroup(slice, Some(3.0), Some(7000)).cgroup(&scope, None, None);
            tree.cgroup(&inner, Some(1.5), Some(600));
            let own = (Some(1.5), Some(600), Some(3.0), Some(7000));
            assert_eq!(tree.limits(&inner), own, "{scope}: written to the inner one");
            tree.cgroup(&scope, Some(1.5), Some(600)).cgroup(&inner, None, None);
            assert_eq!(tree.limits(&inner), own, "{scope}: written to the scope");
            assert_eq!(tree.limits(&scope), own, "{scope}: seen from a process that is not in the inner one");
        }
    }
}

#[test]
fn a_parent_of_dockers_is_a_bound() {
    for parent in ["ci", "ci.slice"] {
        for tree in Tree::both() {
            let place =
                if parent == "ci" { format!("ci/{ID}") } else { format!("ci.slice/docker-{ID}.scope") };
            tree.cgroup(parent, Some(2.0), Some(4000)).cgroup(&place, None, None);
            assert_eq!(tree.limits(&place), (None, None, Some(2.0), Some(4000)));
            tree.cgroup(&place, Some(0.25), Some(100));
            assert_eq!(tree.limits(&place), (Some(0.25), Some(100), Some(2.0), Some(4000)));
        }
    }
}

#[test]
fn a_service_has_its_own_limit_and_its_slices_are_bounds() {
    for tree in Tree::both() {
        tree.cgroup("system.slice", Some(6.0), Some(9000));
        tree.cgroup("system.slice/runner.service", None, Some(700));
        assert_eq!(
            tree.limits_of_cgroup("system.slice/runner.service"),
            (None, Some(700), Some(6.0), Some(9000))
        );
        // A service that divides its cgroup, and a user's service.
        tree.cgroup("system.slice/runner.service/job", Some(0.5), None);
        let limits = tree.limits_of_cgroup("system.slice/runner.service/job");
        assert_eq!(limits, (Some(0.5), Some(700), Some(6.0), Some(9000)));
        let user = "user.slice/user-1.slice/user@1.service";
        tree.cgroup("user.slice/user-1.slice", None, Some(8000)).cgroup(user, None, Some(5000));
        tree.cgroup(&format!("{user}/app.slice/build.scope"), None, None);
        let limits = tree.limits_of_cgroup(&format!("{user}/app.slice/build.scope"));
        assert_eq!(limits, (None, None, None, Some(5000)));
        tree.cgroup(&format!("{user}/app.slice/bare"), None, None);
        assert_eq!(tree.limits_of_cgroup(&format!("{user}/app.slice/bare")), (None, None, None, Some(5000)));
    }
}

#[test]
fn version_1_tells_of_what_is_above_and_not_mounted() {
    let tree = Tree::v1();
    let place = format!("docker/{ID}");
    tree.cgroup(&place, None, None);
    let stat = format!("memory/{place}/memory.stat");
    let put = |holds: &str| {
        let content = format!("hierarchical_memory_limit {holds}\ntotal_inactive_file 0\n");
        write(tree.root.path(), &[(&stat, &content)]);
    };
    put(V1_NONE.trim());
    assert_eq!(tree.limits(&place), (None, None, None, None));
    put("4000");
    assert_eq!(tree.limits(&place), (None, None, None, Some(4000)));
    tree.cgroup(&place, None, Some(300));
    put("300");
    assert_eq!(tree.limits(&place), (None, Some(300), None, None));
}

#[test]
fn a_cgroup_that_a_runtime_mounted_for_the_container_is_its_own() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("memory.limit_in_bytes", "300\n"),
            ("memory.usage_in_bytes", "1\n"),
            ("memory.stat", "inactive_file 0\n"),
        ],
    );
    let point = root.path().display();
    let mountinfo = format!("30 1 0:26 /docker/{ID} {point} ro - cgroup cgroup rw,memory\n");
    let lines = format!("9:memory:/docker/{ID}\n");
    let hierarchies = Hierarchies::from_mountinfo(mountinfo.as_bytes());
    let reader = hierarchies.container(CgroupLines::parse(lines.as_bytes()), ID).unwrap();
    assert_eq!(limits(reader), (None, Some(300), None, None));
}

#[test]
fn throttling_is_read_where_the_tightest_limit_is() {
    for tree in Tree::both() {
        let (pod, place) = ("kubepods/pod1", format!("kubepods/pod1/{ID}"));
        tree.cgroup(pod, Some(0.5), None).cgroup(&place, None, None);
        tree.throttled(pod, 40, 30).throttled(&place, 1, 0);
        let mut reader = tree.reader(&place);
        let read = |reader: &mut CgroupReader| {
            let reading = reader.read().unwrap();
            (reading.periods.map(|periods| (periods.all, periods.throttled)), reading.throttled_ns)
        };
        assert_eq!(read(&mut reader), (Some((40, 30)), Some(30_000)));
        // Throttling before the container started is not the container's.
        let first = tree.reader(&place).read().unwrap();
        let beginning = reader.beginning(&first);
        assert_eq!((beginning.cpu_ns, beginning.oom_kills), (Some(0), Some(0)));
        assert_eq!(beginning.periods, Some(Periods { all: 40, throttled: 30 }));
        tree.throttled(pod, 50, 36);
        assert_eq!(read(&mut reader), (Some((50, 36)), Some(36_000)));
        // Its own limit is the tightest from now on: the counts continue from their last values.
        tree.throttled(pod, 60, 36);
        assert_eq!(read(&mut reader), (Some((60, 36)), Some(36_000)));
        tree.cgroup(&place, Some(0.25), None).throttled(&place, 7, 5);
        while reader.read().unwrap().cpu_limit_cores.is_none() {}
        tree.throttled(&place, 9, 6);
        let (periods, ns) = read(&mut reader);
        assert_eq!((periods, ns), (Some((62, 37)), Some(37_000)));
        let mut own = tree.reader(&place);
        assert_eq!(read(&mut own), (Some((9, 6)), Some(6_000)));
        let first = own.read().unwrap();
        assert_eq!(own.beginning(&first).periods, Some(Periods::default()));
    }
}

#[test]
fn a_cgroup_that_is_being_removed_keeps_its_limits() {
    let place = format!("kubepods/burstable/pod1/{ID}");
    for tree in Tree::both() {
        tree.cgroup(&place, Some(0.5), Some(300));
        let mut reader = tree.reader(&place);
        let before = reader.read().unwrap();
        assert_eq!((before.cpu_limit_cores, before.memory_limit_bytes), (Some(0.5), Some(300)));
        let (cpu, memory) = if tree.v2 {
            (format!("{place}/cpu.max"), format!("{place}/memory.max"))
        } else {
            (format!("cpu,cpuacct/{place}/cpu.cfs_quota_us"), format!("memory/{place}/memory.limit_in_bytes"))
        };
        for file in [cpu, memory] {
            fs::remove_file(tree.root.path().join(file)).unwrap();
            // Also once the limits are read less often.
            for _ in 0..40 {
                let reading = reader.read().unwrap();
                assert_eq!((reading.cpu_limit_cores, reading.memory_limit_bytes), (Some(0.5), Some(300)));
            }
        }
        // A limit that is lifted is lifted.
        tree.cgroup(&place, None, None);
        let last = (0..40).filter_map(|_| reader.read()).last().unwrap();
        assert_eq!((last.cpu_limit_cores, last.memory_limit_bytes), (None, None));
    }
}
