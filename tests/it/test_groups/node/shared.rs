//! A sidecar in a pod whose containers share a PID namespace. It starts long after the job.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::cgroup::{Cgroup, Driver};
use tests::program::{Program, path, workload};
use wire::Payload;

use super::whole::{Told, WholePod, within};
use super::{EBPF, assert_share, assert_sum};

/// The only child of a process.
#[track_caller]
fn child_of(pid: u32) -> u32 {
    for _ in 0..500 {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{pid} has no child");
}

/// A command that runs its arguments in the pod's PID namespace and in this cgroup.
fn join(pod: &WholePod, name: &str, cgroup: &Cgroup) -> Command {
    let first = child_of(pod.pause.id());
    let mut command = Command::new("nsenter");
    command.args([&format!("--target={first}"), "--pid", "--mount"]);
    let inner = within(cgroup, &pod.mounts(name));
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

fn shared_pod(directory: &Path, driver: Driver) -> WholePod {
    // The parent stays, so that the kernel can report the end of its child.
    let pod = WholePod::with(
        directory,
        driver,
        Told::Mounts,
        &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    );
    child_of(pod.pause.id());
    std::thread::sleep(Duration::from_millis(200));
    pod
}

#[test]
fn what_the_job_used_before_its_sidecar_came_is_the_pods() {
    for (ebpf, driver) in EBPF.into_iter().zip([Driver::Cgroupfs, Driver::Systemd]) {
        let directory = tempfile::tempdir().unwrap();
        let pod = shared_pod(directory.path(), driver);
        let [job, own] = ["build", "collector"].map(|name| pod.cgroup(name, 0, false));
        // Some of the time is from children that were waited for, some from a later child, some from orphans of the sandbox.
        let script = "\"$1\" burn 600; \"$1\" orphans 2 100; \"$1\" burn 300; sleep 4; \"$1\" burn 400; sleep 0.6; true";
        let mut build = join(&pod, "build", &job);
        build.args(["sh", "-c", script, "sh"]).arg(workload()).stdin(Stdio::null());
        let began = Instant::now();
        let mut build = build.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3500));
        let mut collector = join(&pod, "collector", &own);
        collector.arg(path("COLLECTOR_BIN", "collector"));
        collector.args(["--interval=200ms", "--log-format=json", "--output=json"]);
        collector.arg(format!("--ebpf={ebpf}"));
        let program = Program::start(&mut collector);
        program.wait_for("measuring");
        let collector = child_of(program.pid());
        assert!(build.wait().unwrap().success());
        std::thread::sleep(Duration::from_millis(500));
        let lasted = began.elapsed().as_secs_f64();
        kill_process(Pid::from_raw(collector.cast_signed()).unwrap(), Signal::TERM).unwrap();
        let ended = program.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        let payload: Payload = serde_json::from_str(&ended.stdout).unwrap();
        let mut names: Vec<_> = payload.containers.iter().map(|usage| usage.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["build", "collector"], "{:#?}", payload.containers);
        let usage = payload.containers.iter().find(|usage| usage.name == "build").unwrap();
        let truth = job.cpu_seconds().unwrap();
        assert!(truth > 1.5, "{truth}");
        // The collector counts the time of nsenter and the shell before they entered the cgroup. The kernel does not.
        let found = usage.cpu_seconds.unwrap();
        assert!((found - truth).abs() < 0.02 * truth + 0.06, "--ebpf={ebpf}: {found} s of {truth} s");
        assert_share(ebpf, &payload, usage.cgroup_cpu_seconds.unwrap(), truth);
        // The job used at most one core, most of it before the sidecar started.
        assert!(usage.cpu_cores.peak < 1.5, "{:?}", usage.cpu_cores);
        assert!(payload.duration_seconds > lasted - 0.1, "{} of {lasted} s", payload.duration_seconds);
        assert_eq!(payload.attribution.as_ref().unwrap().unattributed_cpu_seconds, 0.0);
        assert!(payload.pod_overhead.is_some());
        assert_sum(&payload);
        pod.end();
    }
}
