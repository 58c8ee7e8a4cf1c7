//! On the real kernel, as root: cgroups made for the test, and what the kernel charged to them.

use std::process::Command;

use tests::cgroup::Cgroup;
use tests::program::{Program, path, workload};
use wire::Payload;

fn cgroups() -> [Cgroup; 2] {
    [Cgroup::new().unwrap(), Cgroup::new().unwrap()]
}

/// Runs a script in the first cgroup with a collector beside it that runs as nobody; `$1`, `$2` are the cgroups.
fn measure(cgroups: &[Cgroup; 2], interval: &str, script: &str) -> Payload {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let collector = directory.path().join("collector");
    std::fs::copy(path("COLLECTOR_BIN", "collector"), &collector).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&collector);
    command.args(["--log-format=json", "--output=json", &format!("--interval={interval}")]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    let mut job = Command::new("sh");
    job.args(["-c", &format!("echo $$ > \"$1/cgroup.procs\"; {script}"), "sh"]);
    assert!(job.args([cgroups[0].path(), cgroups[1].path()]).status().unwrap().success(), "{script}");
    cgroups.iter().try_for_each(Cgroup::wait_until_empty).unwrap();
    let ended = program.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn attributed(payload: &Payload, cgroup: &Cgroup) -> f64 {
    let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroup.id()));
    usage.and_then(|usage| usage.cpu_seconds).unwrap_or_default()
}

#[track_caller]
fn assert_share(payload: &Payload, cgroup: &Cgroup, low: f64, high: f64) {
    let (found, truth) = (attributed(payload, cgroup), cgroup.cpu_seconds().unwrap());
    let share = 100.0 * found / truth;
    assert!((low..=high).contains(&share), "{found} s of {truth} s are {share:.1} %");
}

#[test]
fn a_thousand_short_processes_are_charged_to_their_container() {
    let cgroups = cgroups();
    let payload = measure(&cgroups, "500ms", "i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done");
    assert_share(&payload, &cgroups[0], 97.0, 103.0);
    let sum: f64 = payload.containers.iter().filter_map(|usage| usage.cpu_seconds).sum();
    let attribution = payload.attribution.unwrap();
    assert!((sum + attribution.unattributed_cpu_seconds - attribution.cpu_seconds).abs() < 1e-6);
}

#[test]
fn threads_count_and_the_kernels_own_figure_is_told() {
    let cgroups = cgroups();
    let script = format!("exec {} threads 4 800", workload().display());
    let payload = measure(&cgroups, "300ms", &script);
    assert_share(&payload, &cgroups[0], 97.0, 101.0);
    let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroups[0].id())).unwrap();
    let told = usage.cgroup_cpu_seconds.expect("the kernel's own figure");
    assert!((told - cgroups[0].cpu_seconds().unwrap()).abs() < 0.05, "{told}");
    assert!(usage.cpu_cores.peak > 1.0, "{:?}", usage.cpu_cores);
}

#[test]
fn a_program_whose_first_thread_has_ended_is_not_lost() {
    let cgroups = cgroups();
    let script = format!("{} headless 900 50000000; true", workload().display());
    let payload = measure(&cgroups, "100ms", &script);
    assert_share(&payload, &cgroups[0], 97.0, 101.0);
    let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroups[0].id())).unwrap();
    assert!(usage.memory_bytes.peak > 50e6, "{:?}", usage.memory_bytes);
}

#[test]
fn a_process_that_moves_is_charged_where_it_ran() {
    let cgroups = cgroups();
    // A child of a shell that stays: being moved does not make it a container inside its parent's.
    let script = format!("{} mover \"$1\" \"$2\" 4 600; true", workload().display());
    let payload = measure(&cgroups, "50ms", &script);
    assert_share(&payload, &cgroups[0], 85.0, 115.0);
    assert_share(&payload, &cgroups[1], 85.0, 115.0);
    let found = attributed(&payload, &cgroups[0]) + attributed(&payload, &cgroups[1]);
    let truth = cgroups[0].cpu_seconds().unwrap() + cgroups[1].cpu_seconds().unwrap();
    assert!((found / truth - 1.0).abs() < 0.03, "{found} of {truth}");
}

#[test]
fn orphans_are_not_counted_twice() {
    let cgroups = cgroups();
    let script = format!("{} orphans 20 150; sleep 0.5", workload().display());
    let payload = measure(&cgroups, "50ms", &script);
    // Seen by at least one pass each; what init reaps of their last moments goes to them as well.
    assert_share(&payload, &cgroups[0], 70.0, 102.0);
}

#[test]
fn processes_that_may_not_be_seen_are_reported() {
    // A proc of its own with hidepid: others' processes are not there.
    let script = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
        timeout -s TERM --preserve-status 1 \"$0\" --interval=100ms --output=json --log-level=error";
    let directory = tempfile::tempdir().unwrap();
    let collector = directory.path().join("collector");
    std::fs::copy(path("COLLECTOR_BIN", "collector"), &collector).unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output =
        Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(&collector).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let payload: Payload = serde_json::from_slice(&output.stdout).unwrap();
    assert!(payload.attribution.unwrap().process_count < 5);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.is_empty(), "{stderr}");
}
