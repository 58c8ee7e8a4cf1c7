//! Jobs of a real runner's engine: act, with which the Gitea and Forgejo runners execute jobs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::account::Account;
use super::asked::{
    BUILD, NAMESPACE, Run, kube, namespace, project, push_token, receiver, rows_of, run_id, runs, told,
    until, until_over,
};
use super::kinds::{BURN, container, spec, with};
use super::known::Cases;
use super::measured::{BUSY, kernel, start};

/// A job ends when its container is gone. If its pod continues, the job ends a minute after its last process.
const DELIVERY: Duration = Duration::from_secs(90);
/// The image that jobs run in, in act's notation.
const PLATFORM: &str = concat!("ubuntu-latest=runner-resource-collector/build:", env!("CARGO_PKG_VERSION"));

/// A repository with a workflow of jobs, each with one step.
fn repository(directory: &Path, jobs: &Value) {
    let git = directory.join(".git");
    for below in ["objects", "refs/heads"] {
        fs::create_dir_all(git.join(below)).unwrap();
    }
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let origin = "[core]\n\trepositoryformatversion = 0\n[remote \"origin\"]\n\turl = https://github.com/my-org/my-repo\n";
    fs::write(git.join("config"), origin).unwrap();
    let workflows = directory.join(".github/workflows");
    fs::create_dir_all(&workflows).unwrap();
    let workflow = json!({"name": "ci.yml", "on": "push", "jobs": jobs});
    fs::write(workflows.join("ci.yml"), workflow.to_string()).unwrap();
}

/// A job whose only step runs a script.
fn job(script: &str) -> Value {
    json!({"runs-on": "ubuntu-latest", "steps": [{"shell": "sh", "run": script}]})
}

fn flags(platform: &str, run_id: &str) -> Vec<String> {
    let run_id = format!("GITHUB_RUN_ID={run_id}");
    let flags = ["push", "--platform", platform, "--pull=false", "--no-cache-server", "--concurrent-jobs=5"];
    flags
        .iter()
        .chain(&["--container-daemon-socket=-", "--rm", "--env", &run_id])
        .map(|flag| (*flag).to_owned())
        .collect()
}

/// Runs a workflow in the machine's Docker Engine.
fn act(directory: &Path, run_id: &str) {
    let (ended_well, told) = try_act(directory, run_id);
    assert!(ended_well, "{told}");
}

/// Whether all jobs of a workflow succeeded, and act's output.
fn try_act(directory: &Path, run_id: &str) -> (bool, String) {
    let mut act = Command::new(told("CLUSTER_ACT"));
    let output = act.args(flags(PLATFORM, run_id)).current_dir(directory).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.success(), format!("{out}\n{err}"))
}

/// The errors in a job's run, which must have exactly one row. The containers are identified by their ids.
fn wrong(rows: &[Run], account: &Account) -> Vec<String> {
    let [run] = rows else { return vec![format!("{} rows of one run", rows.len())] };
    if !run.is_final {
        return vec![format!("no last summary within {DELIVERY:?}")];
    }
    let mut wrong = Vec::new();
    for row in &run.payload.containers {
        let charged = row.id.as_deref().and_then(|id| account.of(id));
        let ours = row.cpu_seconds.unwrap_or_default();
        match charged {
            None => wrong.push(format!("{}: no container that the kernel knows", row.name)),
            Some(charged) if !BUSY.agree(ours, charged.cpu_seconds) => {
                wrong.push(format!("{}: {ours:.3} of {:.3} s", row.name, charged.cpu_seconds));
            }
            Some(_) => {}
        }
    }
    wrong
}

#[test]
fn jobs_in_containers_of_an_engine_are_runs_of_their_own_and_get_a_recommendation() {
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let directory = tempfile::tempdir().unwrap();
    let work = format!("{BURN}; sleep 4");
    let legs = with(job(&work), &json!({"strategy": {"matrix": {"leg": [1, 2, 3]}}}));
    let contained = json!({
        "container": BUILD,
        "services": {"idle": {"image": concat!("runner-resource-collector/pause:", env!("CARGO_PKG_VERSION"))}},
    });
    let jobs = json!({
        "act-plain": job(&work), "act-matrix": legs, "act-contained": with(job(&work), &contained),
        "act-brief": job("i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done"),
    });
    repository(directory.path(), &jobs);
    let mut cases = Cases::default();
    let mut last = String::new();
    for _ in 0..3 {
        last = run_id();
        act(directory.path(), &last);
    }
    for job in ["act-plain", "act-contained", "act-brief"] {
        cases.take(job, wrong(&rows_of(job, &last, DELIVERY), &account));
    }
    let legs = rows_of("act-matrix", &last, DELIVERY);
    cases.take(
        "act-matrix",
        if legs.len() == 3 { Vec::new() } else { vec![format!("{} rows of 3 legs", legs.len())] },
    );
    let answer = receiver("GET", "/api/v1/sizing/repo/my-org/my-repo/ci.yml/act-plain", "");
    let sizing: Value = serde_json::from_str(&answer.body).unwrap();
    let statuses: Vec<_> =
        sizing["containers"].as_array().into_iter().flatten().map(|one| &one["status"]).collect();
    let advised = !statuses.is_empty() && statuses.iter().all(|status| **status == "recommended");
    let told = format!("after {} runs: {statuses:?}", runs("act-plain").len());
    cases.take("act-recommendation", if advised { Vec::new() } else { vec![told] });
    cases.finish();
}

/// Mounts a directory of the machine in a pod.
fn host_path(name: &str, path: &Path) -> (Value, Value) {
    (
        json!({"name": name, "hostPath": {"path": path, "type": "Directory"}}),
        json!({"name": name, "mountPath": format!("/{name}"), "readOnly": true}),
    )
}

/// The errors in the runs of five jobs that did the same work at once in a pod to which the kernel charged this CPU time, of
/// which at least this share was used while jobs ran.
fn wrong_fifths(prefix: &str, run_id: &str, charged: f64, least: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut used, mut shared) = (Vec::new(), 0.0);
    for number in 0..5 {
        let rows = rows_of(&format!("{prefix}-{number}"), run_id, DELIVERY);
        if rows.len() != 1 {
            wrong.push(format!("job {number}: {} rows", rows.len()));
        }
        let payloads = || rows.iter().map(|row| &row.payload);
        shared += payloads()
            .filter_map(|payload| payload.pod_overhead.as_ref())
            .map(|overhead| overhead.cpu_seconds)
            .sum::<f64>();
        let containers = payloads().flat_map(|payload| &payload.containers);
        used.push(containers.filter_map(|row| row.cpu_seconds).sum::<f64>());
    }
    let own = used.iter().sum::<f64>();
    used.sort_by(f64::total_cmp);
    let (first, others) = used.split_last().unwrap();
    let usual = others.iter().sum::<f64>() / 4.0;
    println!("{prefix}: {used:.3?} s and {shared:.3} s that they share, of {charged:.3} s");
    // The first one's includes what the runner did until the second one began, which takes long on a busy machine.
    if others.iter().any(|one| (one - usual).abs() > usual * 0.3) || *first > usual * 2.5 {
        wrong.push(format!("five equal jobs used {used:.2?} s"));
    }
    // Nothing counts twice. What the runner did before it had a job is no job's.
    if own + shared > charged * 1.01 + 0.02 || own + shared < charged * least {
        wrong.push(format!("five jobs used {own:.3} s and share {shared:.3} s, of {charged:.3} s"));
    }
    wrong
}

fn five_jobs(prefix: &str) -> Value {
    let jobs = (0..5).map(|number| (format!("{prefix}-{number}"), job(&format!("{BURN}; sleep 4"))));
    Value::Object(jobs.collect())
}

/// A pod with a runner whose jobs are processes in its own container.
#[test]
fn five_jobs_at_once_in_a_runners_own_container_are_five_runs() {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    // Among the cluster's own files, because the node sees them at the same path.
    let directory = tempfile::tempdir_in(project().join("target/cluster/run")).unwrap();
    repository(directory.path(), &five_jobs("host"));
    let run_id = run_id();
    let act = told("CLUSTER_ACT");
    let (act_volume, act_mount) = host_path("act", Path::new(&act).parent().unwrap());
    let (work_volume, work_mount) = host_path("work", directory.path());
    let script = format!(
        "cp -r /work /tmp/work; cd /tmp/work; /act/act {}",
        flags("ubuntu-latest=-self-hosted", &run_id).join(" ")
    );
    let runner = with(container("runner", &script), &json!({"volumeMounts": [act_mount, work_mount]}));
    let name = format!("host-mode-{run_id}");
    start(NAMESPACE, &name, &with(spec(&[runner]), &json!({"volumes": [act_volume, work_volume]})));
    let pod = until_over(&name);
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", kube(&["--namespace", NAMESPACE, "logs", &name]));
    let charged = kernel(&account, &pod)["runner"].cpu_seconds;
    assert!(charged > 2.0, "the jobs ran in the runner's container");
    let mut cases = Cases::default();
    cases.take("act-five-in-host-mode", wrong_fifths("host", &run_id, charged, 0.95));
    cases.finish();
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
}

/// A privileged pod with an engine of its own, as in `deploy/runners`.
#[test]
fn five_jobs_at_once_in_an_engine_inside_a_pod_are_five_runs() {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let directory = tempfile::tempdir_in(project().join("target/cluster/run")).unwrap();
    repository(directory.path(), &five_jobs("inner"));
    let run_id = run_id();
    let act = told("CLUSTER_ACT");
    let (act_volume, act_mount) = host_path("act", Path::new(&act).parent().unwrap());
    let (work_volume, work_mount) = host_path("work", directory.path());
    let image = told("CLUSTER_BUILD_IMAGE");
    let image = Path::new(&image);
    let (cache_volume, cache_mount) = host_path("cache", image.parent().unwrap());
    let script = format!(
        "mount -t tmpfs tmpfs /tmp\ndockerd >/tmp/log 2>&1 &\nengine=$!\nuntil docker version >/dev/null 2>&1; do sleep 0.2; done\n\
         docker load --quiet --input /cache/{}\ncp -r /work /tmp/work; cd /tmp/work; /act/act {}\n\
         kill $engine; wait $engine || true",
        image.file_name().unwrap().to_string_lossy(),
        flags(PLATFORM, &run_id).join(" ")
    );
    let runner = with(
        container("runner", &script),
        &json!({
            "volumeMounts": [act_mount, work_mount, cache_mount, {"name": "docker", "mountPath": "/var/lib/docker"}],
            "securityContext": {"privileged": true},
        }),
    );
    let name = format!("engine-mode-{run_id}");
    let volumes =
        json!({"volumes": [act_volume, work_volume, cache_volume, {"name": "docker", "emptyDir": {}}]});
    start(NAMESPACE, &name, &with(spec(&[runner]), &volumes));
    let pod = until_over(&name);
    assert_eq!(pod["status"]["phase"], "Succeeded", "{}", kube(&["--namespace", NAMESPACE, "logs", &name]));
    let charged = kernel(&account, &pod)["runner"].cpu_seconds;
    let mut cases = Cases::default();
    cases.take("act-five-in-an-engine-in-a-pod", wrong_fifths("inner", &run_id, charged, 0.2));
    cases.finish();
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
}

/// A step of a workflow that uses the action from a copy in the repository.
#[test]
fn a_step_that_uses_the_action_is_a_run_and_ends_as_it_would_alone() {
    let directory = tempfile::tempdir().unwrap();
    let step = |script: &str| {
        let inputs = json!({
            "run": script, "collector": "/collector/collector", "interval": "1s",
            "push-endpoint": format!("{}/api/v1/metrics", told("CLUSTER_RECEIVER")),
            "push-token": push_token("my-org"),
        });
        let programs = project().join("deploy/images/made-by-cargo-xtask-images/native");
        let container = json!({"image": BUILD, "volumes": [format!("{}:/collector:ro", programs.display())]});
        json!({
            "runs-on": "ubuntu-latest", "container": container,
            // act has the repository already, and copies it.
            "steps": [{"uses": "actions/checkout@v4"}, {"uses": "./deploy/action", "with": inputs}],
        })
    };
    let tried = |job: &str, script: &str| {
        repository(directory.path(), &json!({job: step(script)}));
        let action = directory.path().join("deploy/action");
        fs::create_dir_all(&action).unwrap();
        fs::copy(project().join("deploy/action/action.yml"), action.join("action.yml")).unwrap();
        let run_id = run_id();
        let (ended_well, told) = try_act(directory.path(), &run_id);
        // The node's collector may see the container as well.
        let steps =
            |rows: &[Run]| rows.iter().flat_map(|row| &row.payload.containers).any(|one| one.name == "run");
        until("the step's summary", || steps(&rows_of(job, &run_id, DELIVERY)).then_some(()));
        (ended_well, told)
    };
    let (ended_well, told) = tried("act-action", &format!("{BURN}; echo \"$GITHUB_JOB is measured\""));
    assert!(ended_well && told.contains("act-action is measured"), "{told}");
    let (ended_well, told) = tried("act-action-fails", &format!("{BURN}; exit 7"));
    assert!(!ended_well && told.contains("exitcode '7'"), "{told}");
}

/// A step of a job under `collector run`, as in `deploy/action`, in an image without CA certificates.
#[test]
fn a_step_under_the_wrapper_runs_in_an_image_without_certificates() {
    namespace();
    let programs = project().join("deploy/images/made-by-cargo-xtask-images/native");
    let (volume, mount) = host_path("collector", &programs);
    let (job, run_id) = ("wrapped", run_id());
    let script = "test ! -e /etc/ssl/certs/ca-certificates.crt\nset +e\n/collector/collector run -- sh -ec 'sleep 3; exit 7'\ntest $? = 7";
    let mut build = container("build", script);
    let mut env = super::measured::identity(job, &run_id).as_array().unwrap().clone();
    let endpoint = "http://receiver.runner-resource-collector.svc:8080/api/v1/metrics";
    env.push(json!({"name": "COLLECTOR_PUSH_ENDPOINT", "value": endpoint}));
    env.push(json!({"name": "COLLECTOR_PUSH_TOKEN", "value": push_token("my-org")}));
    build["env"] = json!(env);
    build["volumeMounts"] = json!([mount]);
    let name = format!("wrapped-{run_id}");
    start(NAMESPACE, &name, &with(spec(&[build]), &json!({"volumes": [volume]})));
    let pod = until_over(&name);
    let log = kube(&["--namespace", NAMESPACE, "logs", &name]);
    assert_eq!(pod["status"]["phase"], "Succeeded", "{log}");
    // The node's collector sees the pod, too, and pushes its own summary.
    let rows = until("the wrapper's summary", || {
        let rows = rows_of(job, &run_id, DELIVERY);
        rows.iter().any(|row| row.payload.containers.iter().any(|one| one.name == "run")).then_some(rows)
    });
    assert!(rows.iter().all(|row| row.id == run_id));
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
}
