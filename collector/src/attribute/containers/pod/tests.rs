use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, Place};
use crate::config::process_map::ProcessMap;
use crate::sample::bpf::CgroupIds;
use crate::sample::pid_stat::Comm;
use crate::sample::pod_logs::{LinkedName, LogDirectory};

use std::collections::BTreeSet;

const UID: &str = "e50f2933-b36b-4e3b-89b1-280707f7bc53";

/// A pod that is being created, as one runtime lays it out.
struct Scene {
    containers: Containers,
    layout: Layout,
    cgroups: u64,
}

/// Where a runtime puts a container's cgroup, and where it keeps a sandbox's files.
#[derive(Clone, Copy)]
struct Layout {
    cgroup: fn(&str) -> String,
    sandbox_file: fn(&str) -> String,
}

const SLICE: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pode50f2933_b36b_4e3b_89b1_280707f7bc53.slice";

fn layouts() -> [Layout; 5] {
    [
        // containerd, with systemd's cgroups and with the kubelet's own.
        Layout {
            cgroup: |id| format!("{SLICE}/cri-containerd-{id}.scope"),
            sandbox_file: |id| {
                format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/resolv.conf")
            },
        },
        Layout {
            cgroup: |id| format!("/kubepods/burstable/pod{UID}/{id}"),
            sandbox_file: |id| {
                format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/hostname")
            },
        },
        Layout {
            cgroup: |id| format!("{SLICE}/crio-{id}.scope"),
            sandbox_file: |id| format!("/containers/storage/overlay-containers/{id}/userdata/resolv.conf"),
        },
        Layout {
            cgroup: |id| format!("{SLICE}/docker-{id}.scope"),
            sandbox_file: |id| format!("/var/lib/docker/containers/{id}/resolv.conf"),
        },
        // A node that is a container itself.
        Layout {
            cgroup: |id| format!("/docker/{}/kubelet/kubepods/pod{UID}/{id}", "f".repeat(64)),
            sandbox_file: |id| {
                format!(
                    "/docker/volumes/v/_data/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/resolv.conf"
                )
            },
        },
    ]
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn line(root: &str, point: &str) -> String {
    format!("1 2 8:1 {root} {point} rw,relatime - ext4 /dev/sda1 rw\n")
}

impl Scene {
    fn new(layout: Layout) -> Self {
        Self { containers: Containers::new(ProcessMap::default(), false), layout, cgroups: 0 }
    }

    fn place(&mut self, id: &str) -> Place {
        let path = (self.layout.cgroup)(id);
        self.place_at(&path)
    }

    fn place_at(&mut self, path: &str) -> Place {
        self.cgroups += 1;
        let ids = CgroupIds { unified: self.cgroups, v1: 0 };
        let content = format!("0::{path}\n").into_bytes();
        self.containers.place_of(ids, Comm::new(b"x"), None, |_| Some(content)).unwrap()
    }

    /// The mounts of a container of this name in a pod with this sandbox.
    fn mounts(&self, name: &str, sandbox: &str) -> String {
        let files = (self.layout.sandbox_file)(sandbox);
        let log = format!("/var/lib/kubelet/pods/{UID}/containers/{name}/0a1b2c3d");
        line(&files, "/etc/resolv.conf") + &line(&log, "/dev/termination-log")
    }

    fn names(&self) -> Vec<(&str, bool)> {
        self.containers.iter().map(|(index, one)| (one.name(), self.containers.is_overhead(index))).collect()
    }

    fn unite(&mut self, living: &[Place]) {
        self.containers.unite(&living.iter().map(|place| place.container).collect());
    }
}

#[test]
fn any_container_of_a_pod_tells_which_is_the_sandbox() {
    for layout in layouts() {
        // The order in which they are seen does not matter.
        for sandbox_first in [true, false] {
            let mut scene = Scene::new(layout);
            if sandbox_first {
                scene.place(&id('a'));
            }
            let job = scene.place(&id('b'));
            let mounts = scene.mounts("build", &id('a'));
            scene.containers.learn(job.container, mounts.as_bytes());
            let sandbox = scene.place(&id('a'));
            // Its name does not matter.
            scene.containers.runs(sandbox, Comm::new(b"infra"), true);
            assert!(scene.containers.is_overhead(sandbox.container));
            assert!(!scene.containers.is_overhead(job.container));
            assert_eq!(scene.containers[job.container].name(), "build");
        }
    }
}

#[test]
fn a_sandbox_alone_tells_what_it_is() {
    for layout in layouts() {
        let mut scene = Scene::new(layout);
        let sandbox = scene.place(&id('a'));
        let own = line(&(layout.sandbox_file)(&id('a')), "/etc/resolv.conf");
        scene.containers.learn(sandbox.container, own.as_bytes());
        if own.contains("/docker/containers/") {
            // An engine keeps the files of every container that it makes.
            assert!(!scene.containers.is_overhead(sandbox.container));
            scene.containers.runs(sandbox, Comm::new(b"pause"), false);
            assert!(scene.containers.is_overhead(sandbox.container));
            continue;
        }
        assert!(scene.containers.is_overhead(sandbox.container));
        assert!(!scene.containers.wants_mountinfo(sandbox, Comm::new(b"x")), "nobody need look again");
    }
}

#[test]
fn a_containers_runtime_shows_its_name_before_its_program_runs() {
    let mut scene = Scene::new(layouts()[0]);
    let job = scene.place(&id('b'));
    let prepared = scene.mounts("build", &id('a'));
    let of_node = line("/var/lib/kubelet/pods/another/volumes/kubernetes.io~projected/token", "/x");
    let of_another = prepared.replace(UID, "another");
    assert!(scene.containers.wants_mountinfo(job, Comm::new(b"runc:[2:INIT]")));
    for mounts in [&of_node, &of_another] {
        scene.containers.learn_from_runtime(job.container, mounts.as_bytes());
        assert_eq!(scene.names(), [("bbbbbbbbbbbb", false)], "{mounts}");
    }
    scene.containers.learn_from_runtime(job.container, (of_node + &prepared).as_bytes());
    assert_eq!(scene.names(), [("build", false)]);
}

#[test]
fn a_container_in_no_pod_is_one_whoever_keeps_its_files() {
    let layout = Layout { cgroup: |id| format!("/docker/{id}"), ..layouts()[3] };
    let mut scene = Scene::new(layout);
    let container = scene.place(&id('a'));
    let own = line(&(layout.sandbox_file)(&id('a')), "/etc/resolv.conf");
    scene.containers.learn(container.container, own.as_bytes());
    scene.containers.runs(container, Comm::new(b"pause"), true);
    assert!(!scene.containers.is_overhead(container.container));
}

#[test]
fn a_container_without_a_name_that_runs_the_job_is_called_so() {
    let mut scene = Scene::new(layouts()[1]);
    let [one, other] = ['a', 'b'].map(|digit| scene.place_at(&format!("/docker/{}", id(digit))).container);
    assert_eq!(scene.containers[one].name(), &id('a')[..12]);
    for container in [one, one, other] {
        scene.containers.runs_the_job(container);
    }
    assert_eq!([one, other].map(|index| scene.containers[index].name()), ["job", "job-2"]);
    scene.containers.name(one, LinkedName { container: "build".to_owned(), restart: None });
    assert_eq!(scene.containers[one].name(), "build", "its pod's name for it is better");
}

#[test]
fn a_host_network_container_of_docker_keeps_its_own_files_and_is_one() {
    let layout = layouts()[3];
    let mut scene = Scene::new(layout);
    let job = scene.place(&id('b'));
    let mounts = scene.mounts("build", &id('b'));
    scene.containers.learn(job.container, mounts.as_bytes());
    assert_eq!(scene.names(), [("build", false)]);
}

#[test]
fn what_runs_in_a_pods_own_cgroup_is_beside_its_containers() {
    let mut scene = Scene::new(layouts()[2]);
    let conmon = scene.place_at(&format!("{SLICE}/crio-conmon-{}.scope", id('b')));
    let job = scene.place(&id('b'));
    assert_ne!(conmon, job);
    assert!(scene.containers.is_overhead(conmon.container) && !scene.containers.is_overhead(job.container));
    assert_eq!(scene.containers[conmon.container].pod_uid.as_deref(), Some(UID));
}

fn directories(names: &[(&str, bool)]) -> Vec<LogDirectory> {
    let directory = |(name, restarted): &(&str, bool)| LogDirectory {
        container: (*name).to_owned(),
        restarted: *restarted,
    };
    names.iter().map(directory).collect()
}

#[test]
fn what_may_be_the_sandbox_waits_for_its_name() {
    let mut scene = Scene::new(layouts()[0]);
    let (sandbox, job) = (scene.place(&id('a')), scene.place(&id('b')));
    let one = directories(&[("build", false)]);
    // Both were just created: the runtime is still in them.
    for place in [sandbox, job] {
        scene.containers.runs(place, Comm::new(b"runc:[2:INIT]"), true);
    }
    scene.containers.name_what_is_left(&one);
    assert_eq!(scene.names(), [("aaaaaaaaaaaa", false), ("bbbbbbbbbbbb", false)]);
    scene.containers.runs(sandbox, Comm::new(b"pause"), false);
    scene.containers.runs(job, Comm::new(b"sh"), false);
    scene.containers.name_what_is_left(&one);
    assert_eq!(scene.names()[1].0, "bbbbbbbbbbbb", "a pass is not enough");
    scene.containers.runs(job, Comm::new(b"make"), true);
    scene.containers.name_what_is_left(&one);
    assert_eq!(scene.names(), [("aaaaaaaaaaaa", true), ("build", false)]);
}

#[test]
fn a_name_is_given_once_unless_its_container_was_restarted() {
    let mut scene = Scene::new(layouts()[0]);
    let places = ['b', 'c', 'd'].map(|digit| scene.place(&id(digit)));
    for place in places {
        scene.containers.runs(place, Comm::new(b"sh"), true);
    }
    let two = [("build", false), ("lint", false)];
    scene.containers.name_what_is_left(&directories(&two));
    assert!(scene.names().iter().all(|(name, _)| name.len() == 12), "{:?}", scene.names());
    let linked = |name: &str, restart| LinkedName { container: name.to_owned(), restart };
    scene.containers.name(places[0].container, linked("build", Some(0)));
    scene.containers.name_what_is_left(&directories(&two));
    assert_eq!(scene.names()[1].0, "cccccccccccc", "two are left for one name");
    scene.containers.name(places[1].container, linked("build", Some(1)));
    // `build` was started again, and perhaps once more.
    scene.containers.name_what_is_left(&directories(&[("build", true), ("lint", false)]));
    assert_eq!(scene.names()[2].0, "dddddddddddd");
    scene.containers.name_what_is_left(&directories(&two));
    assert_eq!(scene.names()[2].0, "lint");
}

#[test]
fn restarts_are_one_container() {
    let mut scene = Scene::new(layouts()[1]);
    let linked = |restart| LinkedName { container: "build".to_owned(), restart: Some(restart) };
    let first = scene.place(&id('b'));
    scene.containers.name(first.container, linked(0));
    let other = scene.place(&id('c'));
    scene.containers.name(other.container, LinkedName { container: "lint".to_owned(), restart: None });
    let second = scene.place(&id('d'));
    scene.containers.name(second.container, linked(1));
    scene.unite(&[first, other, second]);
    // Two more restarts between two passes.
    let last = scene.place(&id('e'));
    scene.containers.name(last.container, linked(4));
    scene.unite(&[last]);
    let roots: Vec<_> = scene.containers.iter().map(|(index, _)| scene.containers.root(index)).collect();
    assert_eq!(roots, [0, 1, 0, 0].map(ContainerIndex));
    assert_eq!(scene.containers.newest(first.container).id(), Some(id('e').as_str()));
    assert_eq!(
        (scene.containers.restarts(first.container), scene.containers.restarts(other.container)),
        (4, 0)
    );
    // The next collector knows them, too.
    let mut again = Containers::new(ProcessMap::default(), false);
    assert!(again.restore(scene.containers.save()));
    assert_eq!(again.restarts(first.container), 4);
}

#[test]
fn a_mapped_name_is_the_same_container_only_after_the_other_has_ended() {
    for (pod, same) in [(true, true), (false, false)] {
        let layout =
            if pod { layouts()[0] } else { Layout { cgroup: |id| format!("/docker/{id}"), ..layouts()[3] } };
        let map = ProcessMap::parse(r#"{"x": "step"}"#).unwrap();
        let mut scene = Scene { containers: Containers::new(map, false), ..Scene::new(layout) };
        let (one, two) = (scene.place(&id('b')), scene.place(&id('c')));
        scene.unite(&[one, two]);
        assert!(!scene.containers.has_restarts(), "both run");
        scene.unite(&[two]);
        assert_eq!(scene.containers.has_restarts(), same);
        assert_eq!(scene.names(), [("step", false), ("step", false)]);
    }
}

/// Whether the other container is overhead, for a collector with its own cgroup namespace in a pod with one PID namespace.
fn beside(first: &str, comm: &[u8], mounts: &str) -> bool {
    let mut containers = Containers::new(ProcessMap::default(), true);
    let mut place = |at, path: &str| {
        let ids = CgroupIds { unified: at, v1: 0 };
        containers
            .place_of(ids, Comm::new(b"x"), None, |_| Some(format!("0::{path}\n").into_bytes()))
            .unwrap()
    };
    let (own, one) = (place(1, "/"), place(2, &format!("/../cri-containerd-{first}.scope")));
    containers.learn(own.container, mounts.as_bytes());
    containers.holds_the_namespace(one, Comm::new(comm), Some(own.container));
    containers.unite(&BTreeSet::new());
    let pods = [own, one].map(|place| containers[place.container].pod_uid.clone());
    assert_eq!(pods[0], pods[1]);
    assert!(
        containers.are_of_one_pod(own.container, one.container) && !containers.is_overhead(own.container)
    );
    containers.is_overhead(one.container)
}

#[test]
fn a_sidecar_knows_the_sandbox_that_it_may_not_look_into() {
    let scene = Scene::new(layouts()[0]);
    let mounts = scene.mounts("collector", &id('a'));
    assert!(beside(&id('a'), b"infra", &mounts), "its own mounts name it");
    // A debugger shares the namespace of the container that it debugs.
    assert!(!beside(&id('b'), b"node", &mounts));
    // A runtime that keeps the files elsewhere, and an engine without a kubelet.
    let unknown = line(&format!("/kubelet/pods/{UID}/etc-hosts"), "/etc/hosts");
    assert!(beside(&id('a'), b"infra", &unknown));
    assert!(beside(&id('a'), b"pause", ""));
    assert!(!beside(&id('b'), b"node", ""));
}
