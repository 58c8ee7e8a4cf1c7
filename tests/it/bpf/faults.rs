//! What the program tells of faster than it can be read, or while nobody reads.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::cgroup::Cgroup;
use tests::privileges::{Capabilities, as_nobody};
use tests::program::{Program, path};
use wire::Payload;

use crate::beside::{Measured, measure, run_in};

const STORM: &str = "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done";

#[test]
fn what_finds_no_room_is_counted_and_its_time_is_not_lost() {
    let options = ["--ebpf=require", "--ebpf-buffer=4Ki", "--interval=1s"];
    let measured = measure(Capabilities::Ebpf, &options, STORM);
    let attribution = measured.payload.attribution.as_ref().unwrap();
    assert!(attribution.lost_records > 1000, "{attribution:?}");
    assert!(measured.log.contains("were lost"), "{}", measured.log);
    measured.assert_share(0, 98.0, 102.0);
}

#[test]
fn a_collector_that_stands_still_for_ten_seconds_makes_up_for_it() {
    let cgroups = [Cgroup::new().unwrap(), Cgroup::new().unwrap()];
    let directory = tempfile::tempdir().unwrap();
    let mut command =
        as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), Capabilities::Ebpf).unwrap();
    command.args([
        "--log-format=json",
        "--output=json",
        "--ebpf=require",
        "--interval=1s",
        "--ebpf-buffer=64Ki",
    ]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    std::thread::scope(|scope| {
        let endless = "end=$(($(date +%s) + 12)); while [ $(date +%s) -lt $end ]; do /bin/true; done";
        let load = scope.spawn(|| run_in(&cgroups, directory.path(), endless));
        std::thread::sleep(Duration::from_secs(1));
        program.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(10));
        program.signal(Signal::SIGCONT);
        load.join().unwrap();
    });
    let ended = program.stop();
    let payload: Payload = serde_json::from_str(&ended.stdout).unwrap();
    let attribution = payload.attribution.as_ref().unwrap();
    assert!(attribution.missed_samples >= 8 && attribution.lost_records > 0, "{attribution:?}");
    Measured { payload, cgroups, log: ended.stderr, directory }.assert_share(0, 98.0, 102.0);
}
