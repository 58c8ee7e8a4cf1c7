//! Faults in a cluster while jobs run: no measurement is lost, and nothing counts twice.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::account::Account;
use super::super::asked::{
    COLLECTOR, NAMESPACE, RECEIVER, Run, kube, namespace, on_node, receiver, rows_of, run_id, told, until,
    until_over,
};
use super::super::kinds::{self, BURN, Kind, container, spec};
use super::super::measured::{kernel, start, with_identity};

/// The tag of the shipped images.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Steady work for this many seconds.
fn steady(seconds: u32) -> Value {
    let script =
        format!("end=$(($(date +%s) + {seconds})); while [ $(date +%s) -lt $end ]; do /bin/true; done");
    spec(&[container("build", &script)])
}

/// A pod in the middle of its work, with a job's identity.
struct Working {
    job: &'static str,
    run_id: String,
    pod: String,
    account: Account,
}

impl Working {
    fn start(job: &'static str, spec: Value) -> Self {
        namespace();
        let account = Account::begin(&told("CLUSTER_CGROUP"));
        let run_id = run_id();
        let pod = format!("{job}-{run_id}");
        start(NAMESPACE, &pod, &with_identity(&Kind::of(job, spec), job, &run_id));
        kube(&["--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", &pod, "--timeout=60s"]);
        // Two passes and a checkpoint.
        std::thread::sleep(Duration::from_secs(5));
        Self { job, run_id, pod, account }
    }

    /// The job's only run, and its share of the kernel's account.
    #[track_caller]
    fn end(self, patience: Duration) -> (Run, f64) {
        let pod = until_over(&self.pod);
        let charged = kernel(&self.account, &pod)["build"].cpu_seconds;
        let rows = rows_of(self.job, &self.run_id, patience);
        assert!(rows.iter().all(|row| row.is_final), "no last summary within {patience:?}: {rows:#?}");
        assert_eq!(rows.len(), 1, "one run, one row: {rows:#?}");
        let row = rows.into_iter().next().unwrap();
        let ours: f64 = row
            .payload
            .containers
            .iter()
            .filter(|one| one.name == "build")
            .filter_map(|one| one.cpu_seconds)
            .sum();
        kube(&["--namespace", NAMESPACE, "delete", "pod", &self.pod, "--wait=false"]);
        (row, ours / charged)
    }
}

/// The longest time from the end of a fault to the last summary. A push is retried after at most a minute.
const RECOVERY: Duration = Duration::from_secs(150);
/// The time between a checkpoint and the next collector's first pass is not measured.
const RESTARTED: std::ops::RangeInclusive<f64> = 0.6..=1.02;

#[test]
fn a_job_goes_on_when_the_daemonset_is_rolled_out_anew() {
    let working = Working::start("rolled", steady(40));
    kube(&["--namespace", COLLECTOR, "rollout", "restart", "daemonset/collector"]);
    kube(&["--namespace", COLLECTOR, "rollout", "status", "daemonset/collector", "--timeout=120s"]);
    let (run, share) = working.end(RECOVERY);
    assert!(RESTARTED.contains(&share), "{share}");
    assert_eq!(run.payload.complete, Some(false));
    assert_eq!(run.payload.containers.len(), 1, "{:#?}", run.payload.containers);
}

#[test]
fn a_job_goes_on_when_the_nodes_collector_is_killed() {
    let working = Working::start("killed", steady(40));
    let text = kube(&["--namespace", COLLECTOR, "get", "pods", "--output=json"]);
    let pods: Value = serde_json::from_str(&text).unwrap();
    let id = pods["items"][0]["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    let id = id.rsplit_once('/').unwrap().1;
    let pid = on_node(&format!("ctr --namespace=k8s.io tasks list | awk '$1 == \"{id}\" {{print $2}}'"));
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    let (run, share) = working.end(RECOVERY);
    assert!(RESTARTED.contains(&share), "{share}");
    assert_eq!(run.payload.complete, Some(false));
}

#[test]
fn a_job_is_the_same_when_the_kubelet_restarts() {
    let working = Working::start("kubelet", steady(15));
    let status =
        Command::new(told("CLUSTER_XTASK")).args(["cluster", "restart", "kubelet"]).status().unwrap();
    assert!(status.success());
    let (run, share) = working.end(RECOVERY);
    assert!((0.98..=1.02).contains(&share), "{share}");
    assert_eq!(run.payload.complete, Some(true));
}

#[test]
fn a_receiver_that_is_gone_for_two_minutes_has_every_run_afterwards() {
    let scale = |replicas: &str| {
        kube(&["--namespace", RECEIVER, "scale", "statefulset/receiver", &format!("--replicas={replicas}")]);
    };
    let working = Working::start("absent", steady(15));
    scale("0");
    let gone = Instant::now();
    until_over(&working.pod);
    std::thread::sleep(Duration::from_mins(2).saturating_sub(gone.elapsed()));
    scale("1");
    kube(&["--namespace", RECEIVER, "rollout", "status", "statefulset/receiver", "--timeout=120s"]);
    let (run, share) = working.end(RECOVERY);
    assert!((0.98..=1.02).contains(&share), "{share}");
    assert_eq!(run.payload.complete, Some(true));
}

#[test]
fn a_pod_that_the_kubelet_evicts_is_a_run() {
    // The sleep lets the pod's status report the container's id. An evicted pod's status does not always have it.
    let full = format!("sleep 10; head -c 30M /dev/zero > /scratch/full; while :; do {BURN}; done");
    let mut job = container("build", &full);
    job["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    let job = kinds::with(
        spec(&[job]),
        &json!({"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "10Mi"}}]}),
    );
    let working = Working::start("evicted", job);
    let evicted = until_over(&working.pod);
    assert_eq!(evicted["status"]["reason"], "Evicted", "{evicted:#}");
    let (_, share) = working.end(RECOVERY);
    assert!((0.98..=1.02).contains(&share), "{share}");
}

#[test]
fn a_receiver_whose_volume_is_full_says_so_and_has_every_run_once_it_is_not() {
    let working = Working::start("full", steady(10));
    on_node("dd if=/dev/zero of=/volumes/receiver/filler bs=1M 2>/dev/null || true; sync");
    let result = std::panic::catch_unwind(|| {
        until("the receiver's own word that it cannot write", || {
            let log = kube(&["--namespace", RECEIVER, "logs", "statefulset/receiver", "--since=120s"]);
            log.contains("full").then_some(())
        });
        // Stored runs can still be read.
        assert_eq!(receiver("GET", "/api/v1/jobs", "").status, 200);
    });
    on_node("rm -f /volumes/receiver/filler");
    if let Err(wrong) = result {
        std::panic::resume_unwind(wrong);
    }
    let (_, share) = working.end(RECOVERY);
    assert!((0.98..=1.02).contains(&share), "{share}");
}

#[test]
fn a_wrong_token_that_is_replaced_in_the_secret_is_picked_up_without_a_restart() {
    let volumes = kube(&[
        "--namespace",
        COLLECTOR,
        "get",
        "daemonset",
        "collector",
        "--output=jsonpath={.spec.template.spec.volumes[?(@.name==\"token\")].secret.secretName}",
    ]);
    let secret = volumes.trim();
    let read = || {
        let path = "--output=jsonpath={.data.push-token}";
        kube(&["--namespace", COLLECTOR, "get", "secret", secret, path])
    };
    let write = |encoded: &str| {
        let patch = json!({"data": {"push-token": encoded}}).to_string();
        kube(&["--namespace", COLLECTOR, "patch", "secret", secret, "--patch", &patch]);
    };
    let right = read();
    let log = || kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector", "--since=60s"]);
    // 64 hexadecimal digits that are not a valid token.
    write("MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA==");
    until("the wrong token in the pod", || {
        let mounted = on_node("cat /var/lib/kubelet/pods/*/volumes/kubernetes.io~secret/token/push-token");
        mounted.contains("0000000000000000000000000000").then_some(())
    });
    let result = std::panic::catch_unwind(|| {
        let working = Working::start("refused", steady(3));
        until("the refusal", || log().contains("403").then_some(()));
        working
    });
    write(&right);
    let working = match result {
        Ok(working) => working,
        Err(wrong) => std::panic::resume_unwind(wrong),
    };
    let restarts = || {
        kube(&[
            "--namespace",
            COLLECTOR,
            "get",
            "pods",
            "--output=jsonpath={.items[*].metadata.name} {.items[*].status.containerStatuses[*].restartCount}",
        ])
    };
    let before = restarts();
    let (_, share) = working.end(RECOVERY);
    assert!((0.98..=1.02).contains(&share), "{share}");
    assert_eq!(restarts(), before);
}

/// Jobs that this token does not fit delay no others and do not fill the log.
#[test]
fn jobs_that_the_token_does_not_fit_stay_in_the_spool_and_hold_nobody_up() {
    namespace();
    let run_id = run_id();
    for number in 0..3 {
        let kind = Kind::of("foreign", spec(&[container("build", &format!("{BURN}; sleep 4"))]));
        let mut foreign = with_identity(&kind, &format!("foreign-{number}"), &run_id);
        let env = &mut foreign["containers"][0]["env"];
        env[0]["value"] = json!("other-org");
        env[1]["value"] = json!("other-org/other-repo");
        start(NAMESPACE, &format!("foreign-{number}-{run_id}"), &foreign);
    }
    for number in 0..3 {
        until_over(&format!("foreign-{number}-{run_id}"));
    }
    let (_, share) = Working::start("fitting", steady(5)).end(Duration::from_secs(30));
    assert!((0.98..=1.02).contains(&share), "{share}");
    // Longer than the delay before the first retry.
    std::thread::sleep(Duration::from_secs(75));
    let log = kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector", "--since=75s"]);
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("WARN") && (line.contains("other-org") || line.contains("403")))
        .collect();
    assert!(warnings.len() <= 1, "{warnings:#?}");
    on_node("rm -f /var/lib/runner-resource-collector/*");
    kube(&["--namespace", NAMESPACE, "delete", "pods", "--all", "--wait=false"]);
}

#[test]
fn both_programs_are_upgraded_under_load_and_no_run_is_lost() {
    for program in ["collector", "receiver"] {
        let image = format!("docker.io/runner-resource-collector/{program}");
        on_node(&format!("ctr --namespace=k8s.io images tag --force {image}:{VERSION} {image}:next"));
    }
    namespace();
    let run_id = run_id();
    let jobs: Vec<String> = (0..8).map(|number| format!("upgraded-{number}")).collect();
    for (number, job) in jobs.iter().enumerate() {
        let kind = Kind::of("upgraded", steady(8 + 3 * number as u32));
        start(NAMESPACE, &format!("{job}-{run_id}"), &with_identity(&kind, job, &run_id));
    }
    let image = |tag: &str| {
        for (namespace, what, program) in
            [(COLLECTOR, "daemonset/collector", "collector"), (RECEIVER, "statefulset/receiver", "receiver")]
        {
            let image = format!("{program}=runner-resource-collector/{program}:{tag}");
            kube(&["--namespace", namespace, "set", "image", what, &image]);
        }
        for (namespace, what) in [(COLLECTOR, "daemonset/collector"), (RECEIVER, "statefulset/receiver")] {
            kube(&["--namespace", namespace, "rollout", "status", what, "--timeout=120s"]);
        }
    };
    std::thread::sleep(Duration::from_secs(10));
    image("next");
    for job in &jobs {
        until_over(&format!("{job}-{run_id}"));
        let rows = rows_of(job, &run_id, RECOVERY);
        assert_eq!(rows.len(), 1, "{job}: {rows:#?}");
    }
    image(VERSION);
    kube(&["--namespace", NAMESPACE, "delete", "pods", "--all", "--wait=false"]);
}
