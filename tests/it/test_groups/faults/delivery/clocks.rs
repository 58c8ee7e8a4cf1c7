//! Clocks that are set during the measurement.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::program::{Program, path, workload};
use tests::receiver::Receiver;
use wire::Payload;

use super::{about_to_push, endpoint};

/// Adds the seconds in a file to the wall clock. All other clocks are the machine's.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        FILE *file = fopen(getenv("CLOCK_OFFSET_FILE"), "r");
        long offset = 0;
        if (file && fscanf(file, "%ld", &offset) == 1) time->tv_sec += offset;
        if (file) fclose(file);
    }
    return (int)result;
}
"#;

fn shim(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    std::fs::write(&source, SHIM).unwrap();
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(status.success());
    library
}

#[test]
fn f19_a_clock_that_is_set_changes_no_duration_no_rate_and_no_order() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let (library, offset) = (shim(directory.path()), directory.path().join("offset"));
    for jump in [3_600i64, -3_600, 86_400, -86_400] {
        std::fs::write(&offset, "0").unwrap();
        let mut command = Command::new(path("COLLECTOR_BIN", "collector"));
        about_to_push(
            &mut command,
            &endpoint(&receiver),
            &receiver.job_token(),
            &directory.path().join("spool"),
        );
        command.env("LD_PRELOAD", &library).env("CLOCK_OFFSET_FILE", &offset);
        command.env("COLLECTOR_LOG_LEVEL", "debug").env("COLLECTOR_CHECKPOINT_INTERVAL", "200ms");
        command.env("COLLECTOR_PUSH_INTERVAL", "300ms");
        let program = Program::start(&mut command);
        program.wait_for("measuring");
        let began = Instant::now();
        let before = program.wait_for("pass");
        let mut burner = Command::new(workload()).args(["burn", "10000"]).spawn().unwrap();
        program.wait_for("pass");
        std::fs::write(&offset, jump.to_string()).unwrap();
        let after = program.wait_for("pass");
        let time = |line: &serde_json::Value| {
            line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
        };
        let moved = time(&after).duration_since(time(&before)).as_secs();
        assert!((moved - jump).abs() < 30, "the clock of the collector was not set: {moved}");
        for _ in 0..5 {
            program.wait_for("pass");
        }
        program.wait_for("the checkpoint is on disk");
        program.wait_for("the receiver has an interim summary");
        let ended = program.stop();
        let lasted = began.elapsed();
        burner.kill().unwrap();
        burner.wait().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        let run = receiver.runs().remove(0);
        let payload: Payload = serde_json::from_value(run["payload"].clone()).unwrap();
        let seconds = payload.duration_seconds;
        assert!((seconds - lasted.as_secs_f64()).abs() < 0.5, "{jump}: {seconds} {lasted:?}");
        let stamps = Duration::try_from(payload.end_time.duration_since(payload.start_time)).unwrap();
        assert!(
            stamps.abs_diff(Duration::from_secs_f64(seconds)) < Duration::from_millis(5),
            "{jump}: {stamps:?}"
        );
        assert!(payload.attribution.unwrap().missed_samples < 20, "{jump}");
        let busy = payload.top_cpu_processes.iter().find(|process| process.name == "workload").unwrap();
        assert!((1.0..=125.0).contains(&busy.peak_cpu_percent), "{jump}: {busy:?}");
        let received: jiff::Timestamp = run["received_at"].as_str().unwrap().parse().unwrap();
        assert!(
            jiff::Timestamp::now().duration_since(received).as_secs().abs() < 60,
            "the receiver's own clock"
        );
    }
}
