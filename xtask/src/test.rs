//! `cargo xtask test`: installs the tests' needs, runs all tests that can run here, and names the others.

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

/// Tests with the same needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Formatting, lints, documentation and licences of everything, the eBPF program included.
    Lint,
    /// No privileges: pure code, and the shipped programs over real sockets.
    Unit,
    /// Root: cgroups and real processes in them.
    Kernel,
    /// Root, on a kernel with BTF: the eBPF program.
    Bpf,
    /// No privileges: the API against its description, and the metrics.
    Api,
    /// Root, on a kernel with BTF: the jobs of a node, in cgroups laid out as a kubelet does.
    Node,
    /// Root: the shipped programs killed, disks filled, peers that misbehave.
    Faults,
    /// The page in a real browser. Skipped without root if the browser is not installed, unless the user asks for it.
    Browser,
    /// The files in `deploy/` and the documents, against schemas and the programs.
    Deploy,
    /// Root: the images in Docker Engines that are started for it.
    Docker,
    /// Root, Go: the shipped programs in a real Kubernetes cluster, with a real runner.
    Cluster,
    /// Nonsense for every parser, for a minute each.
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

    /// Why the group cannot run here. The browser, if it is missing, can only be installed by root.
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

    /// The module of its tests, or one below it.
    fn module(self, below: &str) -> String {
        format!("{GROUPS}{}::{below}", self.name())
    }

    /// `cargo test` with only this group's tests.
    fn tests(self, test: impl Fn() -> Command) -> Result<Command> {
        self.tests_below("", test)
    }

    /// The same, with only the tests below a module of the group.
    fn tests_below(self, below: &str, test: impl Fn() -> Command) -> Result<Command> {
        let module = self.module(below);
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

/// The module with the tests of all groups except `unit`. No other module's name ends like this.
const GROUPS: &str = "test_groups::";
/// The module with the tests that need the cluster for themselves.
const ALONE: &str = "alone::";
/// Groups that compare no times and therefore run side by side.
const BESIDE: [Group; 3] = [Group::Api, Group::Browser, Group::Deploy];
/// How long each target of the group `fuzz` runs.
const FUZZ_SECONDS: u64 = 60;
/// Cargo builds for one caller at a time. After this time the tests, which are built already, are running.
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
    println!("All tests that ran passed.");
    Ok(())
}

/// What is to be told of tests that passed.
type Note = Option<String>;

/// The result of each group: passed or failed after how long, or not run and why.
#[derive(Debug, Default)]
struct Table(Vec<(Group, Outcome)>);

#[derive(Debug)]
enum Outcome {
    NotRun {
        why: String,
    },
    /// `note`: what is to be told of it nevertheless.
    Passed {
        seconds: u64,
        note: Note,
    },
    Failed {
        seconds: u64,
        error: String,
    },
}

impl Outcome {
    fn of(test: impl FnOnce() -> Result<Note>) -> Self {
        let began = Instant::now();
        let result = test();
        let seconds = began.elapsed().as_secs();
        match result {
            Ok(note) => Self::Passed { seconds, note },
            Err(error) => Self::Failed { seconds, error: format!("{error:#}") },
        }
    }
}

impl Table {
    fn left(&mut self, group: Group, why: &str) {
        self.0.push((group, Outcome::NotRun { why: why.to_owned() }));
    }

    /// Runs a group and records its result. A failed group does not stop the others.
    fn run(&mut self, group: Group, test: impl FnOnce() -> Result<Note>) {
        self.0.push((group, Outcome::of(test)));
    }

    /// The same for several groups side by side.
    fn run_at_once(&mut self, groups: &[Group], test: &(impl Fn(Group) -> Result<Note> + Sync)) {
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
                Outcome::Passed { seconds, note: None } => println!("{name:<8} passed after {seconds} s"),
                Outcome::Passed { seconds, note: Some(note) } => {
                    println!("{name:<8} passed after {seconds} s {note}");
                }
                Outcome::Failed { seconds, error } => println!("{name:<8} FAILED after {seconds} s: {error}"),
            }
        }
    }
}

fn run_each(groups: &[Group], long: bool, table: &mut Table) -> Result<()> {
    if groups.contains(&Group::Lint) {
        table.run(Group::Lint, || {
            setup::ensure(For::Lint)?;
            lint::run().map(|()| None)
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
    Outcome::of(|| fuzz::run(FUZZ_SECONDS, &[]).map(|()| None))
}

/// Runs the groups that need the programs. `fuzzed` is the result of the group `fuzz`, if it ran beside another group.
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
        println!("Not run: tests of cgroup v1, because no v1 hierarchy that accounts CPU time is mounted.");
    }
    // The same features for all groups, because cargo would compile everything again otherwise.
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
        Group::Lint | Group::Fuzz => Ok(None),
        Group::Unit => {
            let all_but_groups = format!("--skip={GROUPS}");
            failures::told_twice(test().args(["--", &all_but_groups]), &all_but_groups)
        }
        Group::Api => api::run(&programs, long).map(|()| None),
        Group::Browser => {
            // Node.js looks there for the modules that tests/browser imports.
            let modules = setup::browser()?;
            let mut test = group.tests(test)?;
            failures::told(test.env("BROWSER_MODULES", modules).arg("--nocapture")).map(|()| None)
        }
        Group::Deploy => {
            let mut test = group.tests(test)?;
            failures::told(test.env("DEPLOY_TOOLS", setup::deploy_tools()?)).map(|()| None)
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

fn as_root(group: Group, test: impl Fn() -> Command, long: bool) -> Result<Note> {
    if group == Group::Bpf {
        ebpf::check_reproducible()?;
    }
    let mut test = group.tests(test)?;
    if long {
        test.env("FAULT_ROUNDS", LONG_ROUNDS);
    }
    // One test at a time: they compare CPU time with the kernel's own count, so nothing else may run.
    test.arg("--test-threads=1");
    match group {
        Group::Docker => in_engines(&test),
        _ => failures::told_twice(&mut test, &group.module("")),
    }
}

/// The tests that only add jobs run first, several at once: in a cluster other processes always run. The tests that change
/// the deployment follow one at a time. They leave the machine time for `meanwhile`.
fn in_cluster(test: impl Fn() -> Command, meanwhile: impl FnOnce() + Send) -> Result<Note> {
    // Tests that pass report the known failures in their output.
    let run = |below: &str, words: &[&str]| {
        let mut tests = Group::Cluster.tests_below(below, &test)?;
        let tests = cluster::tell(&mut tests)?.arg("--show-output").args(words);
        failures::told_twice(tests, &Group::Cluster.module(below))
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
            (one, other) => Ok(notes([one?, other?])),
        }
    })
}

fn notes(each: impl IntoIterator<Item = Note>) -> Note {
    each.into_iter().flatten().reduce(|one, other| format!("{one}\n{other}"))
}

/// Runs the tests of the images with Debian 12's engine and with a newer one.
fn in_engines(test: &Command) -> Result<Note> {
    images::prepare(false)?;
    let mut told = Vec::new();
    for (release, compose) in [(Release::Installed, "docker-compose"), (Release::Newer, "docker compose")] {
        let engine = Engine::start(release)?;
        println!("{}", engine.versions(compose)?);
        images::build(|| engine.docker(), "latest")?;
        let mut test = engine.inside(test)?;
        told.push(failures::told_twice(test.env("COMPOSE", compose), &Group::Docker.module(""))?);
    }
    Ok(notes(told))
}
