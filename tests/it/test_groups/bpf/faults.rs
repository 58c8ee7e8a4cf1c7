//! Events that come faster than they can be read, or while the collector does not read.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tests::cgroup::Cgroup;
use tests::privileges::{Capabilities, as_nobody};
use tests::program::{Program, path};

use crate::beside::{Measured, run_in};

#[test]
fn what_finds_no_room_is_counted_and_its_time_is_not_lost() {
    let (cgroups, directory, program) = start(&["--ebpf-buffer=4Ki", "--interval=1s"]);
    // The collector gets the processors only when they would be idle.
    let mut idle = Command::new("chrt");
    assert!(idle.args(["--idle", "--pid", "0", &program.pid().to_string()]).status().unwrap().success());
    let storm = "for one in 1 2 3 4; do \"$4\" vforks 2000 & done; wait";
    // Stopped for a moment, so that the buffer overflows no matter how fast the machine is.
    let moment = Duration::from_millis(500);
    run_while_it_stops(&program, &cgroups, &directory, storm, moment, moment);
    let measured = stop(program, cgroups, directory);
    let attribution = measured.payload.attribution.as_ref().unwrap();
    assert!(attribution.lost_records > 100, "{attribution:?}");
    assert!(measured.log.contains("were lost"), "{}", measured.log);
    measured.assert_share(0, 98.0, 102.0);
}

#[test]
fn a_collector_that_stands_still_for_ten_seconds_makes_up_for_it() {
    let (cgroups, directory, program) = start(&["--interval=1s", "--ebpf-buffer=64Ki"]);
    // The script outlives the stop, and so does the shell that waits for its processes.
    let endless = "end=$(($(date +%s) + 15)); while [ $(date +%s) -lt $end ]; do /bin/true; done";
    let (after, still) = (Duration::from_secs(1), Duration::from_secs(10));
    run_while_it_stops(&program, &cgroups, &directory, endless, after, still);
    let measured = stop(program, cgroups, directory);
    let attribution = measured.payload.attribution.as_ref().unwrap();
    assert!(attribution.missed_samples >= 8 && attribution.lost_records > 0, "{attribution:?}");
    measured.assert_share(0, 98.0, 102.0);
}

fn start(options: &[&str]) -> ([Cgroup; 2], TempDir, Program) {
    let cgroups = [Cgroup::new().unwrap(), Cgroup::new().unwrap()];
    let directory = tempfile::tempdir().unwrap();
    let mut command =
        as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), Capabilities::Ebpf).unwrap();
    command.args(["--log-format=json", "--output=json", "--ebpf=require"]).args(options);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    (cgroups, directory, program)
}

/// Runs a script in the cgroups, and stops the collector for a time during it.
fn run_while_it_stops(
    program: &Program,
    cgroups: &[Cgroup; 2],
    directory: &TempDir,
    script: &str,
    after: Duration,
    still: Duration,
) {
    std::thread::scope(|scope| {
        let load = scope.spawn(|| run_in(cgroups, directory.path(), script));
        std::thread::sleep(after);
        program.signal(Signal::STOP);
        std::thread::sleep(still);
        program.signal(Signal::CONT);
        load.join().unwrap();
    });
}

fn stop(program: Program, cgroups: [Cgroup; 2], directory: TempDir) -> Measured {
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    let payload = serde_json::from_str(&ended.stdout).unwrap();
    Measured { payload, cgroups, log: ended.stderr, directory }
}
