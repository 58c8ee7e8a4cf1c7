//! Scenes with numbers that can be told apart, read by the shipped program.

use std::path::Path;
use std::process::Command;

use tests::program::{Program, collector};
use tests::scene::{PROCESS, Process, own_cgroup_namespace, write};
use wire::{ContainerUsage, Payload};

const MINE: &str = "0::/\n";
const RUNNER_ID: &str = "2b180104511194aab36fd295d3e217439f3ddb5bc88277f37b4952abee85c40e";
const RUNNER: &str =
    "0::/../cri-containerd-2b180104511194aab36fd295d3e217439f3ddb5bc88277f37b4952abee85c40e.scope\n";
const DIND: &str = "0::/../cri-containerd-2b180104511194aab36fd295d3e217439f3ddb5bc88277f37b4952abee85c40e.scope/docker/5aaf9eb7648eeb1459d86eaa0ace8bcfa93089642e5c3113a14250dae3238aaf\n";
const PAUSE: &str =
    "0::/../cri-containerd-5694f82f44168cc048e014ae14d1b0c8ef673bec49f329dc169911ea638f63c2.scope\n";
const RUNNER_MOUNT: &str = "1 2 8:1 /var/lib/kubelet/pods/e50f2933-b36b-4e3b-89b1-280707f7bc53/containers/runner/3404dd90 /dev/termination-log rw - ext4 /dev/sda1 rw\n";
/// The process started after the collector.
const NEW: u64 = 100_001;

/// Shows the scenes one after another, each for at least one whole pass, and returns the summary.
fn play(options: &[&str], environment: &[(&str, &str)], scenes: &[&[Process<'_>]]) -> Payload {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("proc");
    own_cgroup_namespace(&root);
    write(&root, scenes[0]);
    let mut command = sidecar(&root);
    command.args(options).envs(environment.iter().copied());
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    for scene in &scenes[1..] {
        write(&root, scene);
        // The first pass may have begun before the scene changed.
        program.wait_for("pass");
        program.wait_for("pass");
    }
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

fn sidecar(root: &Path) -> Command {
    let mut command = collector();
    command.args(["--interval=30ms", "--log-format=json", "--log-level=debug", "--output=json"]);
    command.arg("--proc-path").arg(root).arg("--cgroup-path").arg(root.parent().unwrap());
    command
}

fn container<'a>(payload: &'a Payload, name: &str) -> &'a ContainerUsage {
    let found: Vec<_> = payload.containers.iter().filter(|usage| usage.name == name).collect();
    assert_eq!(
        found.len(),
        1,
        "{name} in {:?}",
        payload.containers.iter().map(|usage| &usage.name).collect::<Vec<_>>()
    );
    found[0]
}

fn runner(pid: u32, ppid: u32) -> Process<'static> {
    Process { pid, ppid, comm: b"node", cgroup: RUNNER, mountinfo: RUNNER_MOUNT, ..PROCESS }
}

#[test]
fn a_pod_with_a_build_in_it() {
    let pause = |reaped| Process { pid: 1, comm: b"pause", cgroup: PAUSE, reaped, rss: 1, ..PROCESS };
    let own = Process { pid: 7, comm: b"collector", cgroup: MINE, own: 500, rss: 11, ..PROCESS };
    let node = |own, reaped| Process { own, reaped, rss: 1000, ..runner(20, 0) };
    let cc = |own| Process { comm: b"cc1", own, rss: 3000, start: NEW, ..runner(30, 20) };
    let payload = play(
        &[],
        &[("CGROUP_LIMITS", r#"{"runner": {"cpu": "1500m", "memory": "64Mi"}}"#)],
        &[
            &[pause(0), own, node(10_000, 20_000)],
            &[pause(0), own, node(10_010, 20_000), cc(70)],
            // cc1 ended with 75 ticks. Compilers that no pass saw used 925 more.
            &[pause(0), own, node(10_010, 21_000)],
        ],
    );
    let runner = container(&payload, "runner");
    assert_eq!(runner.id.as_deref(), Some(RUNNER_ID));
    assert_eq!(runner.runtime.as_deref(), Some("containerd"));
    assert_eq!(runner.pod_uid.as_deref(), Some("e50f2933-b36b-4e3b-89b1-280707f7bc53"));
    assert_eq!(runner.cpu_seconds, Some(10.1));
    assert_eq!(runner.process_count, Some(2));
    assert_eq!(runner.memory_bytes.peak, 4000.0 * 4096.0);
    assert_eq!((runner.cpu_limit_cores, runner.memory_limit_bytes), (Some(1.5), Some(64 << 20)));
    // The sandbox is not one of the containers.
    let overhead = payload.pod_overhead.as_ref().unwrap();
    assert_eq!((overhead.cpu_seconds, overhead.memory_bytes.peak), (0.0, 4096.0));
    assert_eq!(payload.containers.len(), 2, "{:#?}", payload.containers);
    assert!(payload.top_commands.iter().all(|command| command.name != "pause"));
    assert_eq!(container(&payload, "host").cpu_seconds, Some(0.0));
    let attribution = payload.attribution.as_ref().unwrap();
    assert_eq!((attribution.cpu_seconds, attribution.unattributed_cpu_seconds), (10.1, 0.0));
    assert_eq!(attribution.exited_cpu_seconds, 9.3);
    assert_eq!(payload.mem_used_bytes.unwrap().peak, 250_000.0 * 1024.0);
    let commands: Vec<_> = payload
        .top_commands
        .iter()
        .map(|it| (it.name.as_str(), it.process_count, it.cpu_seconds, it.unseen_children_cpu_seconds))
        .collect();
    assert_eq!(commands[..2], [("node", 1, 0.1, Some(9.3)), ("cc1", 1, 0.7, None)]);
    assert_eq!(payload.top_mem_processes[0].peak_mem_bytes, 3000 * 4096);
    assert_eq!(payload.complete, Some(true));
}

/// Shows one scene in which the collector is process 7 from start to end.
fn play_late(processes: &[Process<'_>]) -> Payload {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("proc");
    tests::scene::be_process(&root, 7);
    write(&root, processes);
    let program = Program::start(&mut sidecar(&root));
    program.wait_for("pass");
    program.wait_for("pass");
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn what_a_pod_used_before_its_sidecar_came_counts_over_the_time_in_which_it_did() {
    let mounts = "1 2 8:1 /var/lib/kubelet/pods/e50f2933-b36b-4e3b-89b1-280707f7bc53/containers/collector/1 /dev/termination-log rw - ext4 /dev/sda1 rw\n\
        1 2 8:1 /x/sandboxes/5694f82f44168cc048e014ae14d1b0c8ef673bec49f329dc169911ea638f63c2/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n";
    // The pod is 600 s old, its job 100 s, the collector less than one.
    let pause = Process {
        pid: 1,
        comm: b"infra",
        cgroup: PAUSE,
        own: 1,
        reaped: 500,
        start: 40_000,
        rss: 1,
        ..PROCESS
    };
    let own =
        Process { pid: 7, comm: b"collector", cgroup: MINE, mountinfo: mounts, start: 99_990, ..PROCESS };
    // The collector may not read this process's mounts.
    let node = Process { own: 3_000, reaped: 2_000, start: 90_000, mountinfo: "", ..runner(20, 0) };
    let payload = play_late(&[pause, own, node]);
    let job = container(&payload, "2b1801045111");
    // Includes the time of the job's orphans, which the sandbox adopted.
    assert_eq!(job.cpu_seconds, Some(55.0));
    assert!((0.5..0.551).contains(&job.cpu_cores.peak) && job.cpu_cores.avg > 0.5, "{:?}", job.cpu_cores);
    assert_eq!(job.pod_uid.as_deref(), Some("e50f2933-b36b-4e3b-89b1-280707f7bc53"));
    assert_eq!(payload.pod_overhead.as_ref().unwrap().cpu_seconds, 0.01);
    let attribution = payload.attribution.as_ref().unwrap();
    assert_eq!((attribution.cpu_seconds, attribution.unattributed_cpu_seconds), (55.01, 0.0));
    let pod = payload.pod.unwrap();
    assert!((pod.cpu_cores.avg * payload.duration_seconds - 55.01).abs() < 0.01, "{pod:?}");
    assert!(pod.memory_bytes.peak > job.memory_bytes.peak, "{pod:?}, {:?}", job.memory_bytes);
    assert!((600.0..601.0).contains(&payload.duration_seconds), "{}", payload.duration_seconds);
    let names: Vec<_> = payload.containers.iter().map(|usage| usage.name.as_str()).collect();
    assert_eq!(names, ["2b1801045111", "collector"]);
}

#[test]
fn what_a_machine_used_before_the_collector_came_does_not_count() {
    let node = Process { own: 3_000, reaped: 2_000, start: 90_000, ..runner(20, 0) };
    let own = Process { pid: 7, comm: b"collector", cgroup: MINE, ..PROCESS };
    let pause = Process { pid: 1, comm: b"pause", cgroup: PAUSE, ..PROCESS };
    let service =
        Process { pid: 9, comm: b"sshd", cgroup: "0::/../../../system.slice/ssh.service\n", ..PROCESS };
    for scene in [
        // A process in no container; the first process in no container; the first process in the collector's container.
        vec![pause, own, node, service],
        vec![PROCESS, own, node],
        vec![Process { cgroup: MINE, ..pause }, own, node],
    ] {
        let payload = play_late(&scene);
        assert_eq!(payload.attribution.as_ref().unwrap().cpu_seconds, 0.0);
        assert!(payload.duration_seconds < 60.0, "{}", payload.duration_seconds);
    }
}

#[test]
fn docker_in_docker_counts_for_the_container_that_holds_it() {
    let dockerd = Process { comm: b"dockerd", ..runner(20, 0) };
    let job =
        |own| Process { pid: 40, ppid: 20, comm: b"make", cgroup: DIND, own, rss: 5, start: NEW, ..PROCESS };
    let payload = play(&[], &[], &[&[dockerd], &[dockerd, job(130)], &[dockerd, job(230)]]);
    let runner = container(&payload, "runner");
    assert_eq!(runner.cpu_seconds, Some(2.3));
    assert_eq!(runner.nested.len(), 1);
    assert!(runner.nested[0].id.starts_with("5aaf9eb7648e"));
    assert_eq!((runner.nested[0].cpu_seconds, runner.nested[0].peak_mem_bytes), (2.3, 5 * 4096));
    // A container whose cgroup is outside the pod, started from inside it.
    let cgroup = "0::/../../../docker/89e89703fbd1e88b72d279d951ce389d3742874205196d73f96e0dcbc0da0659\n";
    let out = Process { pid: 50, ppid: 20, comm: b"make", cgroup, own: 400, start: NEW, ..PROCESS };
    let payload = play(&[], &[], &[&[dockerd], &[dockerd, out]]);
    assert_eq!(container(&payload, "runner").cpu_seconds, Some(4.0));
    assert_eq!((payload.containers.len(), payload.pod), (1, None));
}

#[test]
fn a_process_map_names_a_cgroup_and_all_below_it() {
    let step = |pid, cgroup, own| Process { pid, ppid: 1, comm: b"sh", cgroup, own, start: NEW, ..PROCESS };
    let agent =
        Process { pid: 30, ppid: 1, comm: b"forgejo-runner", cgroup: "0::/ci.slice/runner\n", ..PROCESS };
    let payload = play(
        &[],
        &[("CGROUP_PROCESS_MAP", r#"{"forgejo-runner": "runner"}"#)],
        &[
            &[PROCESS, agent],
            &[
                PROCESS,
                agent,
                step(31, "0::/ci.slice/runner/job\n", 100),
                step(32, "0::/ci.slice/other\n", 200),
                step(33, "0::/ci.slice/runner-2\n", 400),
            ],
        ],
    );
    assert_eq!(container(&payload, "runner").cpu_seconds, Some(1.0));
    let host: f64 =
        payload.containers.iter().filter(|it| it.name == "host").filter_map(|it| it.cpu_seconds).sum();
    assert_eq!(host, 6.0);
}

#[test]
fn names_of_any_bytes_make_valid_json() {
    let names: [&[u8]; 5] = [b"a b", b"x) R 1 1\n(y", b"\xff\xfe", b"\x1b[31mred", b")"];
    let processes: Vec<_> = (10..)
        .zip(names)
        .map(|(pid, comm)| Process { pid, ppid: 1, comm, own: u64::from(pid), start: NEW, ..PROCESS })
        .collect();
    let mut second = vec![PROCESS];
    second.extend(&processes);
    let payload = play(&[], &[], &[&[PROCESS], &second]);
    let mut found: Vec<_> = payload.top_commands.iter().map(|command| command.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["\u{1b}[31mred", ")", "a b", "init", "x) R 1 1\n(y", "\u{fffd}\u{fffd}"]);
}

#[test]
fn a_zombie_stays_where_it_was_and_holds_no_memory() {
    let parent = runner(20, 0);
    let child = Process { comm: b"cc1", own: 50, rss: 9, start: NEW, ..runner(30, 20) };
    let zombie = Process { state: 'Z', own: 80, rss: 0, cgroup: MINE, ..child };
    let payload = play(&[], &[], &[&[parent], &[parent, child], &[parent, zombie]]);
    assert_eq!(container(&payload, "runner").cpu_seconds, Some(0.8));
    assert_eq!(payload.attribution.unwrap().unattributed_cpu_seconds, 0.0);
}

#[test]
fn a_reused_pid_is_another_process() {
    let first = Process { comm: b"first", own: 90, start: NEW, ..runner(30, 20) };
    let second = Process { comm: b"second", own: 40, start: NEW + 50, ..runner(30, 20) };
    let parent = |reaped| Process { reaped, ..runner(20, 0) };
    // The parent is written last: a pass in between must not find what it reaped beside the process that it reaped.
    let payload = play(&[], &[], &[&[parent(0)], &[parent(0), first], &[second, parent(90)]]);
    assert_eq!(container(&payload, "runner").cpu_seconds, Some(1.3));
    assert_eq!(container(&payload, "runner").process_count, Some(3));
}

#[test]
fn files_that_make_no_sense_do_not_stop_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("proc");
    write(&root, &[PROCESS, Process { pid: 5, ..PROCESS }]);
    let program = Program::start(&mut sidecar(&root));
    program.wait_for("measuring");
    for (path, content) in [("5/stat", "nonsense"), ("stat", ""), ("meminfo", "x"), ("1/cgroup", "\u{0}")] {
        std::fs::write(root.join(path), content).unwrap();
    }
    std::fs::create_dir(root.join("999")).unwrap();
    program.wait_for("pass");
    program.wait_for("pass");
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stderr.contains("some processes cannot be read") || !ended.stdout.is_empty());
    let payload: Payload = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(payload.attribution.unwrap().cpu_seconds, 0.0);
}

#[test]
fn the_cgroups_own_figures_are_told_where_they_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("proc");
    let cgroups = directory.path().join("cgroup");
    let scope = cgroups.join(format!("pod/cri-containerd-{RUNNER_ID}.scope"));
    std::fs::create_dir_all(&scope).unwrap();
    let put = |name: &str, content: &str| std::fs::write(scope.join(name), content).unwrap();
    std::fs::write(cgroups.join("cgroup.controllers"), "cpu memory\n").unwrap();
    put("cpu.stat", "usage_usec 5000000\nthrottled_usec 100\n");
    put("cpu.max", "250000 100000\n");
    put("memory.current", "9000\n");
    put("memory.stat", "inactive_file 1000\n");
    put("memory.max", "65536\n");
    // The pod's limits are not the container's own.
    std::fs::write(cgroups.join("pod/memory.max"), "32768\n").unwrap();
    std::fs::write(cgroups.join("pod/cpu.max"), "300000 100000\n").unwrap();
    put("memory.events", "oom_kill 3\n");
    own_cgroup_namespace(&root);
    write(&root, &[runner(20, 0)]);
    let mut command = sidecar(&root);
    let program = Program::start(command.arg("--cgroup-path").arg(&cgroups));
    program.wait_for("measuring");
    put("cpu.stat", "usage_usec 7500000\nthrottled_usec 300100\n");
    put("memory.current", "12000\n");
    put("memory.events", "oom_kill 4\n");
    program.wait_for("pass");
    program.wait_for("pass");
    let ended = program.stop();
    let payload: Payload = serde_json::from_str(&ended.stdout).unwrap();
    let runner = container(&payload, "runner");
    assert_eq!((runner.cgroup_cpu_seconds, runner.cpu_throttled_seconds), (Some(2.5), Some(0.3)));
    assert_eq!((runner.oom_kills, runner.memory_peak_bytes), (Some(1), None));
    assert_eq!((runner.cpu_limit_cores, runner.memory_limit_bytes), (Some(2.5), Some(65_536)));
    assert_eq!((runner.cpu_bound_cores, runner.memory_bound_bytes), (Some(3.0), Some(32_768)));
    assert_eq!(runner.working_set_bytes.unwrap().peak, 11_000.0);
}
