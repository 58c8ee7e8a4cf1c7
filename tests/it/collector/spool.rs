//! Summaries of two organizations in one spool, and a token that fits one of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::faults::body;
use tests::program::{PATIENCE, Program, collector};
use tests::receiver::{READ_TOKEN, Receiver};
use tests::scene::{PROCESS, write};

use crate::together::SCOPE;

/// Summaries of each organization in the spool.
const EACH: usize = 5;
const ORGANIZATIONS: [&str; 2] = ["a-org", "b-org"];
const STAYS: &str = "summaries stay in the spool, because the push token is refused or missing; they are retried less and less often, and at once when the token file changes";

/// A secret as a kubelet mounts it: its content changes when `..data` points to another directory.
struct Mounted {
    directory: PathBuf,
    version: u32,
}

impl Mounted {
    fn new(directory: PathBuf, content: &str) -> Self {
        fs::create_dir(&directory).unwrap();
        symlink("..data/token", directory.join("token")).unwrap();
        let mut mounted = Self { directory, version: 0 };
        mounted.set(content);
        mounted
    }

    fn set(&mut self, content: &str) {
        self.version += 1;
        let version = format!("..{}", self.version);
        fs::create_dir(self.directory.join(&version)).unwrap();
        fs::write(self.directory.join(&version).join("token"), content).unwrap();
        symlink(&version, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
    }

    fn file(&self) -> String {
        self.directory.join("token").to_string_lossy().into_owned()
    }
}

fn fill(spool: &Path) {
    fs::create_dir(spool).unwrap();
    for (number, organization) in ORGANIZATIONS.iter().enumerate() {
        for run in 0..EACH {
            let id = format!("01890000-0000-7000-8000-{:012}", number * 1000 + run);
            let mut summary: Value = serde_json::from_str(&body(&id, 1, true)).unwrap();
            summary["organization"] = json!(organization);
            fs::write(spool.join(format!("{id}.final.json")), summary.to_string()).unwrap();
        }
    }
}

fn left(spool: &Path) -> usize {
    let names = fs::read_dir(spool).unwrap().flatten().map(|file| file.file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".final.json")).count()
}

fn wait_until_left(spool: &Path, count: usize) {
    let end = Instant::now() + PATIENCE;
    while left(spool) > count {
        assert!(Instant::now() < end, "{} are left", left(spool));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number of pushes that the receiver has refused because of their token.
fn refused(receiver: &Receiver) -> u64 {
    let metrics = receiver.request("GET", "/metrics", "", "").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("receiver_failed_authentications_total "));
    line.unwrap().parse().unwrap()
}

/// First with a token for `a-org` only, then with one that fits `b-org` instead. `arguments` gets the file.
fn one_organization_does_not_hold_up_the_other(
    arguments: impl Fn(&str) -> Vec<String>,
    content: impl Fn(&[(&str, &str)]) -> String,
) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let [a, b] = ORGANIZATIONS.map(|organization| receiver.token(&json!({"organization": organization})));
    let spool = directory.path().join("spool");
    fill(&spool);
    let proc = directory.path().join("proc");
    write(&proc, &[PROCESS]);
    let mut secret = Mounted::new(directory.path().join("secret"), &content(&[(ORGANIZATIONS[0], &a)]));
    let mut command = collector();
    command.args(arguments(&secret.file())).arg("--spool-dir").arg(&spool).arg("--proc-path").arg(&proc);
    command.args(["--log-format=json", "--output=none", "--interval=100ms", "--ebpf=off"]);
    command.arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address));
    let program = Program::start(&mut command);
    wait_until_left(&spool, EACH);
    let told = program.wait_for(STAYS);
    assert_eq!(
        (&told["level"], &told["organization"], &told["files"]),
        (&json!("WARN"), &json!("b-org"), &json!(EACH))
    );
    std::thread::sleep(Duration::from_secs(3));
    assert!(refused(&receiver) <= 1, "each of them was tried: {}", refused(&receiver));
    assert_eq!(left(&spool), EACH);

    // Another token that does not fit causes one more warning, and does not stop the retries.
    secret.set(&content(&[(ORGANIZATIONS[0], &a), (ORGANIZATIONS[1], "n0-t0ken-of-this-receiver")]));
    let told = program.wait_for(STAYS);
    assert_eq!(&told["files"], &json!(EACH));
    assert!(refused(&receiver) <= 2, "each of them was tried: {}", refused(&receiver));
    secret.set(&content(&[(ORGANIZATIONS[1], &b)]));
    wait_until_left(&spool, 0);
    let ended = program.stop();
    assert!(!ended.stderr.contains(STAYS), "it was told again: {}", ended.stderr);
    for organization in ORGANIZATIONS {
        let path = format!("/api/v1/metrics/repo/{organization}/my-repo/ci.yml/build");
        let runs = receiver.request("GET", &path, READ_TOKEN, "").json();
        assert_eq!(runs.as_array().unwrap().len(), EACH, "{organization}");
    }
}

/// The last token, as a file with a single token contains it.
fn last(tokens: &[(&str, &str)]) -> String {
    format!("{}\n", tokens.last().unwrap().1)
}

#[test]
fn a_node_delivers_for_one_organization_and_waits_for_a_token_of_the_other() {
    one_organization_does_not_hold_up_the_other(
        |file| {
            vec!["node".to_owned(), "--metrics-addr=none".to_owned(), format!("--push-tokens-file={file}")]
        },
        |tokens| {
            let lines: Vec<_> = tokens.iter().map(|(name, token)| format!("{name}={token}\n")).collect();
            lines.concat()
        },
    );
}

#[test]
fn a_node_with_one_token_takes_another_from_its_file() {
    one_organization_does_not_hold_up_the_other(
        |file| vec!["node".to_owned(), "--metrics-addr=none".to_owned(), format!("--push-token-file={file}")],
        last,
    );
}

#[test]
fn a_sidecar_takes_another_token_from_its_file() {
    one_organization_does_not_hold_up_the_other(
        |file| {
            let scope = ["--organization", "--repository", "--workflow", "--job", "--run-id"];
            let scope = scope.into_iter().zip(SCOPE).map(|(flag, (_, value))| format!("{flag}={value}"));
            scope.chain([format!("--push-token-file={file}")]).collect()
        },
        last,
    );
}

#[test]
fn a_run_that_goes_on_is_pushed_with_the_token_that_came_later() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let proc = directory.path().join("proc");
    write(&proc, &[PROCESS]);
    let mut secret = Mounted::new(directory.path().join("secret"), "n0-t0ken-of-this-receiver");
    let mut command = collector();
    command.envs(SCOPE).arg("--spool-dir").arg(directory.path().join("spool")).arg("--proc-path").arg(&proc);
    command.args([
        "--log-format=json",
        "--output=none",
        "--interval=100ms",
        "--push-interval=200ms",
        "--ebpf=off",
    ]);
    command.arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address));
    command.arg(format!("--push-token-file={}", secret.file()));
    let program = Program::start(&mut command);
    program.wait_for("an interim summary could not be pushed");
    std::thread::sleep(Duration::from_secs(2));
    assert!(refused(&receiver) <= 1, "it was tried each time: {}", refused(&receiver));
    assert!(receiver.runs().is_empty());
    secret.set(&receiver.job_token());
    program.wait_for("the push token was read again");
    program.wait_for("the receiver has an interim summary");
    assert_eq!(receiver.runs().len(), 1);
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("could not be pushed"), "{}", ended.stderr);
}
