//! On the real kernel, as root: cgroups made for the test, compared with the kernel's own count.

mod forged;

use std::process::Command;

use tests::privileges::{Capabilities, as_nobody};
use tests::program::path;
use wire::Payload;

use crate::beside::{self, Measured};

/// Measures with a collector without privileges.
fn measure(interval: &str, script: &str) -> Measured {
    beside::measure(Capabilities::None, &[&format!("--interval={interval}")], script)
}

#[test]
fn a_thousand_short_processes_are_charged_to_their_container() {
    let measured = measure("500ms", "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done");
    measured.assert_share(0, 97.0, 103.0);
    let Measured { payload, .. } = measured;
    let sum: f64 = payload.containers.iter().filter_map(|usage| usage.cpu_seconds).sum();
    let attribution = payload.attribution.unwrap();
    assert!((sum + attribution.unattributed_cpu_seconds - attribution.cpu_seconds).abs() < 1e-6);
}

#[test]
fn threads_count_and_the_kernels_own_figure_is_told() {
    let measured = measure("300ms", "exec \"$4\" threads 4 800");
    measured.assert_share(0, 97.0, 101.0);
    let usage = measured.usage(0);
    let told = usage.cgroup_cpu_seconds.expect("the kernel's own figure");
    assert!((told - measured.cgroups[0].cpu_seconds().unwrap()).abs() < 0.05, "{told}");
    assert!(usage.cpu_cores.peak > 1.0, "{:?}", usage.cpu_cores);
}

#[test]
fn a_program_whose_first_thread_has_ended_is_not_lost() {
    let measured = measure("100ms", "\"$4\" headless 900 50000000; true");
    measured.assert_share(0, 97.0, 101.0);
    let usage = measured.usage(0);
    assert!(usage.memory_bytes.peak > 50e6, "{:?}", usage.memory_bytes);
}

/// Where no account of the container can be read, its memory is that of its processes: a page that several of them share counts
/// once. A file in shared memory may be this container's.
#[test]
fn memory_without_an_account_counts_each_page_once() {
    const MIB: u64 = 1 << 20;
    let no_cgroups = tempfile::tempdir().unwrap();
    let cgroup_path = format!("--cgroup-path={}", no_cgroups.path().display());
    let script = "head -c 62914560 /dev/zero > /dev/shm/collector-test-$$; \"$4\" share 104857600 5 600; rm /dev/shm/collector-test-$$";
    let measured = beside::measure(Capabilities::None, &["--interval=500ms", &cgroup_path], script);
    let usage = measured.usage(0);
    assert_eq!((usage.memory_needed_at_least_bytes, usage.memory_needed_at_most_bytes), (None, None));
    assert!(usage.memory_bytes.peak > 600e6, "each process has all of it: {:?}", usage.memory_bytes);
    let seen = usage.processes_memory_bytes.unwrap() / MIB;
    assert!((100..125).contains(&seen), "{seen} MiB");
    let at_most = usage.processes_memory_at_most_bytes.unwrap() / MIB;
    assert!((seen + 59..seen + 75).contains(&at_most), "{seen} to {at_most} MiB");
}

#[test]
fn a_process_that_moves_is_charged_where_it_ran() {
    // The shell stays, so that the moved child does not count as a container inside its parent's.
    let measured = measure("50ms", "\"$4\" mover \"$1\" \"$2\" 4 600; true");
    measured.assert_share(0, 85.0, 115.0);
    measured.assert_share(1, 85.0, 115.0);
    let (first, second) = (measured.attributed_and_truth(0), measured.attributed_and_truth(1));
    let (found, truth) = (first.0 + second.0, first.1 + second.1);
    assert!((found / truth - 1.0).abs() < 0.03, "{found} of {truth}");
}

#[test]
fn orphans_are_not_counted_twice() {
    let measured = measure("50ms", "\"$4\" orphans 20 150; sleep 0.5");
    // At least one pass sees each orphan. The last moments that init collects are attributed to them as well.
    measured.assert_share(0, 70.0, 102.0);
}

#[test]
fn processes_that_may_not_be_seen_are_reported() {
    // A separate /proc with hidepid hides other users' processes.
    let directory = tempfile::tempdir().unwrap();
    let collector = as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), Capabilities::None);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount -t proc -o hidepid=2 proc /proc && exec timeout -s TERM --preserve-status 1 \"$@\"",
    ]);
    command.arg("sh").arg(collector.as_ref().unwrap().get_program()).args(collector.unwrap().get_args());
    command.args(["--interval=100ms", "--output=json", "--log-level=error"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let payload: Payload = serde_json::from_slice(&output.stdout).unwrap();
    assert!(payload.attribution.unwrap().process_count < 5);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.is_empty(), "{stderr}");
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn a_command_has_the_limits_of_the_container_that_it_is_run_in() {
    use tests::cgroup::Cgroup;
    use tests::program::{collector, workload};

    let cgroup = Cgroup::limited_v1(0.2, 512 << 20).unwrap();
    let enter = |directory: &std::path::Path| format!("echo $$ > {}/cgroup.procs; ", directory.display());
    let enter: String = cgroup.directories().map(enter).collect();
    let run = collector();
    let script = format!(
        "{enter}exec \"$0\" run --interval=50ms --output=json --log-level=error -- \"$1\" threads 2 200"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(run.get_program()).arg(workload());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    cgroup.wait_until_empty().unwrap();
    let payload: Payload = serde_json::from_slice(&output.stderr).unwrap();
    let usage = &payload.containers[0];
    assert_eq!(usage.name, "run");
    assert_eq!((usage.cpu_limit_cores, usage.memory_limit_bytes), (Some(0.2), Some(512 << 20)));
    assert_eq!(usage.oom_kills, Some(0));
    let (periods, throttled) = (usage.cpu_periods.unwrap(), usage.cpu_throttled_periods.unwrap());
    assert!(throttled >= 3 && periods >= throttled, "{throttled} of {periods}");
    // The container's figures include other processes and earlier times, so they are not the command's.
    assert_eq!((usage.cgroup_cpu_seconds, usage.memory_peak_bytes), (None, None));
    assert!(usage.working_set_bytes.is_none());
}

/// A runner without containers is a service of its machine.
#[cfg(feature = "cgroup-v1")]
#[test]
fn a_command_in_a_service_with_limits_has_them_and_what_they_did() {
    use tests::cgroup::Cgroup;
    use tests::program::{collector, workload};

    let cgroup = Cgroup::service_v1(0.25, 64 << 20).unwrap();
    let enter = |directory: &std::path::Path| format!("echo $$ > {}/cgroup.procs; ", directory.display());
    let enter: String = cgroup.directories().map(enter).collect();
    let script = "\"$0\" threads 2 300; sh -c 'x=$(head -c 100M /dev/zero | tr \"\\0\" x)'; true";
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    for form in ["json", "text"] {
        let run = collector();
        let to = format!("--output={form} --output-file={}", report.display());
        let options = format!("run --ebpf=off --interval=100ms {to} --log-level=error");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{enter}exec \"$0\" {options} -- sh -c \"$1\" \"$2\"")]);
        let output = command.arg(run.get_program()).arg(script).arg(workload()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        cgroup.wait_until_empty().unwrap();
        let told = std::fs::read_to_string(&report).unwrap();
        if form == "text" {
            assert!(told.contains("1 OOM kill") && told.contains("throttled"), "{told}");
            continue;
        }
        let payload: Payload = serde_json::from_str(&told).unwrap();
        let usage = &payload.containers[0];
        assert_eq!((usage.cpu_limit_cores, usage.memory_limit_bytes), (Some(0.25), Some(64 << 20)));
        assert_eq!(usage.oom_kills, Some(1));
        assert!(usage.cpu_throttled_seconds.unwrap() > 0.1, "{usage:?}");
    }
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn limits_that_were_met_are_told_as_the_kernel_counted_them() {
    use tests::cgroup::Cgroup;
    use tests::privileges::open_to_all;

    let page = tempfile::tempdir().unwrap();
    open_to_all(page.path(), 0o777).unwrap();
    let summary = page.path().join("summary.md");
    let cgroups = [Cgroup::limited_v1(0.25, 32 << 20).unwrap(), Cgroup::new_v1().unwrap()];
    let enter: String = cgroups[0]
        .directories()
        .map(|directory| format!("echo $$ > {}/cgroup.procs; ", directory.display()))
        .collect();
    let stat =
        cgroups[0].directories().map(|directory| directory.join("cpu.stat")).find(|file| file.exists());
    let script = format!("{enter}\"$4\" threads 2 300; \"$4\" headless 900 50000000; true");
    let summary_option = format!("--summary-file={}", summary.display());
    let options = ["--interval=100ms", summary_option.as_str()];
    let measured = beside::measure_in(cgroups, Capabilities::None, &options, &script);
    let usage = measured.usage(0);
    assert_eq!((usage.cpu_limit_cores, usage.memory_limit_bytes), (Some(0.25), Some(32 << 20)));
    assert_eq!(usage.oom_kills, Some(1));
    let stat = std::fs::read_to_string(stat.unwrap()).unwrap();
    let truth = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap()
    };
    // Nothing runs in the cgroup since the last sample, but a throttling period may have ended since.
    let (periods, throttled) = (usage.cpu_periods.unwrap(), usage.cpu_throttled_periods.unwrap());
    assert!(throttled >= 10 && periods >= throttled, "{throttled} of {periods}");
    assert!(
        truth("nr_periods") - periods <= 1 && truth("nr_throttled") - throttled <= 1,
        "{periods}: {stat}"
    );
    let markdown = std::fs::read_to_string(&summary).unwrap();
    for part in
        ["` ran out of memory: 1 process killed, its limit is 32.0 MiB.", "` was throttled in ", "0.25 |"]
    {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }
}
