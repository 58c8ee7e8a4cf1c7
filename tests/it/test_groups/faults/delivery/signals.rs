//! SIGTERM at every moment, and SIGSTOP for a while.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::program::Program;
use tests::receiver::Receiver;
use tests::stub::{Stub, stored};

use super::{all_of, deliver, endpoint, json, pushing, spooled};

/// Whether SIGTERM no longer kills the process, because it blocks or handles the signal.
fn minds_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is_in = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & (1 << 14) != 0)
    };
    is_in("SigBlk:\t") || is_in("SigCgt:\t")
}

#[test]
fn f16_told_to_stop_at_any_moment_it_sends_one_final_summary() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let spool = directory.path().join("spool");
    let stop = |before: &dyn Fn(&Program)| {
        let mut command = pushing(&endpoint(&receiver), &token, &spool);
        command.env("COLLECTOR_LOG_LEVEL", "debug").env("COLLECTOR_PUSH_INTERVAL", "200ms");
        let program = Program::start(command.env("COLLECTOR_CHECKPOINT_INTERVAL", "100ms"));
        before(&program);
        let ended = program.stop();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    };
    // Before it reads its configuration, and a while later; in the first pass; between two passes; during a push.
    for later in [0, 2, 4, 8] {
        stop(&|program| {
            let end = Instant::now() + Duration::from_secs(5);
            while !minds_sigterm(program.pid()) {
                assert!(Instant::now() < end, "it never listens");
            }
            std::thread::sleep(Duration::from_millis(later));
        });
    }
    stop(&|program| drop(program.wait_for("pass")));
    stop(&|program| drop((program.wait_for("measuring"), program.wait_for("pass"))));
    stop(&|program| drop(program.wait_for("an interim summary is due")));
    stop(&|program| drop(program.wait_for("the receiver has an interim summary")));
    let runs = receiver.runs();
    assert_eq!(runs.len(), 8, "one row each");
    assert!(runs.iter().all(|run| run["payload"]["complete"] == true));
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
}

#[test]
fn f16_a_second_signal_ends_it_at_once_and_the_summary_is_in_the_spool() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let silent = Stub::start(|_, _, _| std::thread::sleep(Duration::from_mins(1)));
    let signals = [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)];
    for (number, (first, second)) in signals.into_iter().enumerate() {
        let spool = directory.path().join(number.to_string());
        let program = Program::start(&mut pushing(&silent.endpoint(), "t0ken", &spool));
        program.wait_for("measuring");
        program.signal(first);
        silent.wait_for(number + 1);
        let begin = Instant::now();
        program.signal(second);
        let ended = program.wait();
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        let summary = json(&spooled(&spool, ".final.json")[0]);
        assert_eq!((&summary["final"], &summary["payload"]["complete"]), (&true.into(), &true.into()));
        assert_eq!(all_of(&spool).len(), 1);
        assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
        assert_eq!(receiver.runs().len(), number + 1);
    }
}

#[test]
fn f16_killed_in_the_middle_of_the_last_push_it_has_spooled_already() {
    let directory = tempfile::tempdir().unwrap();
    let silent = Stub::start(|_, _, _| std::thread::sleep(Duration::from_mins(1)));
    let spool = directory.path().join("spool");
    let program = Program::start(&mut pushing(&silent.endpoint(), "t0ken", &spool));
    program.wait_for("measuring");
    program.signal(Signal::TERM);
    silent.wait_for(1);
    // A disk takes some milliseconds, and Docker and Kubernetes wait for seconds.
    std::thread::sleep(Duration::from_millis(200));
    program.signal(Signal::KILL);
    program.wait();
    assert_eq!(json(&spooled(&spool, ".final.json")[0])["final"], true);
}

#[test]
fn f16_nobody_reads_the_report_and_the_push_goes_out_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Stub::answering(vec![stored()]);
    let mut command = pushing(&receiver.endpoint(), "t0ken", &directory.path().join("spool"));
    command.args(["--output=json", "--top=1000", "--shutdown-timeout=1s"]);
    // A full pipe, which is not read. `Program` cannot be used, because it reads standard output at the end.
    let (reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the descriptor is open, and this only changes its flags.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&writer), libc::F_SETFL, libc::O_NONBLOCK) };
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    // SAFETY: as above.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&writer), libc::F_SETFL, 0) };
    let mut child = command.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while !minds_sigterm(child.id()) {
        assert!(Instant::now() < end, "it never listens");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let begin = Instant::now();
    receiver.wait_for(1);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(reader);
}

#[test]
fn f20_a_collector_that_was_stopped_tells_of_the_gap_and_of_no_spike() {
    let mut command = tests::program::collector();
    command.args([
        "--interval=200ms",
        "--output=json",
        "--log-format=json",
        "--log-level=debug",
        "--ebpf=off",
    ]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    let mut burner =
        std::process::Command::new(tests::program::workload()).args(["burn", "60000"]).spawn().unwrap();
    for _ in 0..3 {
        program.wait_for("pass");
    }
    // In the long form, as long as a machine may be suspended.
    let stopped: u64 = if std::env::var_os("FAULT_ROUNDS").is_some() { 30 } else { 6 };
    program.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(stopped));
    program.signal(Signal::CONT);
    for _ in 0..3 {
        program.wait_for("pass");
    }
    let ended = program.stop();
    burner.kill().unwrap();
    burner.wait().unwrap();
    let payload: Value = serde_json::from_str(&ended.stdout).unwrap();
    let missed = payload["attribution"]["missed_samples"].as_u64().unwrap();
    assert!((stopped * 5 - 5..stopped * 5 + 10).contains(&missed), "{missed}");
    assert!(payload["duration_seconds"].as_f64().unwrap() > stopped as f64);
    // A process with one thread never uses more than one core, no matter how late the pass is. Ticks are 10 ms.
    let busy = payload["top_cpu_processes"].as_array().unwrap();
    let busy = busy.iter().find(|process| process["name"] == "workload").unwrap();
    let peak = busy["peak_cpu_percent"].as_f64().unwrap();
    assert!((1.0..=115.0).contains(&peak), "{peak}");
    assert!(busy["cpu_seconds"].as_f64().unwrap() > 0.5, "{busy}");
}
