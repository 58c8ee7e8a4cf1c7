//! Few descriptors, little memory, a restricted /proc, and little time.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::program::{Program, path};
use tests::receiver::Receiver;
use tests::{day, stub};
use wire::Payload;

use super::{about_to_push, all_of, deliver, endpoint, pushing};

#[test]
fn f18_a_day_of_a_hundred_containers_is_acknowledged_in_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let mut worst = Duration::ZERO;
    for samples in [day::LARGEST_EXACT, day::WHOLE] {
        for _ in 0..3 {
            let spool = directory.path().join("spool");
            day::checkpoint(&spool, &day::identity(&super::SCOPE), samples).unwrap();
            let mut command = pushing(&endpoint(&receiver), &token, &spool);
            let program = Program::start(command.env("COLLECTOR_INTERVAL", "1s"));
            program.wait_for("going on with the run of a collector that was killed");
            program.wait_for("measuring");
            let begin = Instant::now();
            program.signal(Signal::TERM);
            program.wait_for("the receiver has the summary");
            worst = worst.max(begin.elapsed());
            assert_eq!(program.wait().status.code(), Some(0));
            assert!(all_of(&spool).is_empty());
        }
    }
    // Other load on the machine counts here. `bench flush` measures the promised figure.
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    let runs = receiver.runs();
    assert_eq!(runs.len(), 6);
    let payload: Payload = serde_json::from_value(runs[0]["payload"].clone()).unwrap();
    assert!(payload.containers.len() >= 100 && payload.sample_count > 86_400, "{}", payload.sample_count);
}

#[test]
fn f25_few_descriptors_are_enough_for_everything() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let mut command = Command::new("prlimit");
    command.arg("--nofile=32:32").arg(path("COLLECTOR_BIN", "collector"));
    let spool = directory.path().join("spool");
    about_to_push(&mut command, &endpoint(&receiver), &receiver.job_token(), &spool);
    command.args(["--push-interval=200ms", "--checkpoint-interval=200ms", "--log-level=debug"]);
    let program = Program::start(&mut command);
    program.wait_for("the receiver has an interim summary");
    program.wait_for("the checkpoint is on disk");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let payload: Payload = serde_json::from_value(receiver.runs()[0]["payload"].clone()).unwrap();
    assert!(payload.sample_count > 2 && payload.attribution.unwrap().process_count > 3);
    assert!(all_of(&spool).is_empty());
}

#[test]
fn f25_with_too_little_memory_it_says_so_and_what_was_there_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let spool = directory.path().join("spool");
    day::checkpoint(&spool, &day::identity(&super::SCOPE), day::LARGEST_EXACT).unwrap();
    let limited = |bytes: u64| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={bytes}:{bytes}")).arg(path("COLLECTOR_BIN", "collector"));
        about_to_push(&mut command, &endpoint(&receiver), &receiver.job_token(), &spool);
        Program::start(&mut command)
    };
    // The program's own memory, and a little more. The checkpoint's samples alone need more than that, so the collector
    // measures a new run.
    let starts = |bytes: &u64| {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={bytes}:{bytes}")).arg(path("COLLECTOR_BIN", "collector")).arg("--version");
        command.output().unwrap().status.success()
    };
    let itself = (8..512).map(|mebibytes| mebibytes << 20).find(starts).unwrap();
    let program = limited(itself + (8 << 20));
    let line = program.wait_for("a checkpoint cannot be read and stays where it is");
    assert!(line["error"].as_str().unwrap().contains("memory"), "{line}");
    program.wait_for("measuring");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(super::spooled(&spool, ".checkpoint").len(), 1, "{:?}", all_of(&spool));
    // This is enough for a whole day of a hundred containers.
    let program = limited(512 << 20);
    program.wait_for("going on with the run of a collector that was killed");
    program.wait_for("measuring");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(receiver.runs().len(), 2);
}

#[test]
fn f25_a_full_disk_costs_the_spool_and_not_the_push() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let full = directory.path().join("full");
    std::fs::create_dir(&full).unwrap();
    let script = "mount -t tmpfs -o size=64k tmpfs \"$1\"; mkdir \"$1/spool\"; cat /dev/zero > \"$1/filler\"; exec \"$0\"";
    let start = |endpoint: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(path("COLLECTOR_BIN", "collector")).arg(&full);
        about_to_push(&mut command, endpoint, &receiver.job_token(), &full.join("spool"));
        command.env("COLLECTOR_CHECKPOINT_INTERVAL", "100ms").env("COLLECTOR_SHUTDOWN_TIMEOUT", "300ms");
        let program = Program::start(&mut command);
        let line = program.wait_for("a checkpoint cannot be written");
        assert!(line["error"].as_str().unwrap().contains("No space left"), "{line}");
        program.stop()
    };
    let ended = start(&endpoint(&receiver));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(receiver.runs().len(), 1);
    // Without a disk and a receiver the summary goes to standard error.
    let ended = start("http://127.0.0.1:1/");
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.lines().any(|line| line.starts_with("{\"organization\"")), "{}", ended.stderr);
}

#[test]
fn f13_the_spool_keeps_to_its_bounds_and_says_what_it_drops() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let spool = directory.path().join("spool");
    let mut dropped = false;
    for run in 0..8 {
        let mut command = pushing("http://127.0.0.1:1/", "t0ken", &spool);
        command
            .env("GITHUB_RUN_ID", format!("run-{run}"))
            .args(["--shutdown-timeout=50ms", "--spool-max-bytes=6k"]);
        let program = Program::start(&mut command);
        program.wait_for("measuring");
        let ended = program.stop();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        dropped |= ended.stderr.contains("an undelivered file was dropped from the spool");
        let bytes: u64 = all_of(&spool).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= 6_000, "{bytes}");
    }
    let left = all_of(&spool).len();
    assert!(dropped && (1..8).contains(&left), "{left} of 8 fit");
    assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
    let runs = receiver.runs();
    assert_eq!((runs.len(), &runs[0]["run_id"]), (left, &"run-7".into()), "the newest are kept");
}

#[test]
fn f26_what_proc_hides_is_told_and_not_taken_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program_path = directory.path().join("collector");
    std::fs::copy(path("COLLECTOR_BIN", "collector"), &program_path).unwrap();
    let receiver = stub::Stub::answering(vec![stub::stored()]);
    for option in ["hidepid=2", "hidepid=1"] {
        let script = format!(
            "mount -t proc -o {option} proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\""
        );
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            &format!("sleep 60 & {script}"),
        ]);
        command.arg(&program_path);
        about_to_push(&mut command, &receiver.endpoint(), "t0ken", &directory.path().join("spool"));
        let program = Program::start(&mut command);
        let line = program.wait_for("the usage of some processes is not counted");
        assert!(line["hidden"].as_str().unwrap().starts_with("proc is mounted with hidepid="), "{line}");
        program.wait_for("measuring");
        // The collector is PID 1 in the namespace, and `unshare` forwards no signals.
        let inside = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
        let pid = rustix::process::Pid::from_raw(inside.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(program.wait().status.code(), Some(0));
        let body: wire::Submission =
            serde_json::from_slice(&receiver.requests().last().unwrap().body).unwrap();
        assert!(body.payload.collector.unwrap().hidden.unwrap().contains("hidepid"));
    }
}
