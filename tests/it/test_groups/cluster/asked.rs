//! Access by kubectl to the cluster that `cargo xtask test` brought up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http::{Answer, request};
use wire::Payload;

/// The namespace of the tests' jobs.
pub(super) const NAMESPACE: &str = "jobs";
/// The receiver's namespace.
pub(super) const RECEIVER: &str = "runner-resource-collector";
/// The node collector's namespace.
pub(super) const COLLECTOR: &str = "runner-resource-collector-node";
/// The read token of the overlay `try`.
pub(super) const READ_TOKEN: &str = "dummyreadtoken";
/// The image that jobs run in, a Debian with compilers.
pub(super) const BUILD: &str = concat!("runner-resource-collector/build:", env!("CARGO_PKG_VERSION"));
/// Without pulling, starting everything takes seconds. Jobs take up to some tens of seconds.
const PATIENCE: Duration = Duration::from_mins(5);

/// A variable that `cargo xtask test` sets for the cluster's tests.
pub(super) fn told(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: cargo xtask test --group cluster"))
}

pub(super) fn kubectl(arguments: &[&str]) -> Command {
    let mut kubectl = Command::new(told("CLUSTER_KUBECTL"));
    kubectl.args(arguments);
    kubectl
}

/// Runs kubectl and returns its standard output.
#[track_caller]
pub(super) fn kube(arguments: &[&str]) -> String {
    let output = kubectl(arguments).output().unwrap();
    assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Creates or changes an object.
#[track_caller]
pub(super) fn apply(object: &Value) {
    let output = fed(kubectl(&["apply", "--filename=-"]), &object.to_string());
    assert!(output.status.success(), "{}\n{object:#}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a command with this standard input.
pub(super) fn fed(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs a shell command in the node's namespaces.
#[track_caller]
pub(super) fn on_node(script: &str) -> String {
    let keeper = told("CLUSTER_NODE");
    let output = Command::new("nsenter")
        .args(["--target", &keeper, "--mount", "--net", "--uts", "sh", "-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The log of a pod's container, or kubectl's error.
pub(super) fn log(pod: &str, container: &str) -> String {
    let mut logs = kubectl(&["--namespace", NAMESPACE, "logs", pod, "--container", container]);
    let output = logs.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Creates the namespace of jobs, with the label that lets it push and the secret with the push token.
pub(super) fn namespace() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(make_namespace);
}

fn make_namespace() {
    apply(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"runner-resource-collector/client": "true"}},
    }));
    apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "collector", "namespace": NAMESPACE},
        "stringData": {"push-token": push_token("my-org")},
    }));
}

/// A push token for all jobs of an organization.
pub(super) fn push_token(organization: &str) -> String {
    let answer = receiver("POST", "/api/v1/token", &json!({"organization": organization}).to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// Sends a request to the receiver.
pub(super) fn receiver(method: &str, path: &str, body: &str) -> Answer {
    let address = told("CLUSTER_RECEIVER");
    request(address.trim_start_matches("http://"), method, path, READ_TOKEN, body)
}

/// Polls until there is an answer.
#[track_caller]
pub(super) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll(ask).unwrap_or_else(|| panic!("{what}: not within {} s", PATIENCE.as_secs()))
}

/// Polls until there is an answer, or until it is too late for one.
fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The receiver's runs of a job, newest first.
pub(super) fn runs(job: &str) -> Vec<Run> {
    let answer = receiver("GET", &format!("/api/v1/metrics/repo/my-org/my-repo/ci.yml/{job}"), "");
    // The receiver does not know a job before its first push.
    if answer.status == 404 {
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{}", answer.body);
    let all: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
    all.into_iter()
        .map(|run| Run {
            id: run["run_id"].as_str().unwrap().to_owned(),
            payload: serde_json::from_value(run["payload"].clone()).unwrap(),
            row: run,
            is_final: false,
        })
        .collect()
}

/// A run in the receiver.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The CI system's identifier.
    pub(super) id: String,
    pub(super) payload: Payload,
    pub(super) row: Value,
    /// Whether this is the run's last summary.
    pub(super) is_final: bool,
}

/// A unique identifier of a run, even in a cluster that was tested before.
pub(super) fn run_id() -> String {
    tests::cgroup::new_id().unwrap()[..12].to_owned()
}

/// The rows of one run, once its last summary has come. If it does not come in time, the existing rows, marked as not
/// final.
pub(super) fn rows_of(job: &str, run_id: &str, patience: Duration) -> Vec<Run> {
    let end = Instant::now() + patience;
    loop {
        // The final flags are read first, so the payload is of the same summary or a newer one.
        let listed = listed(job);
        let is_final =
            |run: &Run| listed.iter().any(|one| one["id"] == run.row["id"] && one["final"] == true);
        let mut rows: Vec<Run> = runs(job).into_iter().filter(|run| run.id == run_id).collect();
        for run in &mut rows {
            run.is_final = is_final(run);
        }
        let over = !rows.is_empty() && rows.iter().all(|run| run.is_final);
        if over || Instant::now() > end {
            return rows;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The runs of a job without their payloads.
pub(super) fn listed(job: &str) -> Vec<Value> {
    let answer = receiver("GET", &format!("/api/v1/jobs/my-org/my-repo/ci.yml/{job}/runs"), "");
    let listed = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
    listed.as_array().or_else(|| listed["runs"].as_array()).cloned().unwrap_or_default()
}

/// A pod from the API.
pub(super) fn pod(name: &str) -> Value {
    let text = kube(&["--namespace", NAMESPACE, "get", "pod", name, "--output=json"]);
    serde_json::from_str(&text).unwrap()
}

/// The same; `None` once it is gone.
pub(super) fn pod_if_there(name: &str) -> Option<Value> {
    let text = kube(&["--namespace", NAMESPACE, "get", "pod", name, "--ignore-not-found", "--output=json"]);
    serde_json::from_str(&text).ok()
}

/// Waits until a pod ends. Returns its last state, with the ids of all its containers by name in `pod["seen"]`, because a
/// status shows at most the last restart.
#[track_caller]
pub(super) fn until_over(name: &str) -> Value {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let over = poll(|| {
        let mut pod = pod(name);
        for (container, id) in told_ids(&pod) {
            seen.entry(container).or_default().insert(id);
        }
        pod["seen"] = json!(seen);
        matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")).then_some(pod)
    });
    over.unwrap_or_else(|| {
        let events = format!("--field-selector=involvedObject.name={name}");
        let status = &pod(name)["status"];
        panic!(
            "the pod {name} has not ended within {} s: {} {}\n{status}\n{}\n{}",
            PATIENCE.as_secs(),
            status["phase"],
            status["containerStatuses"][0]["state"],
            kube(&["--namespace", NAMESPACE, "get", "events", &events]),
            on_node("ps axo pid,ppid,stat,etimes,wchan:30,args --forest | grep -v '\\]$'"),
        )
    })
}

/// The ids of a pod's container, restarts included.
pub(super) fn container_ids(pod: &Value, container: &str) -> Vec<String> {
    let seen = pod["seen"][container].as_array().into_iter().flatten();
    let told = told_ids(pod).into_iter().filter(|(name, _)| name == container).map(|(_, id)| id);
    let all: BTreeSet<String> =
        seen.filter_map(|id| id.as_str().map(ToOwned::to_owned)).chain(told).collect();
    all.into_iter().collect()
}

/// The names and ids of the containers in a pod's status.
fn told_ids(pod: &Value) -> Vec<(String, String)> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    all.flat_map(|one| {
        let name = one["name"].as_str().unwrap_or_default();
        let ids = [&one["containerID"], &one["lastState"]["terminated"]["containerID"]];
        ids.into_iter().filter_map(|id| Some((name.to_owned(), id.as_str()?.rsplit_once("//")?.1.to_owned())))
    })
    .collect()
}

/// The root of the workspace.
pub(super) fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
