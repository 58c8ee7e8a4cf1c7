//! The summary on the page of a CI run.

use std::path::Path;
use std::process::{Command, Output};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use rustix::process::Signal;
use tests::program::{Program, collector, workload};
use tests::scene::{PROCESS, Process, own_cgroup_namespace, write};

const RUNNER: &str =
    "0::/../cri-containerd-2b180104511194aab36fd295d3e217439f3ddb5bc88277f37b4952abee85c40e.scope\n";

/// The rows of all tables, parsed independently of the collector.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut cell = None;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => cell = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(cell) = &mut cell {
                    cell.push_str(&text.replace('\u{a0}', " "));
                }
            }
            Event::End(TagEnd::TableCell) => rows.last_mut().unwrap().extend(cell.take()),
            _ => {}
        }
    }
    rows
}

fn in_step(file: &Path, script: &str) -> Command {
    let mut command = collector();
    command.env("GITHUB_STEP_SUMMARY", file).args([
        "run",
        "--interval=50ms",
        "--output=none",
        "--log-level=warn",
    ]);
    command.args(["--ebpf=off", "--", "sh", "-c", script]);
    command
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_command_in_a_step_is_told_of_where_the_step_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("summary.md");
    std::fs::write(&file, "### Tests\n\nall passed").unwrap();
    let script = format!("{} threads 2 300", workload().display());
    let output = in_step(&file, &script).output().unwrap();
    succeeded(&output);
    assert!(output.stderr.is_empty(), "{output:?}");
    let markdown = read(&file);
    assert!(markdown.starts_with("### Tests\n\nall passed\n\n### Resources used"), "{markdown}");
    let rows = rows(&markdown);
    let usage = rows.iter().find(|row| row[0] == "run").unwrap_or_else(|| panic!("{markdown}"));
    let at = rows[0].iter().position(|head| head == "CPU time").unwrap();
    let seconds: f64 = usage[at].strip_suffix(" s").unwrap().parse().unwrap();
    assert!((0.55..0.9).contains(&seconds), "{markdown}");
    let peak: f64 = usage[2].parse().unwrap();
    assert!((0.2..2.6).contains(&peak), "{markdown}");
    assert!(rows.iter().any(|row| row[0] == "workload"), "{markdown}");
    assert!(markdown.contains("█") && markdown.contains("CPU in cores"), "{markdown}");
    // The next command of the same step appends to the file.
    succeeded(&in_step(&file, "true").output().unwrap());
    let twice = read(&file);
    assert!(twice.starts_with(&markdown) && twice.matches("### Resources used").count() == 2, "{twice}");
}

#[test]
fn a_flag_or_variable_goes_before_and_can_say_none() {
    let directory = tempfile::tempdir().unwrap();
    let (step, own) = (directory.path().join("step.md"), directory.path().join("own.md"));
    succeeded(&in_step(&step, "true").env("COLLECTOR_SUMMARY_FILE", &own).output().unwrap());
    assert!(own.exists() && !step.exists());
    succeeded(&in_step(&step, "true").env("COLLECTOR_SUMMARY_FILE", "none").output().unwrap());
    let mut command = collector();
    command.env("GITHUB_STEP_SUMMARY", &step).args(["run", "--summary-file=", "--output=none", "--", "true"]);
    succeeded(&command.output().unwrap());
    succeeded(&in_step(Path::new(""), "true").output().unwrap());
    assert!(!step.exists());
    // An empty variable counts as unset.
    succeeded(&in_step(&step, "true").env("COLLECTOR_SUMMARY_FILE", "").output().unwrap());
    assert!(step.exists());
}

#[test]
fn where_it_cannot_be_written_the_command_is_none_the_worse() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link.md");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    for path in [Path::new("/nowhere/summary.md"), directory.path(), &link] {
        let output = in_step(path, "exit 7").output().unwrap();
        assert_eq!(output.status.code(), Some(7));
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = "the summary for the page of the run cannot be written";
        assert!(stderr.contains(expected) && stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
}

#[test]
fn names_of_processes_are_no_markdown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("summary.md");
    let script = "for name in 'a|b`c' '@everyone' '<b>*x*'; do cp \"$0\" \"$1/$name\"; \"$1/$name\" burn 120; done; true";
    let mut command = in_step(&file, script);
    succeeded(&command.arg(workload()).arg(directory.path()).output().unwrap());
    let markdown = read(&file);
    let rows = rows(&markdown);
    for name in ["a|b`c", "@everyone", "<b>*x*"] {
        assert!(rows.iter().any(|row| row[0] == name), "{name} in\n{markdown}");
    }
    assert!(!markdown.contains("<b>") && !markdown.contains("@everyone"), "{markdown}");
}

#[test]
fn beside_a_job_it_tells_of_each_container_and_of_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let (root, file) = (directory.path().join("proc"), directory.path().join("summary.md"));
    own_cgroup_namespace(&root);
    let process = |own| Process { pid: 7, comm: b"cc1", own, cgroup: RUNNER, rss: 500, ..PROCESS };
    write(&root, &[process(0)]);
    let mut command = collector();
    command.args(["--interval=30ms", "--log-format=json", "--log-level=debug", "--output=none"]);
    command.arg("--proc-path").arg(&root).arg("--cgroup-path").arg(directory.path());
    command.arg("--summary-file").arg(&file);
    // A sidecar ignores a step's variable, because it runs beside all steps.
    command.env("GITHUB_STEP_SUMMARY", directory.path().join("step.md"));
    let limits = r#"{"2b1801045111": {"cpu": "2000", "cpu_request": "1000", "memory": "2Mi", "memory_request": "1Mi"}}"#;
    command.env("CGROUP_LIMITS", limits);
    command.envs([("GITHUB_REPOSITORY_OWNER", "my-org"), ("GITHUB_REPOSITORY", "my-org/my-repo")]);
    command.envs([("GITHUB_WORKFLOW", "ci.yml"), ("GITHUB_JOB", "build|test"), ("GITHUB_RUN_ID", "4711")]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    write(&root, &[process(90)]);
    program.wait_for("pass");
    program.wait_for("pass");
    program.signal(Signal::TERM);
    succeeded_quietly(&program.wait());
    assert!(!directory.path().join("step.md").exists());
    let markdown = read(&file);
    let rows = rows(&markdown);
    let usage = rows.iter().find(|row| row[0] == "2b1801045111").unwrap_or_else(|| panic!("{markdown}"));
    assert_eq!((usage[3].as_str(), usage[4].as_str()), ("1000.00", "2000.00"), "{markdown}");
    for part in [
        "### Resources used by <code>build&#124;test</code>, run `4711`",
        "`2b1801045111` used 2.0 MiB of memory, 98 % of its limit, 2.0 MiB.",
        "% of its request, 1000.00.",
        "0.90\u{a0}s",
    ] {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }
}

fn succeeded_quietly(ended: &tests::program::Ended) {
    assert!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
}
