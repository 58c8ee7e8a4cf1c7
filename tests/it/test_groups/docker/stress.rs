//! The stress demo as `docs/try.md` prints it, with the summary compared with the containers' own cgroups.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::program::PATIENCE;
use wire::{ContainerUsage, Payload};

use super::{docker, told};

const DOCUMENT: &str = include_str!("../../../../docs/try.md");
const MARK: &str = "<!-- run by the tests: stress -->\n```sh\n";
const WAIT: &str = "# ... Wait for data collection ...\n";
/// The memory of one container grows for 18 s.
const COLLECTION: Duration = Duration::from_secs(15);
/// All 12 steps of 8 MiB.
const GROWN: f64 = 96.0 * MIB;
/// Containers whose cgroups exist at the end, by their names in the summary.
const LASTING: [&str; 5] = ["cpu-half", "cpu-quarter", "memory", "fork-storm", "pod"];
const MIB: f64 = 1024.0 * 1024.0;

/// The running demo; everything that it started is removed when dropped.
struct Demo {
    ebpf: &'static str,
}

impl Demo {
    /// Runs one part of the document's commands.
    fn run(&self, script: &str) -> String {
        let compose = std::env::var("COMPOSE").expect("the group docker of `cargo xtask test` sets COMPOSE");
        let script = script.replace("docker compose", &compose);
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &script]).env("COLLECTOR_EBPF", self.ebpf).current_dir(root());
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{}\n{text}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The id of a service's container.
fn container(service: &str) -> String {
    let project = "label=com.docker.compose.project=docker";
    let service = format!("label=com.docker.compose.service={service}");
    let id = told(&["ps", "--all", "--no-trunc", "--quiet", "--filter", project, "--filter", &service]);
    assert_eq!(id.len(), 64, "{service}: {id:?}");
    id
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failure here does not matter: there may be no such container.
            let compose = std::env::var("COMPOSE").unwrap_or_default();
            let logs = format!("{compose} -f tests/docker/docker-compose-stress.yaml logs collector");
            let _ = Command::new("sh").args(["-c", &logs]).current_dir(root()).status();
        }
        self.run("docker compose -f tests/docker/docker-compose-stress.yaml down --volumes");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A container's own cgroup files, of v1 or v2.
struct OwnFiles {
    cpu: PathBuf,
    /// The cgroup that limits CPU time.
    limits: PathBuf,
    memory: PathBuf,
}

impl OwnFiles {
    fn of(id: &str) -> Self {
        let find = |roots: &[&str]| {
            let paths = roots.iter().flat_map(|root| {
                [format!("{root}/docker/{id}"), format!("{root}/system.slice/docker-{id}.scope")]
            });
            let found = paths.map(PathBuf::from).find(|path| path.is_dir());
            found.unwrap_or_else(|| panic!("no cgroup of {id} in {roots:?}"))
        };
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            let own = find(&["/sys/fs/cgroup"]);
            return Self { cpu: own.clone(), limits: own.clone(), memory: own };
        }
        Self {
            cpu: find(&["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct"]),
            limits: find(&["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"]),
            memory: find(&["/sys/fs/cgroup/memory"]),
        }
    }

    fn cpu_seconds(&self) -> f64 {
        if let Ok(ns) = std::fs::read_to_string(self.cpu.join("cpuacct.usage")) {
            return ns.trim().parse::<f64>().unwrap() / 1e9;
        }
        field(&self.cpu.join("cpu.stat"), "usage_usec") / 1e6
    }

    fn throttled_seconds(&self) -> f64 {
        if self.limits == self.memory {
            return field(&self.limits.join("cpu.stat"), "throttled_usec") / 1e6;
        }
        field(&self.limits.join("cpu.stat"), "throttled_time") / 1e9
    }

    /// Anonymous memory and mapped files, as in RSS.
    fn resident_bytes(&self) -> f64 {
        let stat = self.memory.join("memory.stat");
        if self.memory.join("memory.usage_in_bytes").exists() {
            return field(&stat, "total_rss");
        }
        field(&stat, "anon")
    }
}

fn field(path: &Path, name: &str) -> f64 {
    let content = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = content.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {}", path.display())).parse().unwrap()
}

/// The CPU time of a container's cgroup when the collector was known to measure, and at the end.
struct Charged {
    files: OwnFiles,
    begin: f64,
    end: f64,
    /// Throttled seconds, at the same times.
    throttled: (f64, f64),
}

struct Outcome {
    payload: Payload,
    charged: Vec<(&'static str, Charged)>,
    restarts: f64,
    /// Memory of the growing container at the end, by its cgroup, in bytes.
    resident: f64,
}

impl Outcome {
    fn usage(&self, name: &str) -> &ContainerUsage {
        let names: Vec<_> = self.payload.containers.iter().map(|one| &one.name).collect();
        let found = self.payload.containers.iter().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("no {name} among {names:?}"))
    }

    fn charged(&self, name: &str) -> &Charged {
        &self.charged.iter().find(|(one, _)| *one == name).unwrap().1
    }
}

fn run(ebpf: &'static str) -> Outcome {
    let (_, block) = DOCUMENT.split_once(MARK).unwrap();
    let (block, _) = block.split_once("\n```").unwrap();
    let (begin, end) = block.split_once(WAIT).unwrap();
    let demo = Demo { ebpf };
    let (receiver, rest) = begin.split_once("\n\n").unwrap();
    demo.run(receiver);
    // A reader takes longer to type the next command, so wait until the receiver is ready.
    let patience = Instant::now() + PATIENCE;
    while Command::new("curl")
        .args(["-sf", "http://localhost:9080/readyz"])
        .output()
        .unwrap()
        .stdout
        .is_empty()
    {
        assert!(Instant::now() < patience, "the receiver does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    demo.run(rest);
    let collector = container("collector");
    let patience = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&docker(&["logs", &collector]).stderr).contains(" measuring ") {
        assert!(Instant::now() < patience, "the collector does not measure");
        std::thread::sleep(Duration::from_millis(50));
    }
    let charged = LASTING.map(|name| {
        let files = OwnFiles::of(&container(name));
        let (begin, throttled) = (files.cpu_seconds(), files.throttled_seconds());
        (name, Charged { files, begin, end: 0.0, throttled: (throttled, 0.0) })
    });
    std::thread::sleep(COLLECTION);
    let memory = OwnFiles::of(&container("memory"));
    while memory.resident_bytes() < GROWN {
        assert!(Instant::now() < patience + COLLECTION, "{} bytes", memory.resident_bytes());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Stopped processes use no more CPU time, so the last pass sees the same figures as this test. (A v1 freezer is not
    // reliable while processes are being started.)
    for name in LASTING {
        docker(&["kill", "--signal=STOP", &container(name)]);
    }
    std::thread::sleep(Duration::from_millis(300));
    let charged = charged.map(|(name, mut one)| {
        (one.end, one.throttled.1) = (one.files.cpu_seconds(), one.files.throttled_seconds());
        (name, one)
    });
    let resident = memory.resident_bytes();
    let answer = demo.run(end);
    for name in LASTING {
        docker(&["kill", "--signal=CONT", &container(name)]);
    }
    let restarts = told(&["inspect", "--format={{.RestartCount}}", &container("short-lived")]);
    let runs: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!(runs.len(), 1, "{answer}");
    assert_eq!(runs[0]["repository"], "test-org/stress-test");
    let payload = serde_json::from_value(runs[0]["payload"].clone()).unwrap();
    Outcome { payload, charged: charged.into_iter().collect(), restarts: restarts.parse().unwrap(), resident }
}

/// Checks that apply with and without eBPF.
fn check(outcome: &Outcome) {
    assert_eq!(outcome.payload.complete, Some(true));
    for (name, limit) in [("cpu-half", 0.5), ("cpu-quarter", 0.25)] {
        let usage = outcome.usage(name);
        let cores = &usage.cpu_cores;
        assert_eq!(usage.cpu_limit_cores, Some(limit), "{name}");
        // The limit applies to each 100 ms. Other load on the machine may leave the container less.
        assert!(cores.peak <= 1.15 * limit, "{name}: {cores:?}");
        let average = usage.cgroup_cpu_seconds.unwrap() / outcome.payload.duration_seconds;
        assert!(cores.avg >= 0.95 * average && cores.avg <= 1.02 * limit, "{name}: {cores:?}, {average}");
        let (throttled, charged) = (usage.cpu_throttled_seconds.unwrap(), outcome.charged(name));
        let (first, last) = charged.throttled;
        assert!(throttled >= last - first - 0.01 && throttled <= last + 0.01, "{name}: {throttled}");
    }
    assert_eq!(outcome.usage("fork-storm").cpu_limit_cores, Some(0.4));
    for (name, charged) in &outcome.charged {
        let usage = outcome.usage(name);
        let own = usage.cgroup_cpu_seconds.unwrap();
        // The collector's first pass was before `begin`, so it saw at least this, and at most the total.
        assert!(own >= charged.end - charged.begin - 0.01 && own <= charged.end + 0.01, "{name}: {own}");
    }
    let memory = outcome.usage("memory");
    assert_eq!(memory.memory_limit_bytes, Some(128 << 20));
    let (resident, peak) = (outcome.resident, memory.memory_bytes.peak);
    // Program text and stack of a static program are 2 MiB.
    assert!(peak >= resident && peak <= resident + 4.0 * MIB, "{peak} of {resident}");
    assert!(memory.memory_bytes.avg < 0.95 * peak, "it did not grow: {:?}", memory.memory_bytes);
}

/// Compares a container's CPU time with its own cgroup's count in the same passes. They agree within this share, plus the
/// clock ticks of `/proc` for each interval in which a record was lost.
#[track_caller]
fn assert_found(outcome: &Outcome, name: &str, within: f64) {
    let usage = outcome.usage(name);
    let (found, own) = (usage.cpu_seconds.unwrap(), usage.cgroup_cpu_seconds.unwrap());
    let lost = outcome.payload.attribution.as_ref().unwrap().lost_records;
    assert!(lost <= 50, "{lost} records were lost");
    let ticks = 0.03 * (1.0 + lost as f64);
    assert!((found - own).abs() <= within * own + ticks, "{name}: {found} s of {own} s, {lost} records lost");
}

#[test]
fn with_ebpf_every_process_is_found() {
    let outcome = run("require");
    let collector = outcome.payload.collector.as_ref().unwrap();
    assert_eq!((collector.source.as_str(), &collector.source_reason), ("ebpf", &None));
    check(&outcome);
    for name in ["cpu-half", "cpu-quarter", "fork-storm"] {
        assert_found(&outcome, name, 0.01);
    }
    let storm = outcome.usage("fork-storm");
    // Each child uses 2 ms, and some time to start and end.
    let most = storm.cgroup_cpu_seconds.unwrap() / 0.002;
    let count = storm.process_count.unwrap() as f64;
    assert!(count <= most + 2.0 && count >= 0.4 * most, "{count} processes in {} s", most * 0.002);
    // 300 ms each time, plus the start. The last one may not have ended, and the first may have started before.
    let lived = outcome.usage("short-lived");
    let (count, used) = (lived.process_count.unwrap() as f64, lived.cpu_seconds.unwrap());
    assert!(count >= 2.0 && used <= (outcome.restarts + 1.0) * 0.36, "{count} {used} {}", outcome.restarts);
    assert!(used >= (count - 2.0).max(1.0) * 0.3, "{count} {used}");
}

#[test]
fn without_ebpf_names_limits_and_what_lasts_are_the_same() {
    let outcome = run("off");
    let collector = outcome.payload.collector.as_ref().unwrap();
    assert_eq!((collector.source.as_str(), collector.source_reason.as_deref()), ("proc", Some("turned off")));
    check(&outcome);
    for name in ["cpu-half", "cpu-quarter"] {
        assert_found(&outcome, name, 0.02);
    }
    // The parent waits for its children, and its sum of their times is in whole clock ticks.
    assert_found(&outcome, "fork-storm", 0.05);
}
