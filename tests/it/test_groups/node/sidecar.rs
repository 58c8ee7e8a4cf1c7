//! A pod with a sidecar on a node with a collector: both measure, and the result is one run.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cgroup::{Cgroup, Driver, pod_uid};
use tests::program::{PATIENCE, workload};

use super::{EBPF, Node, assignments};

/// The pod's first process. The sidecar starts before the job, has its own cgroup namespace and names the run after the pod's
/// UID. The job's processes have the CI system's variables. The mounts are those from which the collector reads the
/// containers' names.
const POD: &str = r#"
    unshare --mount sh -c '
        echo 0 > "$OWN/cgroup.procs" && mount --bind "$PODS/collector/1" "$PODS/log" &&
        exec unshare --cgroup env $SIDECAR "$COLLECTOR" --interval=100ms --output=none --ebpf=off \
            --push-endpoint="$ENDPOINT" --push-interval=0' &
    sleep 1.5
    unshare --mount sh -c '
        echo 0 > "$BUILD/cgroup.procs" && mount --bind "$PODS/build/1" "$PODS/log" &&
        exec env $JOB sh -c "\"$WORKLOAD\" burn 600; sleep 0.5"'
    kill -TERM $! && wait $!
"#;

#[test]
fn a_job_that_a_sidecar_measures_too_is_one_run() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let uid = pod_uid().unwrap();
        let [own, build] = [(); 2].map(|()| Cgroup::in_pod(Driver::Cgroupfs, &uid).unwrap());
        let pods = node.directory.path().join("pods").join(&uid).join("containers");
        for name in ["collector", "build"] {
            std::fs::create_dir_all(pods.join(name)).unwrap();
            std::fs::write(pods.join(name).join("1"), "").unwrap();
        }
        std::fs::write(pods.join("log"), "").unwrap();
        let mut pod = Command::new("unshare");
        pod.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", POD]);
        pod.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        pod.env("PODS", &pods).env("OWN", own.path()).env("BUILD", build.path()).env("WORKLOAD", workload());
        pod.env("COLLECTOR", tests::program::path("COLLECTOR_BIN", "collector"));
        pod.env("ENDPOINT", format!("http://{}/api/v1/metrics", node.receiver.address));
        pod.env("COLLECTOR_PUSH_TOKEN", node.receiver.token(&json!({"organization": "my-org"})));
        let named = assignments("both", &uid).replace("GITHUB_RUN_ATTEMPT=1", "");
        pod.env("SIDECAR", named).env("JOB", assignments("both", "77"));
        assert!(pod.status().unwrap().success());
        build.wait_until_empty().unwrap();
        own.wait_until_empty().unwrap();
        let (truth, id) = (build.cpu_seconds().unwrap(), build.id().to_owned());
        drop((own, build));
        let run = all_told(&node);
        assert_eq!(run["run_id"], "77", "the CI system's name for it: {run}");
        let containers = run["payload"]["containers"].as_array().unwrap();
        let jobs: Vec<_> = containers.iter().filter(|container| container["name"] == "build").collect();
        assert_eq!(jobs.len(), 1, "{containers:#?}");
        assert_eq!((&jobs[0]["id"], &jobs[0]["pod_uid"]), (&json!(id), &json!(uid)));
        let found = jobs[0]["cpu_seconds"].as_f64().unwrap();
        assert!((found - truth).abs() <= 0.02 * truth + 0.03, "--ebpf={ebpf}: {found} s of {truth} s");
        let own = containers.iter().filter(|container| container["name"] == "collector");
        assert_eq!(own.count(), 1, "{containers:#?}");
        node.program.stop();
    }
}

/// The only run, once both collectors have pushed their last summaries.
fn all_told(node: &Node) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let runs = node.runs("both");
        let modes: Vec<_> = runs.iter().flat_map(|run| run["sources"].as_array().unwrap()).collect();
        let is_final =
            |mode: &str| modes.iter().any(|source| source["mode"] == mode && source["final"] == true);
        // Before the job started, the node's collector used the sidecar's name of the run.
        let nodes = modes.iter().filter(|source| source["mode"] == "node").count();
        if runs.len() == 1
            && is_final("sidecar")
            && nodes == 2
            && modes.iter().all(|one| one["final"] == true)
        {
            return runs[0].clone();
        }
        assert!(Instant::now() < end, "{runs:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
