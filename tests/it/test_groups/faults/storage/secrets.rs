//! Secrets: replaced while they are in use, and never shown.

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::Signal;
use tests::faults::{Pushers, body, summary_id};
use tests::program::Program;
use tests::receiver::{HMAC_KEY, READ_TOKEN, Receiver, command};

use super::database::{as_nobody, open_to_all};

#[test]
fn f35_keys_are_replaced_under_load_and_nothing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [keys, read_tokens] = ["keys", "read"].map(|name| directory.path().join(name));
    std::fs::write(&keys, "the-first-key\n").unwrap();
    std::fs::write(&read_tokens, format!("{READ_TOKEN}\n")).unwrap();
    let receiver = Receiver::start_as(&directory.path().join("db"), &[], |command| {
        command.env_remove("RECEIVER_HMAC_KEY").env_remove("RECEIVER_READ_TOKEN");
        command.arg("--hmac-key-file").arg(&keys).arg("--read-token-file").arg(&read_tokens);
    });
    let token = Arc::new(Mutex::new(receiver.job_token()));
    let in_use = Arc::clone(&token);
    let pushers = Pushers::start(&receiver.address, 4, move || in_use.lock().unwrap().clone());
    let reload = |content: &str| {
        std::fs::write(&keys, content).unwrap();
        receiver.program().signal(Signal::HUP);
        receiver.program().wait_for("secrets reloaded")["keys"].as_u64().unwrap()
    };
    let mut names = ["the-first-key".to_owned(), "the-key-number-0".to_owned()];
    for round in 1..=10 {
        let [old, new] = &names;
        assert_eq!(reload(&format!("{new}\n{old}\n")), 2);
        *token.lock().unwrap() = receiver.job_token();
        // Pushes with a token of the old key are answered before the same client's next push.
        std::thread::sleep(Duration::from_millis(100));
        let former = old.clone();
        assert_eq!(reload(&format!("{new}\n")), 1);
        let offline =
            command().env("RECEIVER_HMAC_KEY", &former).args(["token", "--organization=my-org"]).output();
        let made_by_old = String::from_utf8(offline.unwrap().stdout).unwrap();
        assert_eq!(receiver.push(made_by_old.trim(), &body(&summary_id(), 1, true)).status, 403);
        names = [new.clone(), format!("the-key-number-{round}")];
    }
    // An unreadable file changes nothing.
    std::fs::write(&keys, "short\n").unwrap();
    receiver.program().signal(Signal::HUP);
    let told = receiver.program().wait_for("cannot reload the secrets on SIGHUP; the old ones stay valid");
    assert!(told["error"].as_str().unwrap().contains("fewer than 8 characters"), "{told}");
    std::fs::write(&keys, format!("{}\n", names[0])).unwrap();
    std::fs::write(&read_tokens, format!("another-read-token\n{READ_TOKEN}\n")).unwrap();
    receiver.program().signal(Signal::HUP);
    receiver.program().wait_for("secrets reloaded");
    for read_token in ["another-read-token", READ_TOKEN] {
        let answer =
            receiver.request("GET", "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build", read_token, "");
        assert_eq!(answer.status, 200);
    }
    let pushed = pushers.stop();
    assert!(pushed.refused.is_empty(), "{:?}", pushed.refused);
    assert!(pushed.acknowledged.len() > 100, "{}", pushed.acknowledged.len());
}

#[test]
fn f36_no_secret_shows() {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path(), 0o777);
    let program = directory.path().join("receiver");
    std::fs::copy(command().get_program(), &program).unwrap();
    let mut receiver = as_nobody(&program);
    receiver.args(["--addr=127.0.0.1:0", "--log-format=json", "--log-level=debug"]);
    receiver.arg("--db").arg(directory.path().join("db"));
    let running = Program::start(&mut receiver);
    let address = running.wait_for("listening")["address"].as_str().unwrap().to_owned();
    let request = |method: &str, path: &str, token: &str, body: &str| {
        tests::http::request(&address, method, path, token, body)
    };
    let scope = r#"{"organization":"my-org","repository":"my-repo"}"#;
    let token =
        request("POST", "/api/v1/token", READ_TOKEN, scope).json()["token"].as_str().unwrap().to_owned();
    // Every kind of success and error that involves a secret.
    let mut answers = vec![
        request("POST", "/api/v1/metrics", &token, &body(&summary_id(), 1, true)),
        request("POST", "/api/v1/metrics", &token, "{"),
        request("POST", "/api/v1/metrics", READ_TOKEN, "{}"),
        request("POST", "/api/v1/metrics", HMAC_KEY, "{}"),
        request("GET", "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build", &token, ""),
        request("GET", &format!("/{READ_TOKEN}?x={HMAC_KEY}"), READ_TOKEN, ""),
        request("GET", &format!("/api/v1/metrics/repo/a/b/c/{READ_TOKEN}?limit={HMAC_KEY}"), &token, ""),
    ];
    answers.push(tests::http::raw(
        &address,
        format!("BREW / HTTP/9.9\r\nauthorization: Bearer {READ_TOKEN}\r\n\r\n").as_bytes(),
    ));

    // Files that a process of the same user, such as the job, may try to read.
    let pid = running.pid();
    let as_the_same_user = |file: &str| {
        let mut cat = Command::new("setpriv");
        cat.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"])
            .arg(format!("/proc/{pid}/{file}"));
        cat.output().unwrap()
    };
    for file in ["environ", "maps", "mem", "auxv"] {
        let output = as_the_same_user(file);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty() && told.contains("denied"),
            "{file}: {told}"
        );
    }
    let arguments = as_the_same_user("cmdline");
    assert!(arguments.status.success());
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert!(limits.contains("Max core file size"));
    running.signal(Signal::ABORT);
    let ended = running.wait();
    let status = format!("{:?}", ended.status);
    assert!(!status.contains("core dumped"), "{status}");

    let shown = [
        ended.stderr,
        ended.stdout,
        String::from_utf8_lossy(&arguments.stdout).into_owned(),
        answers.iter().map(|answer| format!("{answer:?}")).collect(),
    ];
    assert!(shown[0].contains("\"status\":201"), "the log is there: {}", shown[0]);
    for secret in [READ_TOKEN, HMAC_KEY, &token] {
        for text in &shown[..3] {
            assert!(!text.contains(secret), "{secret} shows in {text}");
        }
    }
    assert!(!shown[3].contains(&token), "{}", shown[3]);
}

#[test]
fn f36_a_secret_on_the_command_line_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start_as(&directory.path().join("db"), &[], |command| {
        command.env_remove("RECEIVER_HMAC_KEY").arg("--hmac-key=a-key-to-be-seen");
    });
    let ended = receiver.stop();
    assert!(!ended.stderr.contains("a-key-to-be-seen"), "{}", ended.stderr);
    let mut command = command();
    command.args(["--addr=127.0.0.1:0", "--log-format=json", "--read-token=a-token-to-be-seen"]);
    command.env_remove("RECEIVER_READ_TOKEN").arg("--db").arg(directory.path().join("db"));
    let told = Program::start(&mut command)
        .wait_for("a secret on the command line can be read by every process of this machine; a file cannot");
    assert_eq!(told["flag"], "--read-token");
}
