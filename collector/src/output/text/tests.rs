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
    idle.name = "cache".to_owned();
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
        ci: wire::CiContext::default(),
    };
    let expected = include_str!("report.txt");
    let report = render(&payload, Some(&run), false);
    assert!(report == expected, "the report changed; if that is meant, report.txt must read\n{report}");
}

#[test]
fn requests_are_told_where_they_are_known() {
    let mut payload = golden();
    let usage = &mut payload.containers[0];
    (usage.cpu_request_cores, usage.memory_request_bytes) = (Some(0.5), Some(512 << 20));
    let report = render(&payload, None, false);
    let rows: Vec<Vec<_>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
    let heads = rows.iter().find(|row| row.first() == Some(&"container")).unwrap();
    assert_eq!(heads.iter().filter(|head| **head == "request").count(), 2, "{report}");
    let row = rows.iter().find(|row| row.first() == Some(&"runner")).unwrap().join(" ");
    assert!(row.contains("2.01 0.50 2.00 (100 %)") && row.contains("512 MiB 1.0 GiB"), "{report}");
}

#[test]
fn what_is_above_a_container_is_told_apart_from_its_own_limit() {
    let mut payload = golden();
    let plain = render(&payload, None, false);
    assert!(!plain.contains('≤'), "{plain}");
    let mut bare = payload.containers[0].clone();
    bare.name = "bare".to_owned();
    (bare.cpu_limit_cores, bare.memory_limit_bytes) = (None, None);
    (bare.cpu_bound_cores, bare.memory_bound_bytes) = (Some(4.0), Some(6 << 30));
    let mut squeezed = payload.containers[0].clone();
    squeezed.name = "squeezed".to_owned();
    (squeezed.cpu_bound_cores, squeezed.memory_bound_bytes) = (Some(4.0), Some(512 << 20));
    payload.containers.extend([bare, squeezed]);
    let report = render(&payload, None, false);
    let row = |name: &str| {
        let row = report.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (bare, squeezed) = (row("bare"), row("squeezed"));
    assert!(bare.contains("2.01 none, ≤ 4.00") && bare.contains("none, ≤ 6.0 GiB"), "{report}");
    // A bound above its own limit is not shown.
    assert!(
        squeezed.contains("2.01 2.00 (100 %) ") && squeezed.contains("1.0 GiB (2 %), ≤ 512 MiB"),
        "{report}"
    );
    assert!(
        report.contains("≤: not a limit of its own, but what its pod, slice or node allows."),
        "{report}"
    );
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
fn the_memory_that_was_needed_is_between_its_bounds() {
    for (least, most, expected) in [
        (Some(100 << 20), Some(120 << 20), "runner needed 100 MiB to 120 MiB\n"),
        (Some(100 << 20), Some(100 << 20), "runner needed 100 MiB\n"),
        (Some(100 << 20), None, "runner needed 100 MiB or more\n"),
        (None, None, ""),
    ] {
        let mut payload = golden();
        let usage = &mut payload.containers[0];
        (usage.memory_needed_at_least_bytes, usage.memory_needed_at_most_bytes) = (least, most);
        let report = render(&payload, None, false);
        let shown = report.split("Memory without page cache: ").nth(1).unwrap_or_default();
        assert!(shown.starts_with(expected) && shown.is_empty() == expected.is_empty(), "{report}");
    }
}
