//! The push token, searched for in every place that a job can read.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::program::{Program, collector, path};
use tests::stub::{Stub, stored};

use super::{about_to_push, all_of, pushing};

const TOKEN: &str = "s3cret-t0ken-that-nobody-may-see";
const NOBODY: u32 = 65534;

fn holds(content: &[u8]) -> bool {
    content.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
}

/// A file of a process in /proc, read as root.
fn shown(pid: u32, name: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{name}")).unwrap()
}

#[test]
fn f36_the_token_is_in_no_log_no_argument_no_environment_and_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let receiver = Stub::answering(vec![tests::stub::answer("500 Oops", "", ""), stored()]);
    let mut command = pushing(&receiver.endpoint(), TOKEN, &spool);
    command.args(["--log-level=debug", "--push-interval=100ms", "--checkpoint-interval=100ms"]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    assert!(holds(b"x s3cret-t0ken-that-nobody-may-see y"), "this test can find it");
    let environ = shown(program.pid(), "environ");
    assert!(environ.windows(13).any(|window| window == b"GITHUB_RUN_ID"), "this is its environment");
    assert!(!holds(&environ));
    assert!(!holds(&shown(program.pid(), "cmdline")));
    receiver.wait_for(2);
    let requests = receiver.requests();
    assert!(requests[0].head.contains(TOKEN), "it is used");
    for file in all_of(&spool) {
        assert!(!holds(&std::fs::read(&file).unwrap_or_default()), "{}", file.display());
    }
    let ended = program.stop();
    assert!(!holds(ended.stderr.as_bytes()) && !holds(ended.stdout.as_bytes()));
}

#[test]
fn f36_a_job_of_the_same_user_can_look_at_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let spool = directory.path().join("spool");
    let receiver = Stub::answering(vec![stored()]);
    let program_path = directory.path().join("collector");
    std::fs::copy(path("COLLECTOR_BIN", "collector"), &program_path).unwrap();
    let mut command = Command::new(&program_path);
    about_to_push(&mut command, &receiver.endpoint(), TOKEN, &spool);
    let program = Program::start(command.uid(NOBODY).gid(NOBODY));
    program.wait_for("measuring");
    let readable = |name: &str| {
        let file = format!("/proc/{}/{name}", program.pid());
        let mut head = Command::new("head");
        head.args(["-c1", &file]).uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).stderr(Stdio::null());
        head.status().unwrap().success()
    };
    assert!(readable("stat"), "what everybody may read, it can");
    for name in ["environ", "mem", "maps", "auxv"] {
        assert!(!readable(name), "{name} can be read");
    }
    // The collector still works as that user: it reads /proc, spools and pushes.
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let body: wire::Submission = serde_json::from_slice(&receiver.requests()[0].body).unwrap();
    assert!(body.payload.sample_count >= 2 && !body.payload.containers.is_empty());
    let attribution = body.payload.attribution.unwrap();
    assert!(attribution.process_count > 2, "{attribution:?}");
    assert_eq!(body.payload.collector.unwrap().hidden, None);
}

#[test]
fn f36_a_command_that_is_measured_does_not_inherit_it() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Stub::answering(vec![stored()]);
    let mut command = pushing(&receiver.endpoint(), TOKEN, &directory.path().join("spool"));
    let output =
        command.args(["run", "--", "sh", "-c", "env; cat /proc/self/environ /proc/$PPID/environ"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("GITHUB_RUN_ID=run-123"), "{text}");
    assert!(!text.contains("COLLECTOR_PUSH_TOKEN=s") && !holds(&output.stdout), "{text}");
    assert!(receiver.requests()[0].head.contains(TOKEN));
}

#[test]
fn f36_a_crash_leaves_no_core_file() {
    let directory = tempfile::tempdir().unwrap();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let crash = |program: &Path, arguments: &[&str]| {
        let at = tempfile::tempdir_in(directory.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(program).args(arguments);
        about_to_push(&mut command, "http://127.0.0.1:1/", TOKEN, &directory.path().join("spool"));
        let mut child = command.current_dir(at.path()).stderr(Stdio::piped()).spawn().unwrap();
        if arguments.is_empty() {
            let mut begun = [0; 1];
            child.stderr.as_mut().unwrap().read_exact(&mut begun).unwrap();
        }
        let name = program.file_name().unwrap().to_str().unwrap();
        while std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap().trim() != name {
            assert_eq!(child.try_wait().unwrap(), None, "{name} was not started");
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::ABORT).unwrap();
        let status = std::os::unix::process::ExitStatusExt::core_dumped(&child.wait().unwrap());
        (status, std::fs::read_dir(at.path()).unwrap().count())
    };
    let (dumped, files) = crash(&path("COLLECTOR_BIN", "collector"), &[]);
    assert_eq!((dumped, files), (false, 0), "core_pattern is {pattern}");
    // The control: another program leaves a core file, if the kernel writes it into the working directory.
    if pattern.trim().starts_with("core") {
        let (dumped, files) = crash(Path::new("/bin/sleep"), &["60"]);
        assert_eq!((dumped, files), (true, 1), "core_pattern is {pattern}");
    }
}

#[test]
fn f36_a_token_in_the_arguments_and_one_in_the_clear_are_warned_of_once() {
    let warned = |command: &mut Command, what: &str| {
        let program =
            Program::start(command.args(["--log-format=json", "--output=none", "--shutdown-timeout=50ms"]));
        let ended = {
            program.wait_for("measuring");
            program
        };
        // The wait has consumed all earlier lines, so start again.
        drop(ended);
        let output = Program::start(command);
        let line = output.wait_for(what);
        assert!(!line.to_string().contains(TOKEN));
        output.wait_for("measuring");
        let ended = output.stop();
        // Without a spool the summary is printed, and it contains the warnings as well.
        let mut log = ended.stderr.lines().filter(|line| line.starts_with("{\"timestamp\""));
        assert!(!log.any(|line| line.contains(what)), "twice: {}", ended.stderr);
    };
    let mut command = collector();
    command.envs(super::SCOPE).args(["--push-endpoint=http://127.0.0.1:1/", "--push-token", TOKEN]);
    warned(
        &mut command,
        "--push-token on the command line can be read by every visible process, including the job: use --push-token-file, or the variable COLLECTOR_PUSH_TOKEN",
    );
    let mut command = collector();
    command.envs(super::SCOPE).arg("--push-endpoint=http://receiver.example.invalid/");
    warned(
        command.env("COLLECTOR_PUSH_TOKEN", TOKEN),
        "the push token goes over plain http to a host outside the cluster: use https",
    );
}
