use wire::Submission;

use super::*;

fn golden() -> Payload {
    let submission = include_str!("../../../../wire/tests/submission.json");
    serde_json::from_str::<Submission>(submission).unwrap().payload
}

#[test]
fn the_report_is_what_a_person_likes_to_read() {
    let mut payload = golden();
    let mut idle = payload.containers[0].clone();
    idle.name = "pause".to_owned();
    idle.cpu_limit_cores = None;
    idle.memory_limit_bytes = None;
    idle.cpu_throttled_seconds = None;
    idle.oom_kills = Some(2);
    payload.containers.push(idle);
    let run = RunIdentity {
        organization: "my-org".to_owned(),
        repository: "my-org/my-repo".to_owned(),
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        run_id: "run-123".to_owned(),
        run_attempt: None,
    };
    let expected = include_str!("report.txt");
    let report = render(&payload, Some(&run), false);
    assert!(report == expected, "the report changed; if that is meant, report.txt must read\n{report}");
}

#[test]
fn names_do_a_terminal_no_harm() {
    let mut payload = golden();
    payload.containers[0].name = "\u{1b}[2J\u{202e}evil\nname".to_owned();
    payload.top_commands[0].name = "x".repeat(300);
    let report = render(&payload, None, false);
    assert!(!report.contains('\u{1b}') && !report.contains('\u{202e}'), "{report}");
    assert!(report.contains(r"\u{1b}[2J\u{202e}evil\u{a}name"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() < 200), "{report}");
}

#[test]
fn colour_is_for_terminals() {
    assert!(render(&golden(), None, true).contains("\u{1b}[1mContainers\u{1b}[0m"));
    assert!(!render(&golden(), None, false).contains('\u{1b}'));
}

#[test]
fn quantities_are_humane() {
    let shown =
        [bytes(0.0), bytes(1023.0), bytes(1023.6), bytes(1536.0), bytes(104_857_600.0), bytes(8.5e12)];
    assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "7.7 TiB"]);
    let shown = [duration(0.2), duration(2.0), duration(20.005), duration(90.0), duration(7_260.0)];
    assert_eq!(shown, ["0.2s", "2s", "20s", "1m 30s", "2h 01m"]);
    assert_eq!(
        [seconds(0.004), seconds(9.999), seconds(12.34), seconds(123.4)],
        ["0.00 s", "10.00 s", "12.3 s", "123 s"]
    );
}
