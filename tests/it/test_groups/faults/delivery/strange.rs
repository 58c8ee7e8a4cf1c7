//! Reused PIDs, and misleading names.

use std::process::Command;

use tests::cgroup::Cgroup;
use tests::program::{Program, path, workload};
use tests::receiver::Receiver;
use tests::scene::{PROCESS, Process, own_cgroup_namespace, write};
use wire::Payload;

use super::{endpoint, pushing};

#[test]
fn f22_a_pid_that_is_given_out_again_is_another_process() {
    // In a PID namespace of its own the next PID can be chosen.
    let script = r#"
        "$0" --interval=50ms --output=json --ebpf=off --log-level=error &
        collector=$!
        sleep 0.4
        sh -c 'exec "$0" burn 600' "$1" & first=$!
        wait $first
        sleep 0.2
        echo $((first - 1)) > /proc/sys/kernel/ns_last_pid
        sh -c 'exec "$0" burn 300' "$1" & second=$!
        wait $second
        test $first = $second || exit 9
        echo $((first - 1)) > /proc/sys/kernel/ns_last_pid
        sh -c 'exec "$0" burn 200' "$1" & third=$!
        wait $third
        test $first = $third || exit 9
        sleep 0.2
        kill $collector
        wait $collector
    "#;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    let output = command.arg(path("COLLECTOR_BIN", "collector")).arg(workload()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "9: the PID was not given out again; {output:?}");
    let payload: Payload = serde_json::from_slice(&output.stdout).unwrap();
    let mut burners: Vec<_> =
        payload.top_cpu_processes.iter().filter(|process| process.name == "workload").collect();
    burners.sort_by(|one, other| other.cpu_seconds.partial_cmp(&one.cpu_seconds).unwrap());
    assert_eq!(burners.len(), 3, "{:?}", payload.top_cpu_processes);
    assert!(burners.iter().all(|process| process.pid == burners[0].pid));
    let seconds = |at: usize| burners[at].cpu_seconds.unwrap();
    assert!((0.4..0.64).contains(&seconds(0)), "{burners:?}");
    assert!(seconds(1) < 0.34 && seconds(2) < 0.24 && seconds(2) > 0.0, "{burners:?}");
    // The parent's sum includes the time that no pass saw.
    let total = payload.attribution.unwrap().cpu_seconds;
    assert!((1.05..1.6).contains(&total), "{total}");
}

#[test]
fn f23_names_that_mislead_are_names() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let root = directory.path().join("proc");
    own_cgroup_namespace(&root);
    let names: [&[u8]; 8] = [
        b"x) R 1 1\n(y",
        b"a b\tc",
        b"\xff\xfe\x80",
        b")))",
        b"\"],\"x\":[{\"",
        b"\\u0000\\",
        b"\x1b[31mred\x07",
        b"<script>",
    ];
    let cgroups = ["0::/a\"b\\c\n", "0::/x:y:z (deleted)\n", "junk\n::\n7\n0::/../\u{1}\n", "0::/pod<&>\n"];
    let processes = |own: u64| -> Vec<Process<'_>> {
        let processes = names.iter().enumerate().map(|(at, comm)| Process {
            pid: 10 + at as u32,
            comm,
            own: own * (at as u64 + 1),
            rss: 10,
            cgroup: cgroups[at % cgroups.len()],
            ..PROCESS
        });
        processes.collect()
    };
    write(&root, &processes(0));
    let mut command = pushing(&endpoint(&receiver), &receiver.job_token(), &directory.path().join("spool"));
    command.arg("--proc-path").arg(&root).arg("--cgroup-path").arg(directory.path());
    command.args(["--log-level=debug", "--push-interval=100ms", "--checkpoint-interval=100ms"]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    write(&root, &processes(50));
    program.wait_for("the checkpoint is on disk");
    program.wait_for("the receiver has an interim summary");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let runs = receiver.runs();
    let payload: Payload = serde_json::from_value(runs[0]["payload"].clone()).unwrap();
    let mut seen: Vec<_> = payload.top_commands.iter().map(|command| command.name.clone()).collect();
    let mut expected: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(payload.attribution.unwrap().cpu_seconds, 18.0);
}

#[test]
fn f23_so_are_those_that_the_kernel_itself_shows() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let cgroup = Cgroup::new().unwrap();
    let inner = cgroup.path().join("a\"b:c 0::\\");
    std::fs::create_dir(&inner).unwrap();
    let program_path = directory.path().join("x) R 1\n(\"");
    std::fs::copy(workload(), &program_path).unwrap();
    let mut command = pushing(&endpoint(&receiver), &receiver.job_token(), &directory.path().join("spool"));
    let program = Program::start(command.args(["--log-level=debug"]));
    program.wait_for("measuring");
    let mut burner = Command::new("sh")
        .args(["-c", "echo $$ > \"$0/cgroup.procs\"; exec \"$1\" burn 400"])
        .arg(&inner)
        .arg(&program_path)
        .spawn()
        .unwrap();
    assert!(burner.wait().unwrap().success());
    program.wait_for("pass");
    program.wait_for("pass");
    let ended = program.stop();
    std::fs::remove_dir(&inner).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let payload: Payload = serde_json::from_value(receiver.runs()[0]["payload"].clone()).unwrap();
    let found = payload.top_commands.iter().find(|command| command.name.starts_with("x) R 1\n("));
    let found = found.unwrap_or_else(|| panic!("{:?}", payload.top_commands));
    assert_eq!(found.name, "x) R 1\n(\"");
    assert!(found.cpu_seconds > 0.3, "{found:?}");
    let container = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroup.id()));
    let container = container.expect("the container above that name");
    assert!(container.cpu_seconds.unwrap() > 0.3, "{container:?}");
}
