use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use wire::Submission;

use super::*;

fn golden() -> Payload {
    let submission = include_str!("../../../../wire/tests/submission.json");
    let mut payload = serde_json::from_str::<Submission>(submission).unwrap().payload;
    let runner = &mut payload.containers[0];
    runner.cpu_request_cores = Some(1.0);
    runner.cpu_periods = Some(200);
    runner.cpu_throttled_periods = Some(24);
    runner.memory_bytes.peak = 1e9;
    runner.memory_peak_bytes = None;
    runner.working_set_bytes.as_mut().unwrap().peak = 1.03e9;
    let series = runner.series.as_mut().unwrap();
    series.step_seconds = 0.5;
    series.cpu_cores = (0..40).map(|at| [0.02, 0.5, 1.9, 2.0, 1.7, 2.0, 1.0, 0.3][at / 5]).collect();
    series.memory_bytes = (0..40).map(|at| at * 25_000_000).collect();
    let mut idle = payload.containers[0].clone();
    idle.name = "cache".to_owned();
    (idle.cpu_cores.p95, idle.cpu_cores.peak, idle.cpu_seconds) = (Some(0.01), 0.02, Some(0.21));
    (idle.memory_bytes.peak, idle.working_set_bytes, idle.process_count) = (700e3, None, Some(1));
    (idle.cpu_request_cores, idle.cpu_limit_cores, idle.memory_limit_bytes) = (None, Some(0.5), None);
    (idle.cpu_throttled_seconds, idle.cpu_periods) = (None, None);
    (idle.oom_kills, idle.series) = (Some(2), None);
    payload.containers.push(idle);
    payload.attribution.as_mut().unwrap().missed_samples = 3;
    payload
}

fn run() -> RunIdentity {
    RunIdentity {
        organization: "my-org".to_owned(),
        repository: "my-org/my-repo".to_owned(),
        workflow: "ci.yml".to_owned(),
        job: "build".to_owned(),
        run_id: "run-123".to_owned(),
        run_attempt: None,
        ci: wire::CiContext::default(),
    }
}

/// What a reader sees, as another program parses it.
#[derive(Debug, Default)]
struct Seen {
    headings: Vec<String>,
    tables: Vec<Vec<Vec<String>>>,
    items: Vec<String>,
    blocks: Vec<String>,
    html: Vec<String>,
    /// Links, images and the like. There must be none.
    others: Vec<String>,
}

fn seen(markdown: &str) -> Seen {
    let mut seen = Seen::default();
    let mut text = String::new();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Start(Tag::Table(_)) => seen.tables.push(Vec::new()),
            Event::Start(Tag::TableHead | Tag::TableRow) => seen.tables.last_mut().unwrap().push(Vec::new()),
            Event::End(TagEnd::TableCell) => {
                seen.tables
                    .last_mut()
                    .unwrap()
                    .last_mut()
                    .unwrap()
                    .push(std::mem::take(&mut text).replace('\u{a0}', " "));
            }
            Event::End(TagEnd::Heading(_)) => seen.headings.push(std::mem::take(&mut text)),
            Event::End(TagEnd::Item) => seen.items.push(std::mem::take(&mut text)),
            Event::End(TagEnd::CodeBlock) => seen.blocks.push(std::mem::take(&mut text)),
            Event::End(TagEnd::Paragraph) => text.clear(),
            Event::Text(part) | Event::Code(part) => text.push_str(&part),
            Event::InlineHtml(html) | Event::Html(html) => seen.html.push(html.to_string()),
            Event::Start(
                Tag::List(_)
                | Tag::Item
                | Tag::Heading { .. }
                | Tag::Paragraph
                | Tag::CodeBlock(_)
                | Tag::TableCell,
            )
            | Event::End(_)
            | Event::SoftBreak => {}
            other => seen.others.push(format!("{other:?}")),
        }
    }
    seen
}

#[test]
fn the_page_of_a_run_shows_it() {
    let expected = include_str!("summary.md");
    let markdown = render(&golden(), Some(&run()));
    assert!(markdown == expected, "the summary changed; if that is meant, summary.md must read\n{markdown}");
}

#[test]
fn another_program_finds_the_same_tables_in_it() {
    let seen = seen(&render(&golden(), Some(&run())));
    assert_eq!(seen.headings, ["Resources used by build, run run-123"]);
    assert_eq!((seen.html.len(), seen.others.len()), (0, 0), "{seen:?}");
    let [containers, steps, commands] = seen.tables.as_slice() else { panic!("{seen:?}") };
    let width = containers[0].len();
    assert!(containers.iter().all(|row| row.len() == width), "{containers:?}");
    let of = |row: usize, head: &str| {
        let found = containers[0].iter().position(|cell| cell == head);
        containers[row][found.unwrap_or_else(|| panic!("{head} in {containers:?}"))].as_str()
    };
    assert_eq!((of(1, "container"), of(1, "CPU cores p95"), of(1, "peak")), ("runner", "2.00", "2.01"));
    assert_eq!((of(1, "request"), of(1, "limit"), of(1, "memory peak")), ("1.00", "2.00", "954 MiB"));
    assert_eq!((of(1, "CPU time"), of(1, "processes"), of(1, "OOM kills")), ("30.1 s", "894", "0"));
    assert_eq!((of(2, "container"), of(2, "request"), of(2, "throttled")), ("cache", "", ""));
    assert_eq!(commands[1], ["cc1", "runner", "7.60 s", "1.50 s", "300", "4", "40.0 KiB"]);
    assert_eq!(steps[2], ["run 2", "3.1s", "17s", "27.5 s", "40.0 KiB", "800"]);
    let [block] = seen.blocks.as_slice() else { panic!("{seen:?}") };
    assert!(block.contains("CPU in cores, limit 2.00") && block.contains('█'), "{block}");
    assert!(block.lines().all(|line| line.chars().count() < 80), "{block}");
}

#[test]
fn every_warning_has_its_reason() {
    let items = seen(&render(&golden(), None)).items;
    for (item, expected) in items.iter().zip([
        "cache ran out of memory: 2 processes killed.",
        "runner used 982 MiB of memory, 96 % of its limit, 1.0 GiB.",
        "runner was throttled in 12 % of its CPU periods (1.20 s in all): its limit of 2.00 cores slowed it down.",
        "The measurement is incomplete: 3 of 14 samples were missed.",
        "cache used 0.01 cores (p95), 2.0 % of its limit, 0.50.",
    ]) {
        assert_eq!(item, &format!("⚠️ {expected}"));
    }
    assert_eq!(items.len(), 5, "{items:?}");
}

#[test]
fn on_either_side_of_a_threshold() {
    let shown = |change: &dyn Fn(&mut ContainerUsage)| {
        let mut payload = golden();
        payload.attribution = None;
        payload.containers.truncate(1);
        let usage = &mut payload.containers[0];
        (usage.cpu_periods, usage.memory_bytes.peak) = (None, 5e8);
        usage.working_set_bytes = None;
        change(usage);
        seen(&render(&payload, None)).items
    };
    assert_eq!(shown(&|_| {}), [""; 0]);
    let limit = f64::from(1 << 30);
    assert_eq!(shown(&|usage| usage.memory_bytes.peak = 0.94 * limit), [""; 0]);
    assert!(shown(&|usage| usage.memory_bytes.peak = 0.96 * limit)[0].contains("96 % of its limit"));
    assert!(shown(&|usage| usage.memory_bytes.peak = 0.19 * limit)[0].contains("19 % of its limit, 1.0 GiB"));
    assert_eq!(shown(&|usage| usage.memory_bytes.peak = 0.21 * limit), [""; 0]);
    let periods = |throttled| {
        shown(&move |usage| (usage.cpu_periods, usage.cpu_throttled_periods) = (Some(100), Some(throttled)))
    };
    assert_eq!(periods(5), [""; 0]);
    assert!(periods(6)[0].contains("6.0 % of its CPU periods"));
    // The request is reserved, regardless of the limit.
    assert!(shown(&|usage| usage.cpu_cores.p95 = Some(0.19))[0].contains("19 % of its request, 1.00"));
    assert_eq!(shown(&|usage| usage.cpu_cores.p95 = Some(0.21)), [""; 0]);
}

#[test]
fn what_is_above_a_container_is_told_apart_from_its_own_limit() {
    let bare = |change: &dyn Fn(&mut ContainerUsage)| {
        let mut payload = golden();
        payload.attribution = None;
        payload.containers.truncate(1);
        let usage = &mut payload.containers[0];
        (usage.cpu_limit_cores, usage.memory_limit_bytes, usage.cpu_periods) = (None, None, None);
        (usage.cpu_bound_cores, usage.memory_bound_bytes) = (Some(0.5), Some(1 << 30));
        usage.memory_bytes.peak = 5e8;
        usage.working_set_bytes = None;
        change(usage);
        render(&payload, None)
    };
    let markdown = bare(&|_| {});
    let table = &seen(&markdown).tables[0];
    let limits = table[0].iter().zip(&table[1]).filter(|(head, _)| *head == "limit");
    let limits: Vec<_> = limits.map(|(_, cell)| cell.replace('\u{a0}', " ")).collect();
    assert_eq!(limits, ["none, ≤ 0.50", "none, ≤ 1.0 GiB"], "{markdown}");
    assert!(markdown.contains("\n\n≤: not a limit of its own, but what its pod, slice or node allows.\n"));
    // Without a request or a limit of its own, it wastes nothing.
    assert_eq!(seen(&bare(&|usage| usage.memory_bytes.peak = 1e6)).items, [""; 0]);
    let warned = |change: &dyn Fn(&mut ContainerUsage), expected: &str| {
        let items = seen(&bare(change)).items;
        assert!(items.len() == 1 && items[0].contains(expected), "{items:?}");
    };
    warned(
        &|usage| usage.memory_bytes.peak = 1.03e9,
        "96 % of the 1.0 GiB that its pod, slice or node allows",
    );
    warned(
        &|usage| usage.oom_kills = Some(1),
        "killed, it has no limit of its own, its pod, slice or node allows 1.0 GiB",
    );
    warned(
        &|usage| (usage.cpu_periods, usage.cpu_throttled_periods) = (Some(100), Some(50)),
        "the 0.50 cores that its pod, slice or node allows slowed it down",
    );
}

#[test]
fn what_was_not_measured_is_said() {
    let mut payload = golden();
    payload.containers.clear();
    payload.complete = Some(false);
    let attribution = payload.attribution.as_mut().unwrap();
    (attribution.lost_records, attribution.unattributed_cpu_seconds) = (7, attribution.cpu_seconds / 4.0);
    let seen = seen(&render(&payload, None));
    assert_eq!(
        seen.items,
        [
            "⚠️ The measurement is incomplete: the run was not measured from its beginning to its end; 3 of 14 samples were missed; 7 records of the eBPF program were lost; 25 % of the CPU time found no container."
        ]
    );
    let markdown = render(&payload, None);
    assert!(markdown.contains("Measured from /proc without eBPF (built without eBPF)"), "{markdown}");
}

/// Names that processes, containers and jobs can give themselves.
const HOSTILE: [&str; 14] = [
    "a|b",
    r"a\|b",
    "`id`",
    "```",
    "<script>alert(1)</script>",
    "<!-- gone",
    "@everyone",
    "#1 [x](javascript:x)",
    "![x](http://x/y.png)",
    "**bold** _it_ ~~no~~",
    "&lt;&#64;",
    "two\nlines\r\n\n# heading",
    "\u{202e}gnp.exe\u{200b}",
    " | --- | \\",
];

#[test]
fn hostile_names_are_text_and_nothing_else() {
    let mut payload = golden();
    let template = payload.top_commands[0].clone();
    payload.top_commands =
        HOSTILE.map(|name| CommandUsage { name: name.to_owned(), ..template.clone() }).into();
    let template = payload.steps[0].clone();
    payload.steps = HOSTILE.map(|name| StepUsage { name: name.to_owned(), ..template.clone() }).into();
    payload.containers[0].name = HOSTILE.concat();
    payload.containers[1].name = "\u{1f4a3}|\u{1f4a3}".to_owned();
    payload.collector.as_mut().unwrap().source_reason = Some(HOSTILE.join(" "));
    payload.collector.as_mut().unwrap().hidden = Some(HOSTILE.join(" "));
    for name in HOSTILE {
        let hostile = RunIdentity { job: name.to_owned(), repository: name.to_owned(), ..run() };
        let markdown = render(&payload, Some(&hostile));
        let seen = seen(&markdown);
        assert_eq!(seen.others, [""; 0], "{markdown}");
        assert!(
            seen.html.iter().all(|html| ["<code>", "</code>"].contains(&html.as_str())),
            "{:?}",
            seen.html
        );
        let shown = crate::output::shown::name(name);
        assert_eq!(seen.headings, [format!("Resources used by {shown}, run run-123")]);
        let [containers, steps, commands] = seen.tables.as_slice() else { panic!("{markdown}") };
        let names: Vec<_> = commands[1..].iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, HOSTILE.map(crate::output::shown::name), "{markdown}");
        let names: Vec<_> = steps[1..].iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, HOSTILE.map(crate::output::shown::name), "{markdown}");
        assert_eq!(containers[2][0], "\u{1f4a3}|\u{1f4a3}");
        assert!(containers.iter().all(|row| row.len() == containers[0].len()));
        // Platforms look for mentions in all text except code.
        let outside = markdown.replace("```", "").split('`').step_by(2).collect::<String>();
        assert!(!outside.contains(['@', '\u{202e}', '\u{200b}']), "{outside}");
    }
}

#[test]
fn the_worst_names_do_not_make_it_large() {
    let mut payload = golden();
    payload.containers[0].name = "\u{10fffd}".repeat(300);
    (payload.containers[0].oom_kills, payload.containers[0].nested) = (Some(u64::MAX), Vec::new());
    payload.containers = vec![payload.containers[0].clone(); 1_000];
    payload.top_commands[0].name = "\u{10fffd}".repeat(300);
    payload.top_commands[0].container = Some("\u{10fffd}".repeat(300));
    payload.top_commands = vec![payload.top_commands[0].clone(); 1_000];
    payload.steps[0].name = "\u{10fffd}".repeat(300);
    payload.steps = vec![payload.steps[0].clone(); 1_000];
    payload.collector.as_mut().unwrap().source_reason = Some("|".repeat(100_000));
    payload.collector.as_mut().unwrap().hidden = Some("|".repeat(100_000));
    let name = "\u{10fffd}".repeat(300);
    let run = RunIdentity {
        job: name.clone(),
        workflow: name.clone(),
        run_id: name.clone(),
        repository: name,
        ..run()
    };
    let markdown = render(&payload, Some(&run));
    assert!(markdown.len() < MAX_BYTES, "{}", markdown.len());
    assert!(markdown.contains("and 970 more containers") && markdown.contains("and 985 more commands"));
}
