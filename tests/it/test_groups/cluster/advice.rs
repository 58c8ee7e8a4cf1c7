//! Follows the advice as given: three runs of each kind of job, then the receiver's recommended request and limit, then a run
//! with these. The test reports which jobs were killed, which were throttled, and how much was wasted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::account::{Account, Figures};
use super::asked::{NAMESPACE, kube, namespace, receiver, rows_of, run_id, told, until_over};
use super::kinds::{BURN, COMPILE, Kind, container, spec};
use super::known::Cases;
use super::measured::{kernel, start, with_identity};

/// Runs before each recommendation.
const RUNS: usize = 3;
/// The last summary comes a pass or two, plus a push, after the pod's end.
const DELIVERY: Duration = Duration::from_secs(20);
/// A recommendation above this many times the kernel's figure is waste.
const WASTEFUL: f64 = 3.0;
/// The lowest limit that makes sense.
const LEAST_LIMIT: u64 = 32 << 20;

/// A job to size, with its current resources.
#[derive(Debug, Clone)]
struct Sized {
    name: &'static str,
    script: String,
    resources: Value,
}

impl Sized {
    fn pod(&self) -> Value {
        let mut build = container("build", &self.script);
        build["resources"] = self.resources.clone();
        spec(&[build])
    }
}

/// A Python command that holds this much memory for this long.
fn allocate(mebibytes: u32, seconds: f64) -> String {
    format!("python3 -c 'import time; x = b\"x\" * ({mebibytes} << 20); time.sleep({seconds})'")
}

/// Runs all jobs at once. Returns the kernel's figures, and whether each job succeeded.
fn round(jobs: &[Sized]) -> BTreeMap<&'static str, (Figures, bool)> {
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let run_id = run_id();
    for one in jobs {
        let kind = Kind::of(one.name, one.pod());
        start(NAMESPACE, &format!("{}-{run_id}", one.name), &with_identity(&kind, one.name, &run_id));
    }
    let mut all = BTreeMap::new();
    for one in jobs {
        let name = format!("{}-{run_id}", one.name);
        let pod = until_over(&name);
        let worked = pod["status"]["phase"] == "Succeeded";
        all.insert(one.name, (kernel(&account, &pod)["build"], worked));
        kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    }
    // A run that does not arrive is not an error here; the tests of all kinds check that.
    let end = Instant::now() + DELIVERY;
    for one in jobs {
        rows_of(one.name, &run_id, end.saturating_duration_since(Instant::now()));
    }
    all
}

/// The receiver's recommended resources for the job's container, in the form that users copy.
fn advice(job: &str) -> Option<Value> {
    let answer = receiver("GET", &format!("/api/v1/sizing/repo/my-org/my-repo/ci.yml/{job}?format=yaml"), "");
    let text: Value = serde_saphyr::from_str(&answer.body).ok()?;
    let containers = text["containers"].as_array()?;
    let resources = &containers.iter().find(|one| one["name"] == "build")?["resources"];
    resources.is_object().then(|| resources.clone())
}

/// The bytes of a memory quantity in the receiver's notation.
fn bytes(quantity: &Value) -> Option<u64> {
    let text = quantity.as_str()?;
    let (number, factor) = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    Some(number.parse::<u64>().ok()? * factor)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Jobs whose pods have no limits: the usual case.
#[test]
fn jobs_without_limits_live_with_the_advice() {
    namespace();
    let of = |name, script: String| Sized { name, script, resources: json!({}) };
    let mut jobs = vec![
        of("advice-small", format!("{BURN}; sleep 4")),
        of("advice-compile", format!("{COMPILE}; sleep 3")),
        of("advice-steady-200", allocate(200, 5.0)),
        of("advice-spike-150", format!("{BURN}; {}; sleep 4", allocate(150, 0.2))),
        of("advice-late-300", format!("sleep 4; {}", allocate(300, 1.0))),
        of("advice-two-cores", format!("({BURN}) & ({BURN}) & wait; sleep 4")),
        of("advice-shm", "head -c 100M /dev/zero > /dev/shm/x; sleep 5; rm /dev/shm/x".to_owned()),
        of("advice-forks", "python3 -c 'import os, time\nx = b\"x\" * (100 << 20)\nfor i in range(4):\n    if os.fork() == 0: time.sleep(4); os._exit(0)\ntime.sleep(5)'".to_owned()),
    ];
    // A pod's /dev/shm has 64 MiB by default.
    jobs.iter_mut()
        .filter(|one| one.name == "advice-shm")
        .for_each(|one| one.script = one.script.replace("100M", "60M"));
    let mut needed = BTreeMap::new();
    for _ in 0..RUNS {
        needed = round(&jobs);
    }
    let mut cases = Cases::default();
    let mut table = String::from("job | kernel's peak | advised limit | with it\n");
    let mut advised = Vec::new();
    for one in &mut jobs {
        match advice(one.name) {
            Some(resources) => {
                one.resources = resources;
                advised.push(one.clone());
            }
            None => cases.take(one.name, vec!["no advice".to_owned()]),
        }
    }
    let after = round(&advised);
    for one in &advised {
        let peak = needed[one.name].0.memory_peak_bytes;
        let (figures, worked) = after[one.name];
        let limit = bytes(&one.resources["limits"]["memory"]);
        let mut wrong = Vec::new();
        if !worked || figures.oom_kills > 0 {
            wrong.push(format!(
                "it did not live: {} needed, {:?} given",
                mebibytes(peak),
                limit.map(mebibytes)
            ));
        }
        if let Some(limit) = limit
            && limit as f64 > (peak.max(LEAST_LIMIT)) as f64 * WASTEFUL
        {
            wrong.push(format!("{} given for {}", mebibytes(limit), mebibytes(peak)));
        }
        writeln!(
            table,
            "{} | {} | {} | {}",
            one.name,
            mebibytes(peak),
            limit.map_or("none".to_owned(), mebibytes),
            if worked { "lived" } else { "died" }
        )
        .unwrap();
        cases.take(one.name, wrong);
    }
    println!("{table}");
    cases.finish();
}

/// Jobs with limits, in four rounds: killed, throttled, and with far more than they need.
#[test]
fn jobs_with_limits_come_to_what_they_need() {
    namespace();
    let limited = |cpu: Option<&str>, memory: &str| {
        let mut limits = json!({"memory": memory});
        if let Some(cpu) = cpu {
            limits["cpu"] = json!(cpu);
        }
        json!({"limits": limits, "requests": limits})
    };
    let mut jobs = vec![
        Sized { name: "advice-killed", script: allocate(75, 1.0), resources: limited(None, "64Mi") },
        Sized {
            name: "advice-child-killed",
            script: format!("{BURN}; {}", allocate(75, 1.0)),
            resources: limited(None, "64Mi"),
        },
        Sized {
            name: "advice-throttled",
            script: format!("({BURN}) & ({BURN}) & wait; sleep 2"),
            resources: limited(Some("300m"), "256Mi"),
        },
        Sized {
            name: "advice-generous",
            script: format!("{}; sleep 3", allocate(40, 2.0)),
            resources: limited(None, "2Gi"),
        },
    ];
    let mut table = String::from("round | job | limit | killed | advised\n");
    for number in 1..=4 {
        let mut last = BTreeMap::new();
        for _ in 0..RUNS {
            last = round(&jobs);
        }
        for one in &mut jobs {
            let advised = advice(one.name);
            let (figures, _) = last[one.name];
            let now = &one.resources["limits"];
            writeln!(
                table,
                "{number} | {} | {now} | {} | {}",
                one.name,
                figures.oom_kills,
                advised.as_ref().map_or("nothing".to_owned(), |advised| advised["limits"].to_string())
            )
            .unwrap();
            if let Some(advised) = advised {
                one.resources = advised;
            }
        }
    }
    println!("{table}");
    let mut cases = Cases::default();
    let last = round(&jobs);
    for one in &jobs {
        let (figures, worked) = last[one.name];
        let limit = bytes(&one.resources["limits"]["memory"]).unwrap_or(u64::MAX);
        let mut wrong = Vec::new();
        if !worked || figures.oom_kills > 0 {
            wrong.push(format!("still killed, with {}", mebibytes(limit)));
        }
        if one.name == "advice-generous" && limit as f64 > figures.memory_peak_bytes as f64 * 2.0 * WASTEFUL {
            wrong.push(format!("{} given for {}", mebibytes(limit), mebibytes(figures.memory_peak_bytes)));
        }
        if one.name == "advice-throttled" && !one.resources["limits"]["cpu"].is_null() {
            wrong.push(format!("still throttled, with {}", one.resources["limits"]["cpu"]));
        }
        cases.take(one.name, wrong);
    }
    cases.finish();
}
