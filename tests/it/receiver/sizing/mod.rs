//! A job's recommendation, over HTTP.

mod forms;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http::Answer;
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

const MIB: u64 = 1 << 20;
const JOB: &str = "/api/v1/sizing/repo/my-org/my-repo/ci.yml/build";

/// A container of a run of 100 s, with common values.
fn container(name: &str, cores: f64, peak_mib: u64) -> Value {
    let mut histogram = wire::CpuHistogram::default();
    histogram.add(cores, 100.0);
    json!({
        "name": name,
        "cpu_cores": {"peak": cores, "avg": cores, "p95": cores},
        "memory_bytes": {"peak": 2 * peak_mib * MIB, "avg": MIB},
        "working_set_bytes": {"peak": peak_mib * MIB, "avg": MIB},
        "cpu_cores_histogram": histogram,
        "cpu_request_cores": 4.0,
        "memory_request_bytes": 1024 * MIB, "memory_limit_bytes": 1024 * MIB
    })
}

/// A run of a job with these containers.
fn run(job: &str, run_id: &str, containers: &[Value]) -> Value {
    let mut body = submission();
    body["job"] = json!(job);
    body["run_id"] = json!(run_id);
    body["payload"]["duration_seconds"] = json!(100.0);
    body["payload"]["containers"] = json!(containers);
    body
}

struct Scene {
    receiver: Receiver,
    token: String,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(&directory.path().join("db"));
        let token = receiver.token(&json!({"organization": "my-org"}));
        Self { receiver, token, _directory: directory }
    }

    fn push(&self, body: &Value) {
        let answer = self.receiver.push(&self.token, &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Runs of `build` with one container that has these peaks.
    fn with_peaks(peaks_mib: &[u64]) -> Self {
        let scene = Self::new();
        for (at, peak) in peaks_mib.iter().enumerate() {
            scene.push(&run("build", &format!("{}", 4700 + at), &[container("runner", 1.0, *peak)]));
        }
        scene
    }

    fn get(&self, path: &str) -> Answer {
        self.receiver.request("GET", path, READ_TOKEN, "")
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn yaml(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/yaml")));
        serde_saphyr::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
    }
}

fn reasons(sizing: &Value, resource: &str) -> String {
    let reasons = sizing["containers"][0][resource]["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_steady_job_is_told_its_percentile_and_its_highest_peak() {
    let scene = Scene::with_peaks(&[500, 600, 550]);
    let sizing = scene.json(&format!("{JOB}?max_step_down=25"));
    assert_eq!((&sizing["repository"], &sizing["job"]), (&json!("my-org/my-repo"), &json!("build")));
    assert_eq!(sizing["window"]["runs"], 3);
    let container = &sizing["containers"][0];
    assert_eq!((&container["name"], &container["status"]), (&json!("runner"), &json!("recommended")));
    assert_eq!(container["basis"]["level"], "job");
    assert_eq!(container["basis"]["memory_figure"], "working_set");
    // Each step is at most 25 %, from the 4 cores and the GiB that are requested now.
    assert_eq!((&container["cpu"]["request"], &container["cpu"]["change"]), (&json!("3"), &json!("lower")));
    assert_eq!(container["cpu"]["target_cores"], 1.15);
    assert_eq!(container["cpu"]["limit"], Value::Null);
    assert_eq!(container["memory"]["request"], "768Mi");
    assert_eq!(container["memory"]["target_bytes"], 690 * MIB);
    assert_eq!(container["memory"]["confidence"], 0.75);
    let [lower, target, upper] = ["lower_bound_bytes", "target_bytes", "upper_bound_bytes"]
        .map(|field| container["memory"][field].as_u64().unwrap());
    assert!(lower < target && target < upper, "{lower} {target} {upper}");
    let memory = reasons(&sizing, "memory");
    assert!(memory.contains("memory 690 MiB: peak of run 4701 (working set, 600 MiB) + 15 %"), "{memory}");
    assert!(memory.contains("lowered to 768 MiB for now: at most 25 % at a time"), "{memory}");
    // (4 − 3) cores and (1024 − 768) MiB for three times 100 s.
    assert!((sizing["savings"]["core_hours"].as_f64().unwrap() - 300.0 / 3600.0).abs() < 1e-9);
    assert!((sizing["savings"]["gib_hours"].as_f64().unwrap() - 0.25 * 300.0 / 3600.0).abs() < 1e-9);
    let priced = scene.json(&format!("{JOB}?price_core_hour=12&price_gib_hour=48&max_step_down=100"));
    assert_eq!(priced["containers"][0]["memory"]["request"], "690Mi");
    let money = priced["savings"]["money"].as_f64().unwrap();
    let expected = (2.85 * 12.0 + (1024.0 - 690.0) / 1024.0 * 48.0) * 300.0 / 3600.0;
    assert!((money - expected).abs() < 1e-9, "{money}");
}

#[test]
fn a_killed_run_raises_and_a_run_that_was_held_back_never_lowers() {
    let scene = Scene::with_peaks(&[500, 500, 500, 500]);
    let before = scene.json(&format!("{JOB}?max_step_down=100"))["containers"][0].clone();
    let mut killed = container("runner", 0.2, 300);
    killed["oom_kills"] = json!(1);
    killed["memory_limit_bytes"] = json!(1536 * MIB);
    killed["cpu_periods"] = json!(1000);
    killed["cpu_throttled_periods"] = json!(51);
    scene.push(&run("build", "4711", &[killed]));
    let sizing = scene.json(&format!("{JOB}?max_step_down=100"));
    let after = &sizing["containers"][0];
    assert_eq!(after["cpu"]["request"], before["cpu"]["request"]);
    assert_eq!(after["memory"]["request"], "1844Mi", "1536 × 1.2");
    assert_eq!(after["basis"]["oom_killed_runs"], 1);
    assert_eq!(after["basis"]["throttled_runs"], 1);
    assert_eq!(after["basis"]["censored_runs"], 1);
    assert!(reasons(&sizing, "memory").contains("1 of 5 runs was OOM-killed at 1.5 GiB"), "{sizing:#}");
    assert!(reasons(&sizing, "cpu").contains("1 of 5 runs was throttled for more than 5 %"), "{sizing:#}");
}

#[test]
fn runs_that_all_were_held_back_keep_what_is_requested() {
    let scene = Scene::new();
    for at in 0..3 {
        let mut close = container("runner", 1.0, 980);
        close["cpu_limit_cores"] = json!(1.0);
        scene.push(&run("build", &at.to_string(), &[close]));
    }
    let sizing = scene.json(JOB);
    let container = &sizing["containers"][0];
    assert_eq!(container["cpu"]["request"], "4", "{container:#}");
    assert_eq!(container["basis"]["at_cpu_limit_runs"], 3);
    assert_eq!(container["memory"]["request"], "1127Mi", "98 % of the limit, + 15 %");
    assert_eq!(container["memory"]["upper_bound_bytes"], Value::Null);
    assert_eq!(container["memory"]["confidence"], 0.0);
    assert!(reasons(&sizing, "memory").contains("at least this much is needed"), "{sizing:#}");
    assert!(reasons(&sizing, "cpu").contains("kept at 4.00 cores"), "{sizing:#}");
}

#[test]
fn a_job_without_limits_is_told_what_it_needs_and_not_what_its_node_has() {
    let scene = Scene::new();
    for at in 0..3 {
        let mut free = container("runner", 0.2, 32);
        for field in ["memory_limit_bytes", "memory_request_bytes", "cpu_request_cores"] {
            free.as_object_mut().unwrap().remove(field);
        }
        // The memory that a kubelet allows pods on a node with 24 GiB, and the pod's own CPU limit.
        free["memory_bound_bytes"] = json!(47 * 512 * MIB);
        free["cpu_bound_cores"] = json!(0.5);
        (free["cpu_periods"], free["cpu_throttled_periods"]) = (json!(1000), json!(0));
        scene.push(&run("build", &at.to_string(), &[free]));
    }
    let sizing = scene.json(JOB);
    let told = &sizing["containers"][0];
    assert_eq!((&told["memory"]["request"], &told["memory"]["change"]), (&json!("37Mi"), &json!("unknown")));
    assert_eq!(told["memory"]["current_bound_bytes"], json!(47 * 512 * MIB));
    assert_eq!(told["memory"].get("current_limit_bytes"), None);
    assert_eq!((&told["basis"]["censored_runs"], &told["savings"]["gib_hours"]), (&json!(0), &json!(0.0)));
    let reasons = reasons(&sizing, "memory");
    assert!(reasons.contains("no limit of its own; its pod, slice or node allows 23.5 GiB"), "{reasons}");
    assert!(!reasons.contains("lowered"), "{reasons}");
    // The page agrees and draws no limit.
    let csv = scene.receiver.request("GET", "/api/v1/export?format=csv", READ_TOKEN, "").body;
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let cell = |name: &str| rows[1][rows[0].iter().position(|head| *head == name).unwrap()];
    assert_eq!((cell("memory_limit_bytes"), cell("cpu_limit_cores")), ("", ""));
    assert_eq!((cell("memory_bound_bytes"), cell("cpu_bound_cores")), ("25232932864", "0.5"));
}

#[test]
fn a_new_job_is_told_what_its_workflow_and_its_repository_need() {
    let scene = Scene::new();
    let push = |workflow: &str, job: &str, name: &str, peak: u64| {
        let mut body = run(job, &peak.to_string(), &[container(name, 1.0, peak)]);
        body["workflow"] = json!(workflow);
        scene.push(&body);
    };
    push("ci.yml", "build", "runner", 300);
    let alone = scene.json(JOB);
    assert_eq!(alone["containers"][0]["status"], "insufficient_data");
    assert_eq!(alone["containers"][0]["memory"]["request"], Value::Null);
    assert_eq!(alone["containers"][0]["memory"]["used_bytes"], 300 * MIB);
    assert!(reasons(&alone, "memory").contains("there is 1 complete run"), "{alone:#}");
    assert_eq!(scene.yaml(&format!("{JOB}?format=yaml")), json!({"containers": []}));
    assert_eq!(scene.get(&format!("{JOB}?format=limits")).body, "{}");

    push("other.yml", "lint", "runner", 400);
    push("other.yml", "lint", "runner", 500);
    let repository = scene.json(&format!("{JOB}?max_step_down=100"));
    assert_eq!(repository["containers"][0]["basis"]["level"], "repository");
    assert_eq!(repository["containers"][0]["memory"]["request"], "575Mi");
    push("ci.yml", "test", "runner", 200);
    push("ci.yml", "test", "runner", 210);
    let workflow = scene.json(&format!("{JOB}?max_step_down=100"));
    assert_eq!(workflow["containers"][0]["basis"]["level"], "workflow");
    assert_eq!(workflow["containers"][0]["basis"]["runs"], 3);
    assert_eq!(workflow["containers"][0]["memory"]["request"], "345Mi");
    assert!(reasons(&workflow, "memory").contains("all jobs of the workflow"), "{workflow:#}");
    push("ci.yml", "build", "runner", 100);
    push("ci.yml", "build", "runner", 110);
    let own = scene.json(&format!("{JOB}?max_step_down=100"));
    assert_eq!(own["containers"][0]["basis"]["level"], "job");

    // A job without runs, and an unknown repository.
    let never = scene.json("/api/v1/sizing/repo/my-org/my-repo/ci.yml/never");
    assert_eq!(never["containers"][0]["basis"]["level"], "workflow");
    assert_eq!(never["window"]["runs"], 0);
    let unknown = scene.json("/api/v1/sizing/repo/my-org/unknown/ci.yml/build");
    assert_eq!(unknown["containers"], json!([]));
    assert!(
        scene.get("/api/v1/sizing/repo/my-org/unknown?format=markdown").body.contains("Insufficient data")
    );
}

#[test]
fn a_workflow_and_a_repository_are_told_by_job_and_together() {
    let scene = Scene::new();
    for at in 0..3 {
        scene.push(&run(
            "build",
            &format!("b{at}"),
            &[container("runner", 2.0, 700), container("db", 0.5, 100)],
        ));
        scene.push(&run("test", &format!("t{at}"), &[container("runner", 1.0, 300)]));
    }
    for (path, workflow) in [("/ci.yml", json!("ci.yml")), ("", Value::Null)] {
        let sizing = scene.json(&format!("/api/v1/sizing/repo/my-org/my-repo{path}?max_step_down=100"));
        assert_eq!((&sizing["workflow"], &sizing["job"]), (&workflow, &Value::Null));
        let of = |containers: &Value| {
            let those = containers.as_array().unwrap().iter();
            those.map(|one| format!("{} {}", one["name"], one["memory"]["request"])).collect::<Vec<_>>()
        };
        assert_eq!(of(&sizing["containers"]), [r#""runner" "805Mi""#, r#""db" "115Mi""#]);
        let jobs = sizing["jobs"].as_array().unwrap();
        assert_eq!(
            jobs.iter().map(|job| job["job"].as_str().unwrap()).collect::<Vec<_>>(),
            ["test", "build"]
        );
        assert_eq!(of(&jobs[0]["containers"]), [r#""runner" "345Mi""#]);
        let savings: f64 = jobs.iter().map(|job| job["savings"]["gib_hours"].as_f64().unwrap()).sum();
        assert!((sizing["savings"]["gib_hours"].as_f64().unwrap() - savings).abs() < 1e-9);
    }
}

#[test]
fn the_runs_that_count_are_complete_and_within_the_window() {
    let scene = Scene::with_peaks(&[900, 500, 500, 500]);
    let mut interim = run("build", "running", &[container("runner", 8.0, 2000)]);
    interim["summary_id"] = json!("s1");
    interim["seq"] = json!(1);
    interim["final"] = json!(false);
    scene.push(&interim);
    let mut recovered = run("build", "recovered", &[container("runner", 8.0, 3000)]);
    recovered["payload"]["complete"] = json!(false);
    scene.push(&recovered);
    let request = |query: &str| {
        let sizing = scene.json(&format!("{JOB}?max_step_down=100{query}"));
        (sizing["window"]["runs"].clone(), sizing["containers"][0]["memory"]["request"].clone())
    };
    assert_eq!(request(""), (json!(4), json!("1Gi")), "1035 MiB are no change from 1 GiB");
    assert_eq!(request("&ignore_below=0"), (json!(4), json!("1035Mi")));
    assert_eq!(request("&runs=3"), (json!(3), json!("575Mi")));
    assert_eq!(request("&since=2100-01-01T00:00:00Z").0, json!(0));
    assert_eq!(request("&memory_margin=50&runs=3"), (json!(3), json!("750Mi")));
    assert_eq!(request("&memory_cap=600Mi&ignore_below=0"), (json!(4), json!("600Mi")));
    assert_eq!(request("&memory_floor=2Gi"), (json!(4), json!("2Gi")));
    assert_eq!(request("&min_runs=5").1, Value::Null);
}

#[test]
fn the_originals_summaries_are_enough() {
    let scene = Scene::new();
    for _ in 0..3 {
        scene.push(&submission());
    }
    let sizing = scene.json(JOB);
    let container = &sizing["containers"][0];
    assert_eq!(container["status"], "recommended");
    assert_eq!(container["basis"]["memory_figure"], "rss");
    assert_eq!(container["memory"]["request"], "32Mi", "the floor");
    assert_eq!(container["memory"]["change"], "unknown");
    assert_eq!(container["cpu"]["request"], "2309m", "the highest peak, + 15 %");
    assert_eq!(sizing["savings"]["known"], false);
    assert!(reasons(&sizing, "cpu").contains("3 of 3 runs were without a histogram"), "{sizing:#}");
}

#[test]
fn figures_of_jobs_follow_what_is_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.token(&json!({"organization": "my-org"}));
    let reader = rusqlite::Connection::open(&database).unwrap();
    let figures = |runs: u64| -> (Value, f64, f64) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let row = reader.query_row("SELECT stale, figures, waste, risk FROM jobs", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?, row.get(3)?))
            });
            if let Ok((0, Some(text), Some(waste), Some(risk))) = row {
                let figures: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(figures["runs"], runs, "it is not stale");
                return (figures, waste, risk);
            }
            assert!(Instant::now() < end, "the figures do not come: {row:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for at in 0..3 {
        let body = run("build", &at.to_string(), &[container("runner", 1.0, 512)]);
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    }
    let (told, waste, risk) = figures(3);
    let runner = &told["containers"][0];
    assert_eq!(runner["cpu_cores"], json!({"request": 4.0, "used": 1.0, "recommended": 1.534}));
    assert_eq!(runner["memory_bytes"]["recommended"], (768 * MIB) as f64);
    assert_eq!(told["sparkline"].as_array().unwrap().len(), 3);
    let hours = 300.0 / 3600.0;
    assert!((told["cpu_waste_core_hours"].as_f64().unwrap() - 2.85 * hours).abs() < 1e-9, "{told:#}");
    let gib = (1024.0 - 589.0) / 1024.0;
    assert!((waste - (2.85 + gib / 8.0) * hours).abs() < 1e-9, "{waste}");
    assert_eq!(risk, 0.0);
    let mut killed = container("runner", 1.0, 1024);
    killed["oom_kills"] = json!(2);
    assert_eq!(receiver.push(&token, &run("build", "killed", &[killed]).to_string()).status, 201);
    let (told, _, risk) = figures(4);
    assert_eq!((told["oom_killed_runs"].as_u64(), risk), (Some(1), 0.25));
    assert_eq!(told["sparkline"][3]["oom_killed"], true);
    // A run in progress does not count, but it makes the job stale for a moment.
    let mut interim = run("build", "running", &[container("runner", 8.0, 2000)]);
    interim["summary_id"] = json!("s1");
    interim["seq"] = json!(1);
    interim["final"] = json!(false);
    assert_eq!(receiver.push(&token, &interim.to_string()).status, 201);
    assert_eq!(figures(4).0["sparkline"].as_array().unwrap().len(), 4);
    let ended = receiver.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
}
