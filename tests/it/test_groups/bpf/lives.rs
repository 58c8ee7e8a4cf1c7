//! Process lives of which /proc shows little or nothing.

use super::{BETWEEN_PASSES, assert_attributed, at_all_intervals, measure};

#[test]
fn short_processes_are_charged_counted_and_named() {
    at_all_intervals("i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done", |measured| {
        assert_eq!(measured.usage(0).process_count, Some(501));
        assert_eq!(measured.command("true").process_count, 500);
        assert_eq!(measured.command("sh").process_count, 1);
        assert_eq!(measured.command("true").peak_process_count, Some(1), "one after another");
    });
}

#[test]
fn what_ran_at_once_and_what_was_written_is_known_of_the_shortest_processes() {
    let script =
        "for i in 1 2 3 4 5; do sleep 0.03 & done; wait; sleep 0.03; head -c 8388608 /dev/zero > \"$3/x\"";
    at_all_intervals(script, |measured| {
        let sleep = measured.command("sleep");
        assert_eq!((sleep.process_count, sleep.peak_process_count), (6, Some(5)));
        assert_eq!(sleep.disk_written_bytes, None);
        let head = measured.command("head").disk_written_bytes;
        assert!(head.is_some_and(|bytes| (8 << 20..9 << 20).contains(&bytes)), "{head:?}");
    });
}

#[test]
fn a_parent_that_ignores_its_childrens_end_hides_nothing() {
    at_all_intervals("\"$4\" deaf 100 5", |measured| {
        assert_eq!(measured.command("workload").process_count, 101);
    });
}

#[test]
fn orphans_count_where_they_are() {
    // 50 pairs of a parent and an orphan, and the workload itself. The adopting process may wait for the orphans late.
    at_all_intervals("\"$4\" orphans 50 10", |measured| {
        assert_eq!(measured.command("workload").process_count, 101);
    });
}

#[test]
fn a_daemon_counts_where_it_is() {
    at_all_intervals("\"$4\" daemon 300", |measured| {
        assert_eq!(measured.command("workload").process_count, 3);
        assert!(measured.command("workload").cpu_seconds > 0.3);
    });
}

#[test]
fn a_process_is_named_after_what_it_executed_last() {
    let script = "ln -s \"$4\" \"$3/first\"; ln -s \"$4\" \"$3/second\"; ln -s /bin/sh \"$3/shell\";
        \"$3/shell\" -c 'exec \"$0/first\" thread-exec \"$0/second\" burn 60' \"$3\"; true";
    at_all_intervals(script, |measured| {
        assert_eq!(measured.command("second").process_count, 1);
        assert!(measured.command("second").cpu_seconds > 0.06);
        let names: Vec<_> = measured.payload.top_commands.iter().map(|one| one.name.as_str()).collect();
        assert!(!names.contains(&"first") && !names.contains(&"shell"), "{names:?}");
    });
}

#[test]
fn what_a_process_calls_itself_is_not_what_it_executed() {
    let measured = measure(BETWEEN_PASSES, "\"$4\" alias MainThread 50; true");
    assert_attributed(&measured, 0);
    assert_eq!(measured.command("workload").process_count, 2, "with the child that executed nothing");
}

#[test]
fn a_leader_that_ends_before_its_threads_ends_nothing() {
    at_all_intervals("\"$4\" headless 300 30000000; true", |measured| {
        assert_eq!(measured.command("workload").process_count, 1);
        assert!(measured.command("workload").peak_mem_bytes > 30_000_000);
    });
}

#[test]
fn five_hundred_threads_are_one_process() {
    // The kernel's own sum lacks the last 10 to 50 µs of each thread but the first.
    for interval in ["--interval=50ms", "--interval=700ms", BETWEEN_PASSES] {
        let measured = measure(interval, "\"$4\" threads 500 6; true");
        measured.assert_share(0, 99.0, 100.5);
        assert_eq!(measured.command("workload").process_count, 1);
        assert_eq!(measured.usage(0).process_count, Some(2));
    }
}

#[test]
fn vforked_children_count() {
    at_all_intervals("\"$4\" vforks 200; true", |measured| {
        assert_eq!(measured.command("true").process_count, 200);
    });
}

#[test]
fn a_process_that_moves_is_charged_where_it_ran() {
    for interval in ["--interval=50ms", "--interval=700ms", BETWEEN_PASSES] {
        let measured = measure(interval, "\"$4\" mover \"$1\" \"$2\" 6 150; true");
        assert_attributed(&measured, 0);
        assert_attributed(&measured, 1);
    }
}

#[test]
fn the_peak_of_memory_is_the_kernels() {
    let script =
        "ln -s \"$4\" \"$3/toucher\"; \"$4\" rusage \"$3/toucher\" touch 41943040 > \"$3/maxrss\"; true";
    let measured = measure(BETWEEN_PASSES, script);
    let told = std::fs::read_to_string(measured.directory.path().join("maxrss")).unwrap();
    let peak = measured.command("toucher").peak_mem_bytes;
    assert_eq!(peak.to_string(), told.trim());
    assert!(peak > 41_943_040, "{peak}");
}

#[test]
fn reused_pids_are_told_apart() {
    // A PID namespace of its own hands out about 100 PIDs at most (Linux 6.14 and later); the collector runs in it.
    let cgroups = [tests::cgroup::Cgroup::new().unwrap(), tests::cgroup::Cgroup::new().unwrap()];
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let script = "echo 400 > /proc/sys/kernel/pid_max
        \"$0\" --ebpf=require --interval=60s --top=100 --output=json --output-file=\"$1\" --log-level=error & collector=$!
        sleep 1
        sh -c 'echo 0 > \"$0/cgroup.procs\"; i=0; while [ $i -lt 1500 ]; do /bin/true; i=$((i+1)); done' \"$2\"
        kill -TERM $collector; wait $collector";
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    command.arg(tests::program::path("COLLECTOR_BIN", "collector")).arg(&report).arg(cgroups[0].path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let payload: wire::Payload = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let usage = payload.containers.iter().find(|one| one.id.as_deref() == Some(cgroups[0].id())).unwrap();
    assert_eq!(usage.process_count, Some(1501));
    let share = usage.cpu_seconds.unwrap() / cgroups[0].cpu_seconds().unwrap();
    assert!((0.98..=1.02).contains(&share), "{share}");
}
