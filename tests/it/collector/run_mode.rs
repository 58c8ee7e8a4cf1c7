//! `collector run`.

use std::process::{Command, Output};

use rustix::process::Signal;
use tests::program::{Program, collector, path, workload};
use wire::Payload;

fn run(arguments: &[&str]) -> Output {
    let mut command = collector();
    command.args(["run", "--interval=50ms", "--output=json", "--log-level=error", "--"]).args(arguments);
    command.output().unwrap()
}

#[test]
fn output_and_exit_code_are_the_commands() {
    let output = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let payload: Payload = serde_json::from_str(stderr.strip_prefix("err\n").unwrap()).unwrap();
    assert_eq!(payload.collector.unwrap().mode, "run");
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status.code(), Some(128 + 9));
    assert_eq!(run(&["/nowhere/program"]).status.code(), Some(127));
    assert_eq!(run(&["/etc/passwd"]).status.code(), Some(126));
}

#[test]
fn standard_input_is_the_commands() {
    let mut command = collector();
    command.args(["run", "--output=none", "--log-level=error", "--", "cat"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through");
}

#[test]
fn everything_that_the_command_started_is_in_it_orphans_included() {
    let workload = workload();
    let script = format!("{0} burn 300; {0} orphans 5 60; {0} threads 2 200", workload.display());
    let output = run(&["sh", "-c", &script]);
    let payload: Payload = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(payload.containers.len(), 1);
    let usage = &payload.containers[0];
    assert_eq!(usage.name, "run");
    // 0.3 s, 5 times 0.06 s, 2 times 0.2 s, and the time to start all of them.
    let seconds = usage.cpu_seconds.unwrap();
    assert!(seconds > 0.95 && seconds < 1.4, "{seconds}");
    assert_eq!(payload.attribution.unwrap().unattributed_cpu_seconds, 0.0);
    assert!(payload.top_commands.iter().any(|command| command.name == "workload"));
}

#[test]
fn a_step_is_its_command_with_one_variable_more() {
    let env = |command: &mut Command| {
        let output = command.env("COLLECTOR_PUSH_TOKEN", "secret").env("SSL_CERT_FILE", "").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let mut alone = Command::new("env");
    let expected = env(alone.env("COLLECTOR_SPOOL_DIR", "none").env("COLLECTOR_STEP", "link: all"));
    assert_eq!(env(collector().args(["step", "link: all", "--", "env"])), expected);
    let code =
        |arguments: &[&str]| collector().args(["step", "x"]).args(arguments).output().unwrap().status.code();
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(
        (code(&["/nowhere/program"]), code(&["/etc/passwd"]), code(&[])),
        (Some(127), Some(126), Some(2))
    );
    // A wrong variable of the collector is no concern of a step.
    let mut wrong = collector();
    wrong.args(["step", "x", "true"]).env("COLLECTOR_INTERVAL", "never");
    assert!(wrong.output().unwrap().status.success());
}

#[test]
fn steps_are_told_apart() {
    let (workload, collector) = (workload(), path("COLLECTOR_BIN", "collector"));
    let [burn, step] = [&workload, &collector].map(|path| path.display());
    let script = format!(
        "{burn} burn 150; {step} step compile -- sh -c '{burn} burn 300; {burn} touch 52428800'
         {step} step 'unit tests' sh -c '{burn} burn 200 & {burn} burn 200; wait; {step} step one {burn} burn 100'; sleep 0.2"
    );
    let output = run(&["sh", "-c", &script]);
    let payload: Payload = serde_json::from_slice(&output.stderr).unwrap();
    let names: Vec<_> = payload.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["compile", "unit tests", "one"]);
    let [compile, tests, one] = &payload.steps[..] else { unreachable!() };
    for (step, least) in [(compile, 0.3), (tests, 0.4), (one, 0.1)] {
        assert!((least..least + 0.15).contains(&step.cpu_seconds), "{step:?}");
        assert!(step.begin_seconds < step.end_seconds && step.peak_mem_bytes > 0, "{step:?}");
    }
    assert!(compile.end_seconds <= tests.begin_seconds + 0.1 && one.end_seconds <= tests.end_seconds + 0.1);
    let all: f64 = payload.steps.iter().map(|step| step.cpu_seconds).sum();
    let rest = payload.containers[0].cpu_seconds.unwrap() - all;
    assert!((0.14..0.35).contains(&rest), "what is in no step: {rest} s");
}

#[test]
fn signals_are_passed_on() {
    let mut command = collector();
    command.args([
        "run",
        "--output=none",
        "--log-format=json",
        "--log-level=debug",
        "--interval=20ms",
        "--",
        "sh",
        "-c",
    ]);
    command.arg("trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let program = Program::start(&mut command);
    for _ in 0..10 {
        program.wait_for("pass");
    }
    program.signal(Signal::TERM);
    let ended = program.wait();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(ended.stdout, "ready\nterm\n");
}

#[test]
fn the_report_can_go_to_a_file_as_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.txt");
    let mut command = collector();
    command.args(["run", "--interval=20ms", "--log-level=error", "--output-file"]).arg(&file);
    let output = command.args(["--", "sh", "-c", "sleep 0.1"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let report = std::fs::read_to_string(file).unwrap();
    for part in ["Containers", "Commands by CPU", "cores avg", "Measured from", "run "] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    assert!(!report.contains('\u{1b}'));
}

#[test]
fn few_descriptors_are_enough() {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("ulimit -n 32; exec \"$0\" run --interval=20ms --output=json --log-level=error -- sleep 0.2");
    command.arg(path("COLLECTOR_BIN", "collector"));
    let output = tests::program::without_inherited(&mut command).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let payload: Result<Payload, _> = serde_json::from_slice(&output.stderr);
    assert!(payload.is_ok_and(|payload| payload.sample_count > 2), "{output:?}");
}

/// The variables of a runner of Forgejo.
const FORGEJO: [(&str, &str); 9] = [
    ("FORGEJO_ACTIONS", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SERVER_URL", "https://ci.example"),
    ("GITHUB_REPOSITORY", "my-org/my-repo"),
    ("GITHUB_RUN_NUMBER", "7"),
    ("GITHUB_REF", "refs/heads/main"),
    ("GITHUB_SHA", "0123abcd"),
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("COLLECTOR_VARIANT", "{\n  \"os\": \"linux\",\n  \"go\": \"1.26\"\n}"),
];

#[test]
fn the_summary_has_what_the_ci_system_says() {
    let directory = tempfile::tempdir().unwrap();
    let event = directory.path().join("event.json");
    let repository = |name: &str| serde_json::json!({"repo": {"full_name": name}});
    let request = serde_json::json!({"pull_request": {"head": repository("x/my-repo"), "base": repository("my-org/my-repo")}});
    std::fs::write(&event, request.to_string()).unwrap();
    for (script, result) in [("exit 0", "success"), ("exit 3", "failure"), ("kill -9 $$", "failure")] {
        let mut command = collector();
        command.args(["run", "--ebpf=off", "--output=json", "--log-level=error"]);
        command.envs(FORGEJO).env("GITHUB_EVENT_PATH", &event).args(["--", "sh", "-c", script]);
        let report: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stderr).unwrap();
        let said = serde_json::json!({
            "system": "forgejo", "variant": "{\"go\":\"1.26\",\"os\":\"linux\"}", "ref": "refs/heads/main",
            "sha": "0123abcd", "event": "pull_request", "fork": true,
            "url": "https://ci.example/my-org/my-repo/actions/runs/7", "result": result,
        });
        assert_eq!(report["ci"], said, "{script}");
    }
}

#[test]
fn a_command_that_ends_by_a_signal_to_us_was_cancelled() {
    let mut command = collector();
    command.args([
        "run",
        "--ebpf=off",
        "--output=json",
        "--output-file=-",
        "--log-format=json",
        "--log-level=info",
    ]);
    let program = Program::start(command.args(["--", "sleep", "60"]));
    program.wait_for("measuring from /proc alone, without eBPF");
    let ended = program.stop();
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect(&ended.stderr);
    assert_eq!(report["ci"], serde_json::json!({"result": "cancelled"}));
}
