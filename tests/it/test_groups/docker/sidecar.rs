//! A collector in the PID namespace of other containers, on a machine that is busy with other work.

use std::time::{Duration, Instant};

use tests::cgroup::Driver;
use tests::program::PATIENCE;
use wire::Payload;

use super::pod::Pod;
use super::{docker, told};

/// The number of processes that the job starts.
const CHILDREN: u64 = 300;

/// A sidecar's summary of a pod with one job, and the kernel's CPU time of the pod in seconds.
struct Outcome {
    payload: Payload,
    /// Id of the container with short processes.
    short: String,
    /// Id of the container with a long process.
    long: String,
    /// Ids of the other containers in the PID namespace: the pause container and the sidecar.
    others: [String; 2],
    charged: f64,
}

fn measure(cgroupns: &str) -> Outcome {
    let cgroupns = format!("--cgroupns={cgroupns}");
    let bystander = Pod::new(Driver::Cgroupfs, &[]);
    let storm = bystander.container(&[], &["as", "bystander", "storm", "100"]);
    let pod = Pod::new(Driver::Cgroupfs, &[&cgroupns]);
    let pid = format!("--pid=container:{}", pod.pause);
    let sidecar = told(&[
        "run",
        "--detach",
        "--network=none",
        &pid,
        &cgroupns,
        "--user=0",
        "--cap-drop=ALL",
        // Engines before 23.0 do not know CAP_BPF.
        "--cap-add=SYS_ADMIN",
        "--security-opt=no-new-privileges",
        "--read-only",
        "runner-resource-collector/collector",
        "--ebpf=require",
        "--interval=500ms",
        "--output=json",
        "--top=50",
    ]);
    let log = || String::from_utf8(docker(&["logs", &sidecar]).stderr).unwrap();
    let patience = Instant::now() + PATIENCE;
    while !log().contains(" measuring ") {
        assert!(Instant::now() < patience, "{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let short = pod.container(&[&pid, &cgroupns], &["exits", &(CHILDREN / 3).to_string(), "3"]);
    let long = pod.container(&[&pid, &cgroupns], &["burn", "1000"]);
    docker(&["wait", &short, &long]);
    docker(&["stop", "--time=30", &sidecar]);
    let payload = serde_json::from_str(&told(&["logs", &sidecar])).unwrap();
    let others = [pod.pause.clone(), sidecar.clone()];
    docker(&["rm", "--force", &sidecar, &short, &long, &storm]);
    bystander.end();
    Outcome { payload, short, long, others, charged: pod.end() }
}

#[test]
fn a_sidecar_sees_its_pod_and_itself_and_nothing_else_of_the_machine() {
    for cgroupns in ["host", "private"] {
        let outcome = measure(cgroupns);
        let Outcome { payload, short, long, others, charged } = &outcome;
        assert_eq!(payload.collector.as_ref().unwrap().source, "ebpf");
        let usage = |id: &String| payload.containers.iter().find(|usage| usage.id.as_ref() == Some(id));
        let (one, two) = (usage(short).unwrap(), usage(long).unwrap());
        // Every process has a name and is in the right container.
        assert_eq!((one.process_count, two.process_count), (Some(CHILDREN + 1), Some(1)), "{cgroupns}");
        let commands: u64 = payload
            .top_commands
            .iter()
            .filter(|command| command.container.as_ref() == Some(&one.name))
            .map(|command| command.process_count)
            .sum();
        assert_eq!(commands, CHILDREN + 1, "{cgroupns}: {:#?}", payload.top_commands);
        let known = [short, long, &others[0], &others[1]];
        for usage in &payload.containers {
            let id = usage.id.as_ref();
            assert!(id.is_some_and(|id| known.contains(&id)), "{cgroupns}: {usage:#?}");
        }
        // A container's first process has used some milliseconds before it moves into the cgroup.
        let found: f64 = [one, two].iter().filter_map(|usage| usage.cpu_seconds).sum();
        assert!((found - charged).abs() <= 0.005 * charged + 0.1, "{cgroupns}: {found} s of {charged} s");
        assert_eq!(payload.attribution.as_ref().unwrap().unattributed_cpu_seconds, 0.0, "{cgroupns}");
    }
}
