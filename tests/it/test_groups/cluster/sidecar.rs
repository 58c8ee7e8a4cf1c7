//! Every kind of job with a collector in its pod, as in `deploy/kubernetes`.

use std::time::Duration;

use serde_json::{Value, json};
use wire::Payload;

use super::account::Account;
use super::asked::{NAMESPACE, kube, log, namespace, project, rows_of, run_id, told, until, until_over};
use super::kinds::{self, Kind};
use super::known::Cases;
use super::measured::{BUSY, Within, identity, kernel, start, wrong_cpu};
use super::ways;

/// A collector that may not read the job's account sees its processes every 50 ms. It loses the last moments of the first
/// process.
const OTHER_USER: Within = Within { share: 0.05, least: 0.1 };
/// A sidecar pushes at once after the end of its job.
const DELIVERY: Duration = Duration::from_secs(30);

/// The spec of a shipped job's pod.
fn shipped(directory: &str) -> Value {
    let directory = project().join("deploy/kubernetes").join(directory);
    let job: Value = serde_saphyr::from_str(&kube(&["kustomize", &directory.to_string_lossy()])).unwrap();
    job["spec"]["template"]["spec"].clone()
}

/// The shipped job's pod with a job of a kind instead of its own, and with that job's identity. Nothing else changes.
fn in_place(shipped: &Value, kind: &Kind, job: &str, run_id: &str) -> Value {
    let mut pod = shipped.clone();
    let is_collector = |container: &Value| container["name"] == "collector";
    let lists = ["initContainers", "containers"];
    let mut collector = lists
        .iter()
        .filter_map(|list| shipped[list].as_array())
        .flatten()
        .find(|container| is_collector(container))
        .unwrap()
        .clone();
    // On the command line, because the node's collector ignores it. So all figures are the sidecar's.
    collector["env"] = json!([]);
    let told = [
        "--organization=my-org",
        "--repository=my-org/my-repo",
        "--workflow=ci.yml",
        &format!("--job={job}"),
        &format!("--run-id={run_id}"),
    ];
    collector["args"].as_array_mut().unwrap().extend(told.map(Into::into));
    let native = collector["restartPolicy"] == "Always";
    for list in lists {
        let mut containers = kind.spec[list].as_array().cloned().unwrap_or_default();
        for container in &mut containers {
            // The permissions of the shipped job, unless the kind has its own.
            let shipped_job =
                shipped["containers"].as_array().unwrap().iter().find(|one| !is_collector(one)).unwrap();
            if container["securityContext"].is_null() {
                container["securityContext"] = shipped_job["securityContext"].clone();
            }
            if !native && list == "containers" {
                let script = container["command"][2].as_str().unwrap();
                container["command"][2] =
                    json!(format!("trap 'pkill -TERM -x collector || true' EXIT\n{script}"));
            }
        }
        match (native, list) {
            (true, "initContainers") | (false, "containers") => containers.insert(0, collector.clone()),
            _ => {}
        }
        pod[list] = json!(containers);
    }
    if !native {
        // A job that is killed, or has another user than the collector, cannot stop an ordinary container. Init containers are
        // slow if many pods run at once.
        pod["activeDeadlineSeconds"] = json!(if kind.name == "init" { 150 } else { 60 });
    }
    pod["restartPolicy"] = kind.spec["restartPolicy"].clone();
    let mut volumes = shipped["volumes"].as_array().cloned().unwrap_or_default();
    volumes.extend(kind.spec["volumes"].as_array().cloned().unwrap_or_default());
    pod["volumes"] = json!(volumes);
    pod
}

/// Every kind of job, and every way in which a pod gets a job.
fn every_kind(directory: &str, mode: &str, within: Within) {
    let shipped = shipped(directory);
    let all = kinds::all();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut cases = Cases::default();
            let place = |kind: &Kind, job: &str, run_id: &str| in_place(&shipped, kind, job, run_id);
            ways::all(&mut cases, mode, &place, within, DELIVERY);
            cases.finish();
        });
        let mut cases = Cases::default();
        follow(&mut cases, &all.iter().map(|kind| (kind, mode, &shipped, within)).collect::<Vec<_>>());
        cases.finish();
    });
}

/// The error in what a summary says of a first process that the OOM killer killed: without the cgroup, the signal is known.
fn wrong_kill(kind: &Kind, summary: &Payload) -> Option<String> {
    if kind.name != "oom-first" {
        return None;
    }
    let row = summary.containers.iter().find(|row| row.name == "build")?;
    let is_known = row.oom_kills == Some(1) || (row.oom_kills.is_none() && row.exit_signal == Some(9));
    (!is_known).then(|| format!("OOM kills {:?}, signal {:?}", row.oom_kills, row.exit_signal))
}

/// Runs pods at once, each with a kind, the name of a mode and a shipped pod.
fn follow(cases: &mut Cases, pods: &[(&Kind, &str, &Value, Within)]) {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let run_id = run_id();
    let job = |mode: &str, kind: &Kind| format!("{mode}-{}", kind.name);
    for (kind, mode, shipped, _) in pods {
        let job = job(mode, kind);
        start(NAMESPACE, &format!("{job}-{run_id}"), &in_place(shipped, kind, &job, &run_id));
    }
    for (kind, mode, _, within) in pods {
        let job = job(mode, kind);
        let name = format!("{job}-{run_id}");
        let mut kernel = kernel(&account, &until_over(&name));
        // The collector knows its own CPU time only until its last pass.
        kernel.remove("collector");
        cases.take(
            &job,
            match &rows_of(&job, &run_id, DELIVERY)[..] {
                [] => vec![format!("no run; its collector: {}", log(&name, "collector"))],
                [run] if !run.is_final => vec![format!("no last summary within {DELIVERY:?}")],
                [run] => {
                    let mut summary = run.payload.clone();
                    summary.containers.retain(|row| row.name != "collector");
                    let mut wrong = wrong_cpu(&summary, &kernel, *within);
                    wrong.extend(wrong_kill(kind, &summary));
                    wrong
                }
                rows => vec![format!("{} rows of one run", rows.len())],
            },
        );
        kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    }
}

#[test]
fn thirty_pods_at_once_with_a_sidecar_in_each_are_told_apart_and_right() {
    let modes = [
        ("native", "sidecar", OTHER_USER),
        ("classic", "sidecar-classic", OTHER_USER),
        ("same-user", "sidecar-same-user", BUSY),
    ];
    let modes = modes.map(|(mode, directory, within)| (mode, shipped(directory), within));
    let crowd = kinds::crowd();
    let pods: Vec<_> = crowd
        .iter()
        .zip(modes.iter().cycle())
        .map(|(kind, (mode, shipped, within))| (kind, *mode, shipped, *within))
        .collect();
    let mut cases = Cases::default();
    follow(&mut cases, &pods);
    cases.finish();
}

#[test]
fn a_native_sidecar_tells_most_of_what_the_kernel_charged_to_each_container() {
    every_kind("sidecar", "native", OTHER_USER);
}

#[test]
fn a_native_sidecar_of_the_jobs_user_tells_what_the_kernel_charged_to_each_container() {
    every_kind("sidecar-same-user", "same-user", BUSY);
}

#[test]
fn a_classic_sidecar_tells_most_of_what_the_kernel_charged_to_each_container() {
    every_kind("sidecar-classic", "classic", OTHER_USER);
}

/// If the node's collector and a sidecar see the same pod, it is one run with the better figures of both.
#[test]
fn what_a_sidecar_and_the_nodes_collector_tell_of_one_pod_is_one_run() {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let (job, run_id) = ("both", run_id());
    let kind =
        Kind::of("both", kinds::spec(&[kinds::container("build", &format!("{}; sleep 4", kinds::COMPILE))]));
    let mut spec = in_place(&shipped("sidecar"), &kind, job, &run_id);
    for container in spec["containers"].as_array_mut().unwrap() {
        container["env"] = identity(job, &run_id);
    }
    let name = format!("both-{run_id}");
    start(NAMESPACE, &name, &spec);
    let kernel = kernel(&account, &until_over(&name));
    let row = until("both summaries in one row", || {
        let rows = rows_of(job, &run_id, Duration::from_secs(20));
        let [row] = &rows[..] else { return None };
        (row.row["sources"].as_array().is_some_and(|sources| sources.len() == 2)).then(|| row.clone())
    });
    let mut of_job = kernel;
    of_job.remove("collector");
    let mut summary = row.payload;
    summary.containers.retain(|one| one.name != "collector");
    let wrong = wrong_cpu(&summary, &of_job, BUSY);
    assert!(wrong.is_empty(), "{wrong:?}");
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
}
