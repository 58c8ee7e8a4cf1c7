//! Runs a collector beside a workload in cgroups made for it, as root, and compares its figures with the kernel's own count.

use std::process::Command;

use tests::cgroup::Cgroup;
use tests::privileges::{Capabilities, as_nobody};
use tests::program::{Program, path, workload};
use wire::{CommandUsage, ContainerUsage, Payload};

/// A workload's summary.
pub(crate) struct Measured {
    pub(crate) payload: Payload,
    pub(crate) cgroups: [Cgroup; 2],
    /// The collector's log.
    pub(crate) log: String,
    /// The workload's directory, for the files it wrote.
    pub(crate) directory: tempfile::TempDir,
}

/// Runs a script in the first of two cgroups, beside a collector that runs as the user nobody.
///
/// `$1` and `$2` are the cgroups, `$3` is an empty directory, `$4` the program with the workloads.
pub(crate) fn measure(capabilities: Capabilities, options: &[&str], script: &str) -> Measured {
    measure_in([Cgroup::new().unwrap(), Cgroup::new().unwrap()], capabilities, options, script)
}

/// The same, in the given cgroups.
pub(crate) fn measure_in(
    cgroups: [Cgroup; 2],
    capabilities: Capabilities,
    options: &[&str],
    script: &str,
) -> Measured {
    let directory = tempfile::tempdir().unwrap();
    let mut command = as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), capabilities).unwrap();
    command.args(["--log-format=json", "--output=json"]).args(options);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    run_in(&cgroups, directory.path(), script);
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    let payload = serde_json::from_str(&ended.stdout).unwrap();
    Measured { payload, cgroups, log: ended.stderr, directory }
}

/// Runs a script in the first cgroup and waits until both are empty.
pub(crate) fn run_in(cgroups: &[Cgroup; 2], directory: &std::path::Path, script: &str) {
    let mut job = Command::new("sh");
    job.args(["-c", &format!("echo $$ > \"$1/cgroup.procs\"; {script}"), "sh"]);
    job.args([cgroups[0].path(), cgroups[1].path(), directory, &workload()]);
    assert!(job.status().unwrap().success(), "{script}");
    cgroups.iter().try_for_each(Cgroup::wait_until_empty).unwrap();
}

impl Measured {
    /// The summary's figures of a cgroup.
    #[track_caller]
    pub(crate) fn usage(&self, cgroup: usize) -> &ContainerUsage {
        let id = self.cgroups[cgroup].id();
        let usage = self.payload.containers.iter().find(|usage| usage.id.as_deref() == Some(id));
        usage.unwrap_or_else(|| panic!("no container {id}: {:#?}", self.payload.containers))
    }

    /// The CPU time attributed to a cgroup and the CPU time that the kernel charged to it, in seconds.
    #[track_caller]
    pub(crate) fn attributed_and_truth(&self, cgroup: usize) -> (f64, f64) {
        (self.usage(cgroup).cpu_seconds.unwrap(), self.cgroups[cgroup].cpu_seconds().unwrap())
    }

    /// Checks the first as a share of the second, in percent.
    #[track_caller]
    pub(crate) fn assert_share(&self, cgroup: usize, low: f64, high: f64) {
        let (found, truth) = self.attributed_and_truth(cgroup);
        let share = 100.0 * found / truth;
        assert!((low..=high).contains(&share), "{found} s of {truth} s are {share:.2} %\n{}", self.log);
    }

    /// The figures of a command in the first cgroup.
    #[track_caller]
    pub(crate) fn command(&self, name: &str) -> &CommandUsage {
        let container = &self.usage(0).name;
        let of_it = |one: &&CommandUsage| one.name == name && one.container.as_ref() == Some(container);
        let found = self.payload.top_commands.iter().find(of_it);
        found.unwrap_or_else(|| panic!("no command {name}: {:#?}", self.payload.top_commands))
    }
}
