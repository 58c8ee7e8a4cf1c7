//! `cargo xtask test`: installs what the tests need, runs all of them that can run here, and says which cannot.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::build::{self, Object};
use crate::command::cargo;
use crate::dist::images;
use crate::docker::{Engine, Release};
use crate::setup::{self, For};
use crate::{api, cluster, ebpf, failures, fuzz, lint};

/// Tests that need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Form, lints, documentation and licences of everything, the eBPF program included.
    Lint,
    /// No privileges: pure code, and the shipped programs over real sockets.
    Unit,
    /// Root: cgroups and real processes in them.
    Kernel,
    /// Root, on a kernel with BTF: the eBPF program.
    Bpf,
    /// No privileges: the API against its description, and the metrics.
    Api,
    /// Root, on a kernel with BTF: the jobs of a node, in cgroups as a kubelet makes them.
    Node,
    /// Root: the shipped programs killed, disks filled, peers that misbehave.
    Faults,
    /// The page in a real browser; left out without root, which may have to install it, unless it is asked for.
    Browser,
    /// What `deploy/` and the documents say, against schemas and the programs.
    Deploy,
    /// Root: the images in Docker Engines that are started for it.
    Docker,
    /// Root, Go: what is shipped in a real Kubernetes cluster, with a real runner.
    Cluster,
    /// Every parser given nonsense for a minute.
    Fuzz,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Bpf => "bpf",
            Self::Api => "api",
            Self::Node => "node",
            Self::Faults => "faults",
            Self::Browser => "browser",
            Self::Deploy => "deploy",
            Self::Docker => "docker",
            Self::Cluster => "cluster",
            Self::Fuzz => "fuzz",
        }
    }

    /// Why it cannot run here; without root the browser might have to be installed.
    fn obstacle(self) -> Option<String> {
        let root = rustix::process::geteuid().is_root();
        match self {
            _ if self.needs_root() && !root => {
                Some(format!("it needs root (sudo cargo xtask test --group {})", self.name()))
            }
            Self::Browser if !root && !setup::has_browser() => Some("Chromium is not installed".to_owned()),
            Self::Cluster => cluster::go::check().err().map(|error| format!("{error:#}")),
            _ => None,
        }
    }

    fn needs_root(self) -> bool {
        matches!(self, Self::Kernel | Self::Bpf | Self::Node | Self::Faults | Self::Docker | Self::Cluster)
    }

    /// `cargo test` with its tests alone.
    fn tests(self, test: impl Fn() -> Command) -> Result<Command> {
        self.tests_below("", test)
    }

    /// The same, of those below a module of it.
    fn tests_below(self, below: &str, test: impl Fn() -> Command) -> Result<Command> {
        let module = format!("{GROUPS}{}::{below}", self.name());
        let mut tests = test();
        tests.args(["--test=it", "--", &module]);
        let mut list = test();
        list.args(["--test=it", "--", &module, "--list", "--format=terse"]).stderr(Stdio::inherit());
        let output = list.output()?;
        ensure!(output.status.success(), "the tests cannot be listed");
        ensure!(!output.stdout.is_empty(), "there are no tests in the group {}", self.name());
        Ok(tests)
    }
}

/// The module with the tests of all groups but `unit`; no other name of a module ends so.
const GROUPS: &str = "test_groups::";
/// The module with those tests in a cluster that have it for themselves.
const ALONE: &str = "alone::";
/// Groups that compare no times: they run side by side.
const BESIDE: [Group; 3] = [Group::Api, Group::Browser, Group::Deploy];
/// For so long each target of the group `fuzz` runs.
const FUZZ_SECONDS: u64 = 60;
/// Cargo builds for one at a time: tests that are built already have begun by then.
const CARGO_HAS_STARTED: Duration = Duration::from_secs(10);
/// Rounds of each fault in the long form.
const LONG_ROUNDS: &str = "200";

pub(crate) fn run(groups: &[Group], long: bool) -> Result<()> {
    let asked = !groups.is_empty();
    let mut table = Table::default();
    let mut run = Vec::new();
    for group in if asked { groups } else { Group::value_variants() } {
        match group.obstacle() {
            None => run.push(*group),
            Some(why) if asked => bail!("the group {}: {why}", group.name()),
            Some(why) => table.left(*group, &why),
        }
    }
    let result = run_each(&run, long, &mut table);
    table.print();
    result?;
    let failed = table.failed();
    ensure!(failed.is_empty(), "tests failed in: {}", failed.join(", "));
    println!("All tests passed that were run.");
    Ok(())
}

/// What ran, for how long, and what did not, and why.
#[derive(Debug, Default)]
struct Table(Vec<(Group, Outcome)>);

#[derive(Debug)]
enum Outcome {
    NotRun { why: String },
    Passed { seconds: u64 },
    Failed { seconds: u64, error: String },
}

impl Outcome {
    fn of(test: impl FnOnce() -> Result<()>) -> Self {
        let began = Instant::now();
        let result = test();
        let seconds = began.elapsed().as_secs();
        match result {
            Ok(()) => Self::Passed { seconds },
            Err(error) => Self::Failed { seconds, error: format!("{error:#}") },
        }
    }
}

impl Table {
    fn left(&mut self, group: Group, why: &str) {
        self.0.push((group, Outcome::NotRun { why: why.to_owned() }));
    }

    /// Runs a group and notes what came of it: one that fails keeps no other from running.
    fn run(&mut self, group: Group, test: impl FnOnce() -> Result<()>) {
        self.0.push((group, Outcome::of(test)));
    }

    /// The same for several groups side by side.
    fn run_at_once(&mut self, groups: &[Group], test: &(impl Fn(Group) -> Result<()> + Sync)) {
        std::thread::scope(|scope| {
            let running: Vec<_> =
                groups.iter().map(|group| (*group, scope.spawn(|| Outcome::of(|| test(*group))))).collect();
            for (group, running) in running {
                let failed = || Outcome::Failed { seconds: 0, error: "its thread failed".to_owned() };
                self.0.push((group, running.join().unwrap_or_else(|_| failed())));
            }
        });
    }

    fn failed(&self) -> Vec<&'static str> {
        let failed = self.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed { .. }));
        failed.map(|(group, _)| group.name()).collect()
    }

    fn print(&self) {
        println!();
        for (group, outcome) in &self.0 {
            let name = group.name();
            match outcome {
                Outcome::NotRun { why } => println!("{name:<8} not run: {why}"),
                Outcome::Passed { seconds } => println!("{name:<8} passed after {seconds} s"),
                Outcome::Failed { seconds, error } => println!("{name:<8} FAILED after {seconds} s: {error}"),
            }
        }
    }
}

fn run_each(groups: &[Group], long: bool, table: &mut Table) -> Result<()> {
    if groups.contains(&Group::Lint) {
        table.run(Group::Lint, || {
            setup::ensure(For::Lint)?;
            lint::run()
        });
    }
    let fuzzed = OnceLock::new();
    if groups.iter().any(|group| !matches!(group, Group::Lint | Group::Fuzz)) {
        programs(groups, long, table, &fuzzed)?;
    }
    if groups.contains(&Group::Fuzz) {
        table.0.push((Group::Fuzz, fuzzed.into_inner().unwrap_or_else(fuzz)));
    }
    Ok(())
}

fn fuzz() -> Outcome {
    Outcome::of(|| fuzz::run(FUZZ_SECONDS, &[]))
}

/// Runs what takes the programs. `fuzzed`: what came of the group `fuzz`, if it ran beside another.
fn programs(groups: &[Group], long: bool, table: &mut Table, fuzzed: &OnceLock<Outcome>) -> Result<()> {
    setup::ensure(For::Tests)?;
    for (group, what) in [(Group::Api, For::Api), (Group::Node, For::Node)] {
        if groups.contains(&group) {
            setup::ensure(what)?;
        }
    }
    let needs_object = groups.iter().any(|group| group.needs_root());
    let plain = build::plain_collector()?;
    let programs = build::programs(false, if needs_object { Object::Required } else { Object::IfPossible })?;
    let mut features =
        "tests/kernel,tests/bpf,tests/node,tests/faults,tests/browser,tests/deploy,tests/docker,tests/cluster"
            .to_owned();
    if tests::cgroup::has_v1() {
        features += ",tests/cgroup-v1";
    } else if groups.contains(&Group::Bpf) {
        println!("Not run: tests of cgroup v1, of which no hierarchy that accounts CPU time is mounted.");
    }
    // With the same features for all groups: else all of it would be compiled once more.
    let test = || {
        let mut test = cargo();
        test.args(["test", "--locked", "--no-fail-fast", "--workspace"])
            .arg(format!("--features={features}"));
        test.env("COLLECTOR_BIN", &programs.collector).env("RECEIVER_BIN", &programs.receiver);
        test.env("WORKLOAD_BIN", &programs.workload).env("COLLECTOR_PLAIN_BIN", &plain);
        programs.embed(&mut test);
        test
    };
    let run = |group: Group| match group {
        Group::Lint | Group::Fuzz => Ok(()),
        Group::Unit => failures::told(test().args(["--", "--skip", GROUPS])),
        Group::Api => api::run(&programs, long),
        Group::Browser => {
            // Node.js finds there what tests/browser asks for.
            let modules = setup::browser()?;
            let mut test = group.tests(test)?;
            failures::told(test.env("BROWSER_MODULES", modules).arg("--nocapture"))
        }
        Group::Deploy => {
            let mut test = group.tests(test)?;
            failures::told(test.env("DEPLOY_TOOLS", setup::deploy_tools()?))
        }
        Group::Cluster => in_cluster(test, || {
            if groups.contains(&Group::Fuzz) {
                fuzzed.get_or_init(fuzz);
            }
        }),
        _ => as_root(group, test, long),
    };
    let (beside, others): (Vec<Group>, Vec<Group>) = groups
        .iter()
        .filter(|group| !matches!(group, Group::Lint | Group::Fuzz))
        .partition(|group| BESIDE.contains(group));
    table.run_at_once(&beside, &run);
    for group in others {
        table.run(group, || run(group));
    }
    Ok(())
}

fn as_root(group: Group, test: impl Fn() -> Command, long: bool) -> Result<()> {
    if group == Group::Bpf {
        ebpf::check_reproducible()?;
    }
    let mut test = group.tests(test)?;
    if long {
        test.env("FAULT_ROUNDS", LONG_ROUNDS);
    }
    // CPU time is compared with the kernel's own count: one at a time, so that nothing else is running.
    test.arg("--test-threads=1");
    match group {
        Group::Docker => in_engines(&test),
        _ => failures::told(&mut test),
    }
}

/// In a cluster others always run: first what only adds jobs, several at once, then what changes what is deployed, which
/// leaves the machine time for something else.
fn in_cluster(test: impl Fn() -> Command, meanwhile: impl FnOnce() + Send) -> Result<()> {
    // What is known to fail is told by tests that pass.
    let run = |below: &str, words: &[&str]| {
        let mut tests = Group::Cluster.tests_below(below, &test)?;
        failures::told(cluster::tell(&mut tests)?.arg("--show-output").args(words))
    };
    cluster::with(|| {
        let together = run("", &["--test-threads=4", "--skip", ALONE]);
        let alone = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(CARGO_HAS_STARTED);
                meanwhile();
            });
            run(ALONE, &["--test-threads=1"])
        });
        match (together, alone) {
            (Err(one), Err(other)) => bail!("{one:#}\n{other:#}"),
            (one, other) => one.and(other),
        }
    })
}

/// Runs tests of the images, with what Debian 12 has and with something newer.
fn in_engines(test: &Command) -> Result<()> {
    images::prepare(false)?;
    for (release, compose) in [(Release::Installed, "docker-compose"), (Release::Newer, "docker compose")] {
        let engine = Engine::start(release)?;
        println!("{}", engine.versions(compose)?);
        images::build(|| engine.docker(), "latest")?;
        failures::told(engine.inside(test)?.env("COMPOSE", compose))?;
    }
    Ok(())
}
