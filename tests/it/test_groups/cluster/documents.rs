//! The commands in `docs/kubernetes.md` and `docs/runners.md`, run exactly as printed.

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::asked::{BUILD, kube, project, told};

/// The placeholder for the reader's own image.
const IMAGE: &str = "my-registry/my-build";
/// The namespace that the document creates and deletes again.
const NAMESPACE: &str = "my-jobs";
/// The commands take 45 seconds on an otherwise idle machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Stands for text that differs between clusters.
const ANYTHING: char = '…';

/// A command that a reader types, and the output that the document shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The commands of a document, in order.
fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next().filter(|line| *line != "```") {
            let Some(first) = line.strip_prefix("$ ") else {
                steps.last_mut().expect("a block begins with a command").shown.push(line.to_owned());
                continue;
            };
            let mut command = first.to_owned();
            while command.ends_with('\\') {
                let _ = write!(command, "\n{}", lines.next().unwrap());
            }
            if let Some((_, word)) = command.split_once("<<") {
                let end = word.trim_matches('\'').to_owned();
                loop {
                    let line = lines.next().expect("a here-document ends");
                    let _ = write!(command, "\n{line}");
                    if line == end {
                        break;
                    }
                }
            }
            steps.push(Step { command, shown: Vec::new() });
        }
    }
    steps
}

/// One shell for all steps, as a reader has: background processes of a step continue in the next ones. Each step's output goes
/// into a file of its own, so the last file belongs to the step that failed.
fn script(steps: &[Step], directory: &Path) -> String {
    let mut script = "set -euo pipefail\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let output = directory.join(number.to_string());
        let _ = writeln!(script, "{{ {}\n}} >'{}' 2>&1", step.command, output.display());
    }
    script
}

/// A shell and all processes that it started.
struct Shell(Child);

impl Shell {
    /// Starts the steps in `at`. Their programs and output files are in `directory`.
    fn start(steps: &[Step], directory: &Path, at: &Path) -> Self {
        let path = std::env::var("PATH").unwrap();
        let file = directory.join("script");
        std::fs::write(&file, script(steps, directory)).unwrap();
        // A file, because background processes would keep a pipe open.
        let output = File::create(directory.join("output")).unwrap();
        let mut bash = Command::new("bash");
        bash.arg(file).current_dir(at).env("PATH", format!("{}:{path}", directory.display()));
        bash.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Self(bash.process_group(0).spawn().unwrap())
    }

    /// Whether it exited successfully; `None` if it did not end in time.
    fn end(&mut self) -> Option<bool> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.success());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // If all went well, no process of the group is left.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Whether a line matches the shown one. Column widths depend on the content, so all white space is equal.
fn is_line(shown: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (words(shown), words(line));
    let Some((first, rest)) = shown.split_once(ANYTHING) else { return shown == line };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let mut parts = rest.split(ANYTHING).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return line.ends_with(part);
        }
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    unreachable!("there is something after the last ellipsis, if only nothing")
}

/// Whether all lines match the shown ones.
fn is_output(shown: &[String], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], []) => true,
        ([first, rest @ ..], _) if first.chars().eq([ANYTHING]) => {
            (0..=lines.len()).any(|left_out| is_output(rest, &lines[left_out..]))
        }
        ([], _) | (_, []) => false,
        ([first, rest @ ..], [line, others @ ..]) => is_line(first, line) && is_output(rest, others),
    }
}

/// Runs the commands of a document and compares their output with the shown output.
#[track_caller]
fn type_all(document: &str, at: &Path) {
    let steps = steps(&document.replace(IMAGE, BUILD));
    assert!(steps.len() >= 8, "{steps:#?}");
    let directory = tempfile::tempdir().unwrap();
    symlink(told("CLUSTER_KUBECTL"), directory.path().join("kubectl")).unwrap();
    symlink(told("CLUSTER_ACT"), directory.path().join("act")).unwrap();
    let ended = Shell::start(&steps, directory.path(), at).end();
    let mut wrong = String::new();
    for (number, step) in steps.iter().enumerate() {
        let Ok(output) = std::fs::read_to_string(directory.path().join(number.to_string())) else { break };
        if !is_output(&step.shown, &output.lines().collect::<Vec<_>>()) {
            let _ = writeln!(wrong, "$ {}\n{output}is shown as\n{}\n", step.command, step.shown.join("\n"));
        }
    }
    let rest = std::fs::read_to_string(directory.path().join("output")).unwrap();
    assert!(wrong.is_empty(), "{wrong}{rest}");
    assert_eq!(ended, Some(true), "{rest}");
}

#[test]
fn a_cluster_answers_every_command_of_the_document_as_it_is_printed() {
    let document = std::fs::read_to_string(project().join("docs/kubernetes.md")).unwrap();
    assert!(document.contains(IMAGE), "the document has another placeholder");
    assert!(
        document.contains(&format!("$ kubectl delete namespace {NAMESPACE}\n")),
        "it deletes another one"
    );
    // Left over from an earlier run that did not finish.
    kube(&["delete", "namespace", NAMESPACE, "--ignore-not-found"]);
    type_all(&document, &project());
}

#[test]
fn jobs_of_a_runners_engine_get_a_recommendation_as_the_document_prints_it() {
    let document = std::fs::read_to_string(project().join("docs/runners.md")).unwrap();
    assert!(document.contains(IMAGE), "the document has another placeholder");
    let directory = tempfile::tempdir().unwrap();
    type_all(&document, directory.path());
}

#[test]
fn what_a_reader_types_is_told_from_what_the_document_shows() {
    let document =
        "```sh\nnever\n```\n```console\n$ one \\\n    two\n…\n$ three <<'EOF'\n$ four\nEOF\nfive\n```\n";
    let step = |command: &str, shown: &str| Step { command: command.into(), shown: vec![shown.into()] };
    assert_eq!(steps(document), [step("one \\\n    two", "…"), step("three <<'EOF'\n$ four\nEOF", "five")]);
}

#[test]
fn an_ellipsis_stands_for_anything_within_a_line_and_alone_for_any_lines() {
    let is = |shown: &str, lines: &str| {
        let shown: Vec<_> = shown.lines().map(str::to_owned).collect();
        is_output(&shown, &lines.lines().collect::<Vec<_>>())
    };
    assert!(is("a … b … c", "a   1 b 2 c"));
    assert!(is("a…", "a"));
    assert!(!is("a…b", "a b c"));
    assert!(!is("a", "a\nb"));
    assert!(is("…\nb\n…", "a\nb"));
    assert!(!is("…\nb", "a\nc"));
}
