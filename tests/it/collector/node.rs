//! A node as text files: 200 pods with 10,000 processes, read by the shipped program.

use std::fs;
use std::path::Path;

use tests::program::{Program, collector};
use tests::scene::{PROCESS, Process, write};
use wire::Payload;

const PODS: u32 = 200;
const PER_POD: u32 = 50;
/// The process started after the collector.
const NEW: u64 = 100_001;

fn uid(pod: u32) -> String {
    format!("e50f2933-b36b-4e3b-89b1-{pod:012x}")
}

fn cgroup(pod: u32) -> String {
    let container = format!("{pod:064x}");
    if pod.is_multiple_of(2) {
        return format!("0::/kubepods/burstable/pod{}/{container}\n", uid(pod));
    }
    let uid = uid(pod).replace('-', "_");
    format!(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{container}.scope\n"
    )
}

/// The first process of each pod names its job. Every third pod has no job.
fn set_environments(root: &Path) {
    for pod in (0..PODS).filter(|pod| pod % 3 != 2) {
        let environ = format!(
            "SECRET=s3cret\0GITHUB_REPOSITORY_OWNER=my-org\0GITHUB_REPOSITORY=my-org/my-repo\0GITHUB_WORKFLOW=ci.yml\0GITHUB_JOB=job-{pod}\0GITHUB_RUN_ID={pod}\0"
        );
        let directory = root.join(first_pid(pod).to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("environ"), environ).unwrap();
    }
}

fn first_pid(pod: u32) -> u32 {
    10 + pod * PER_POD
}

#[test]
fn two_hundred_pods_are_told_apart() {
    // Tens of thousands of files: in memory, if possible.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let root = directory.path().join("proc");
    let cgroups: Vec<_> = (0..PODS).map(cgroup).collect();
    let processes = |own: &dyn Fn(u32, u32) -> u64| -> Vec<Process<'_>> {
        let of_pod = |pod: u32| {
            let cgroup = &cgroups[pod as usize];
            let own = &own;
            (0..PER_POD).map(move |index| Process {
                pid: first_pid(pod) + index,
                ppid: if index == 0 { 1 } else { first_pid(pod) },
                comm: b"worker",
                own: own(pod, index),
                start: NEW + u64::from(index),
                rss: 10,
                cgroup,
                ..PROCESS
            })
        };
        [PROCESS].into_iter().chain((0..PODS).flat_map(of_pod)).collect()
    };
    write(&root, &[PROCESS]);
    let mut command = collector();
    command.args(["node", "--interval=1s", "--log-format=json", "--log-level=debug", "--output=json"]);
    command.args(["--ebpf=off", "--metrics-addr=none"]);
    command.arg("--proc-path").arg(&root).arg("--cgroup-path").arg(directory.path());
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    // The environments come first, because a process has its environment from its start.
    set_environments(&root);
    write(&root, &processes(&|_, _| 0));
    // The first pass that sees all of them. Earlier passes may have seen some while they were written.
    while program.wait_for("pass")["processes"] != PODS * PER_POD + 1 {}
    program.wait_for("pass");
    program.wait_for("pass");
    write(&root, &processes(&|pod, index| u64::from(pod + index)));
    program.wait_for("pass");
    program.wait_for("pass");
    program.wait_for("pass");
    write(&root, &[PROCESS]);
    let jobs: Vec<u32> = (0..PODS).filter(|pod| pod % 3 != 2).collect();
    for _ in &jobs {
        assert_eq!(program.wait_for("a job is over")["end"], "gone");
    }
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(!ended.stdout.contains("s3cret") && !ended.stderr.contains("s3cret"));
    let payloads: Vec<Payload> =
        serde_json::Deserializer::from_str(&ended.stdout).into_iter().map(Result::unwrap).collect();
    assert_eq!(payloads.len(), jobs.len());
    for payload in payloads {
        assert_eq!(payload.containers.len(), 1);
        let usage = &payload.containers[0];
        let pod = u32::from_str_radix(usage.id.as_ref().unwrap(), 16).unwrap();
        assert!(jobs.contains(&pod), "{pod} is no job");
        assert_eq!(usage.pod_uid.as_deref(), Some(uid(pod).as_str()));
        // 0 + pod, 1 + pod, …, 49 + pod ticks.
        let ticks = PER_POD * pod + (0..PER_POD).sum::<u32>();
        assert_eq!(usage.cpu_seconds, Some(f64::from(ticks) / 100.0), "{pod}");
        assert_eq!(usage.process_count, Some(u64::from(PER_POD)));
        assert_eq!(usage.memory_bytes.peak, f64::from(PER_POD * 10 * 4096));
        assert_eq!(payload.complete, Some(true));
    }
}
