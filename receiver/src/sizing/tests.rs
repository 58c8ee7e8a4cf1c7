mod ceilings;

use jiff::Timestamp;
use proptest::prelude::*;
use wire::{ContainerSummary, CpuHistogram, MemoryFigure};

use super::job_figures::JobFigures;
use super::parameters::SizingParameters;
use super::quantity::{GIB, MIB};
use super::recommend;
use super::recommendation::{Change, ContainerSizing, SizingLevel, Status};
use crate::store::CompleteRun;

/// A container that used this many cores for 100 s, and this much memory.
fn facts(cores: f64, peak_mib: u64) -> ContainerSummary {
    let mut histogram = CpuHistogram::default();
    histogram.add(cores, 100.0);
    ContainerSummary {
        name: "c".to_owned(),
        cpu_peak_cores: cores,
        cpu_p95_cores: Some(cores),
        memory_peak_bytes: (peak_mib * MIB) as f64,
        working_set_peak_bytes: Some((peak_mib * MIB) as f64),
        cpu_cores_histogram: Some(histogram),
        ..ContainerSummary::default()
    }
}

/// Runs of one container, given oldest first and returned newest first.
fn runs(containers: Vec<ContainerSummary>) -> Vec<CompleteRun> {
    let run = |(at, facts): (usize, ContainerSummary)| CompleteRun {
        id: at as i64 + 1,
        job_id: 1,
        run_id: (at + 1).to_string(),
        duration_seconds: 100.0,
        cpu_seconds: Some(50.0),
        received_at: Timestamp::UNIX_EPOCH,
        failed: false,
        containers: vec![facts],
    };
    let mut runs: Vec<_> = containers.into_iter().enumerate().map(run).collect();
    runs.reverse();
    runs
}

fn size(containers: Vec<ContainerSummary>) -> ContainerSizing {
    recommend(&runs(containers), &[], &SizingParameters::default()).remove(0)
}

fn mib(bytes: Option<u64>) -> u64 {
    bytes.unwrap() / MIB
}

#[test]
fn memory_that_was_not_seen_is_no_figure() {
    let unseen =
        || ContainerSummary { memory_peak_bytes: 0.0, working_set_peak_bytes: None, ..facts(1.0, 1) };
    let sizing = size(vec![unseen(), unseen(), unseen()]);
    assert_eq!(sizing.status, Status::Recommended, "CPU was seen");
    assert!(sizing.cpu.request_cores.is_some());
    assert_eq!((sizing.memory.request_bytes, sizing.memory.used_bytes), (None, None));
    assert_eq!(sizing.memory.change, Change::Unknown);
    let why = "nothing is recommended: memory was measured in 0 of 3 runs, and 3 are needed";
    assert!(sizing.memory.reasons.iter().any(|reason| reason == why), "{:?}", sizing.memory.reasons);
    // Among other runs, it does not count as a run with memory.
    let sizing = size(vec![facts(1.0, 100), unseen(), facts(1.0, 100)]);
    assert_eq!(sizing.memory.request_bytes, None);
    let sizing = size(vec![facts(1.0, 100), unseen(), facts(1.0, 100), facts(1.0, 100)]);
    assert_eq!(mib(sizing.memory.request_bytes), 115);
    // A kill at a limit shows how much is too little, even if no use was seen.
    let killed = || ContainerSummary { oom_kills: Some(1), memory_limit_bytes: Some(64 * MIB), ..unseen() };
    assert!(mib(size(vec![killed(), killed(), killed()]).memory.request_bytes) >= 164);
}

#[test]
fn memory_is_the_working_set_else_rss_within_what_was_charged() {
    let figure = |working_set: Option<f64>, rss: f64, charged: Option<u64>| {
        let facts = ContainerSummary {
            working_set_peak_bytes: working_set,
            memory_peak_bytes: rss,
            cgroup_memory_peak_bytes: charged,
            ..facts(1.0, 1)
        };
        let sizing = size(vec![facts; 3]);
        (sizing.basis.memory_figure, sizing.memory.used_bytes.unwrap())
    };
    assert_eq!(figure(Some(5e8), 9e8, Some(8e8 as u64)), (MemoryFigure::WorkingSet, 500_000_000));
    assert_eq!(figure(None, 9e8, Some(8e8 as u64)), (MemoryFigure::CgroupPeak, 800_000_000));
    assert_eq!(figure(None, 7e8, Some(8e8 as u64)), (MemoryFigure::Rss, 700_000_000));
    assert_eq!(figure(None, 7e8, None), (MemoryFigure::Rss, 700_000_000));
}

#[test]
fn throttling_is_told_by_periods_and_by_time_where_they_are_not_known() {
    let throttled = |periods: Option<(u64, u64)>, seconds: Option<f64>| {
        let facts = ContainerSummary {
            cpu_throttled_periods: periods.map(|(throttled, _)| throttled),
            cpu_periods: periods.map(|(_, all)| all),
            cpu_throttled_seconds: seconds,
            ..facts(1.0, 100)
        };
        size(vec![facts; 3]).basis.throttled_runs
    };
    assert_eq!(throttled(Some((6, 100)), Some(0.0)), 3);
    assert_eq!(throttled(Some((5, 100)), Some(99.0)), 0, "5 % is not more than 5 %");
    assert_eq!(throttled(Some((0, 0)), None), 0);
    assert_eq!(throttled(None, Some(5.1)), 3);
    assert_eq!(throttled(None, Some(5.0)), 0);
    assert_eq!(throttled(None, None), 0);
}

#[test]
fn growth_goes_on_and_a_jump_does_not() {
    let target =
        |peaks: &[u64]| mib(size(peaks.iter().map(|peak| facts(1.0, *peak)).collect()).memory.target_bytes);
    assert_eq!(target(&[100, 150, 200, 250]), 350, "twice the step beyond the last peak");
    assert_eq!(target(&[100, 150, 200]), 230, "three runs are no growth yet");
    assert_eq!(target(&[400, 401, 402, 403]), 464, "less than the margin");
    assert_eq!(target(&[100, 101, 102, 200]), 230, "a jump");
    assert_eq!(target(&[100, 150, 200, 190]), 230);
    assert_eq!(target(&[250, 200, 150, 100]), 288);
}

#[test]
fn kills_in_a_row_ask_for_more_at_once() {
    let killed = |limit_mib: u64| ContainerSummary {
        memory_limit_bytes: Some(limit_mib * MIB),
        oom_kills: Some(1),
        ..facts(1.0, limit_mib)
    };
    let target = |containers| mib(size(containers).memory.target_bytes);
    let fine = || facts(1.0, 500);
    assert_eq!(target(vec![fine(), fine(), killed(1000)]), 1200);
    assert_eq!(target(vec![fine(), fine(), killed(200)]), 575, "the peak asks for more");
    assert_eq!(target(vec![fine(), killed(900), killed(1000)]), 1440);
    assert_eq!(target(vec![killed(1000); 9]), 1728, "no more than three at once");
    assert_eq!(target(vec![killed(1000), killed(1000), fine()]), 1200, "it got by again");
    let small = |limit_mib| target(vec![facts(1.0, 10), facts(1.0, 10), killed(limit_mib)]);
    assert_eq!((small(64), small(400)), (164, 500), "at least 100 MiB more");
    // Killed, but not by its own limit: only the observed use is known.
    let unlimited = ContainerSummary { oom_kills: Some(1), ..facts(1.0, 1000) };
    assert_eq!(target(vec![fine(), fine(), unlimited]), 1200);
}

/// A collector that cannot read a container's cgroup sees the signal that ended it, and not why.
#[test]
fn a_run_that_sigkill_ended_lowers_nothing() {
    let with = |exit_status, oom_kills, current_mib: Option<u64>| ContainerSummary {
        exit_status,
        oom_kills,
        memory_request_bytes: current_mib.map(|mib| mib * MIB),
        ..facts(1.0, 45)
    };
    let requested = |one: ContainerSummary| size(vec![one; 3]).memory;
    let killed = requested(with(Some(137), None, Some(64)));
    assert_eq!((mib(killed.request_bytes), killed.change), (64, Change::Keep));
    assert!(killed.reasons.join("\n").contains("SIGKILL ended 3 of 3 runs, perhaps for want of memory"));
    assert!(killed.reasons.join("\n").contains("at least this much is needed"), "{:?}", killed.reasons);
    // It was killed by something else, or ended in another way.
    for one in [with(Some(137), Some(0), Some(64)), with(Some(1), None, Some(64)), with(None, None, Some(64))]
    {
        let sizing = requested(one);
        assert_eq!((mib(sizing.request_bytes), sizing.change), (52, Change::Lower), "{:?}", sizing.reasons);
    }
}

#[test]
fn a_run_whose_neighbours_had_the_cpus_lowers_nothing() {
    let with = |stalled, current_cores| ContainerSummary {
        cpu_stalled_seconds: stalled,
        cpu_request_cores: Some(current_cores),
        ..facts(0.5, 100)
    };
    let sizing = |one: ContainerSummary| size(vec![one; 3]).cpu;
    let short = sizing(with(Some(11.0), 2.0));
    assert_eq!((short.request.as_deref(), short.change), (Some("2"), Change::Keep));
    let reason = short.reasons.join("\n");
    assert!(
        reason.contains("3 of 3 runs were short of CPU because of others and can only raise this"),
        "{reason}"
    );
    for stalled in [None, Some(9.0)] {
        assert_eq!(sizing(with(stalled, 2.0)).change, Change::Lower);
    }
}

#[test]
fn rails_hold_in_their_order() {
    let with = |current_mib: u64, peak_mib: u64, parameters: &SizingParameters| {
        let facts =
            ContainerSummary { memory_request_bytes: Some(current_mib * MIB), ..facts(1.0, peak_mib) };
        let sizing = recommend(&runs(vec![facts; 3]), &[], parameters).remove(0);
        (mib(sizing.memory.request_bytes), sizing.memory.change)
    };
    let defaults = SizingParameters::default();
    assert_eq!(with(1000, 400, &defaults), (750, Change::Lower));
    assert_eq!(with(1000, 700, &defaults), (805, Change::Lower));
    assert_eq!(with(1000, 800, &defaults), (1000, Change::Keep), "8 % less");
    assert_eq!(with(1000, 940, &defaults), (1000, Change::Keep), "8 % more, and it is enough");
    assert_eq!(with(1000, 1010, &defaults), (1162, Change::Raise));
    assert_eq!(
        with(1000, 1001, &SizingParameters { memory_margin: 5.0, ..defaults.clone() }),
        (1052, Change::Raise),
        "it is not enough"
    );
    assert_eq!(with(40, 1, &defaults), (32, Change::Lower), "the floor");
    let capped = SizingParameters { memory_cap: Some(500 * MIB), ..defaults };
    assert_eq!(with(1000, 900, &capped), (500, Change::Lower), "a cap is an order");
}

#[test]
fn what_the_kernel_counted_is_lowered_to_in_two_rounds() {
    let needed = |needed: u64, limit: u64| ContainerSummary {
        memory_needed_bytes: Some(needed * MIB),
        memory_limit_bytes: Some(limit * MIB),
        ..facts(1.0, needed)
    };
    let mut history = vec![needed(43, 2048), needed(40, 2048), needed(42, 2048)];
    let first = size(history.clone()).memory;
    assert_eq!((mib(first.request_bytes), mib(first.target_bytes)), (67, 50), "50 x 4/3");
    let why = first.reasons.join("; ");
    assert!(why.contains("lowered to 67 MiB for now: 3 runs that nothing held back needed less"), "{why}");
    history.extend([needed(43, 67), needed(41, 67), needed(40, 67)]);
    assert_eq!(mib(size(history.clone()).memory.request_bytes), 50);
    history.extend([needed(43, 50), needed(41, 50), needed(40, 50)]);
    assert_eq!(size(history).memory.change, Change::Keep, "and there it stays");

    let killed = |at: u64| ContainerSummary { oom_kills: Some(1), ..needed(at, at) };
    let mut history = vec![killed(64), killed(64), killed(64)];
    assert_eq!(mib(size(history.clone()).memory.request_bytes), 164);
    history.extend([needed(50, 164), needed(50, 164), needed(50, 164)]);
    assert_eq!(mib(size(history.clone()).memory.request_bytes), 164, "what was killed did not run again");
    history.extend([needed(78, 164), needed(77, 164)]);
    let answered = size(history.clone()).memory;
    assert_eq!((mib(answered.request_bytes), mib(answered.target_bytes)), (108, 90), "90 x 6/5");
    let why = answered.reasons.join("; ");
    assert!(why.contains("5 runs since then needed more and were not killed"), "{why}");
    history.push(killed(108));
    assert!(mib(size(history).memory.request_bytes) >= 208, "another kill asks again");

    let two = size(vec![facts(1.0, 43), needed(43, 2048), needed(43, 2048)]).memory;
    assert_eq!(mib(two.request_bytes), 1536, "two are no proof");
    let killed = ContainerSummary { oom_kills: Some(1), ..needed(43, 2048) };
    let killed = size(vec![killed, needed(43, 2048), needed(43, 2048), needed(43, 2048)]).memory;
    assert_eq!(killed.change, Change::Raise, "a kill is one of the opposite");
}

#[test]
fn a_request_that_is_not_known_is_the_limit() {
    let facts = ContainerSummary {
        memory_limit_bytes: Some(1000 * MIB),
        cpu_limit_cores: Some(4.0),
        ..facts(1.0, 400)
    };
    let careful = SizingParameters { max_step_down: Some(25.0), ..SizingParameters::default() };
    let sizing = recommend(&runs(vec![facts; 3]), &[], &careful).remove(0);
    assert_eq!((mib(sizing.memory.request_bytes), sizing.cpu.request_cores), (750, Some(3.0)));
    let hours = 300.0 / 3600.0;
    assert!((sizing.savings.core_hours - hours).abs() < 1e-9);
    assert!((sizing.savings.gib_hours - (250 * MIB) as f64 / GIB * hours).abs() < 1e-9);
}

#[test]
fn only_containers_that_are_there_are_told_of() {
    let mut history = runs(vec![facts(1.0, 100); 4]);
    for (at, name) in [(0, "kernel"), (0, "host"), (3, "once"), (0, "new")] {
        history[at].containers.push(ContainerSummary { name: name.to_owned(), ..facts(1.0, 100) });
    }
    for run in &mut history[1..] {
        run.containers.push(ContainerSummary { name: "gone".to_owned(), ..facts(1.0, 100) });
    }
    let sizings = recommend(&history, &[], &SizingParameters::default());
    let told: Vec<_> = sizings.iter().map(|one| (one.name.as_str(), one.status)).collect();
    assert_eq!(
        told,
        [("c", Status::Recommended), ("new", Status::InsufficientData), ("gone", Status::Recommended)]
    );
    // Only containers that need the fallback use it.
    let others = runs(vec![ContainerSummary { name: "new".to_owned(), ..facts(1.0, 300) }; 3]);
    let others: Vec<CompleteRun> =
        others.into_iter().map(|run| CompleteRun { id: run.id + 100, job_id: 2, ..run }).collect();
    let sizings = recommend(
        &history,
        &[(SizingLevel::Workflow, &[]), (SizingLevel::Repository, &others)],
        &SizingParameters::default(),
    );
    let told: Vec<_> = sizings.iter().map(|one| (one.basis.level, one.basis.runs)).collect();
    assert_eq!(told, [(SizingLevel::Job, 4), (SizingLevel::Repository, 4), (SizingLevel::Job, 3)]);
}

#[test]
fn figures_count_runs_once() {
    let killed = ContainerSummary {
        memory_limit_bytes: Some(100 * MIB),
        memory_request_bytes: Some(100 * MIB),
        oom_kills: Some(3),
        cpu_throttled_periods: Some(9),
        cpu_periods: Some(10),
        ..facts(1.0, 100)
    };
    let mut history = runs(vec![facts(1.0, 50), facts(1.0, 50), killed.clone()]);
    history[0].containers.push(ContainerSummary { name: "d".to_owned(), oom_kills: None, ..killed });
    let figures = JobFigures::of(&history, &SizingParameters::default());
    assert_eq!((figures.runs, figures.mean_duration_seconds), (3, 100.0));
    assert_eq!(
        (
            figures.oom_killed_runs,
            figures.at_memory_limit_runs,
            figures.throttled_runs,
            figures.censored_runs
        ),
        (1, 0, 1, 1)
    );
    assert!((figures.risk() - 1.1 / 3.0).abs() < 1e-9);
    assert_eq!(figures.memory_waste_gib_hours, 0.0, "too little is no waste");
    assert_eq!(
        figures.sparkline.iter().map(|point| (point.run, point.oom_killed)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, true)]
    );
    assert_eq!(figures.sparkline[2].memory_peak_bytes, (200 * MIB) as f64);
    assert_eq!(JobFigures::of(&[], &SizingParameters::default()), JobFigures::default());
    assert_eq!(JobFigures::default().risk(), 0.0);
}

prop_compose! {
    fn any_facts()(
        cores in 0.0..16.0_f64,
        seconds in 1.0..1000.0_f64,
        peak_mib in 1..8000_u64,
        limit_mib in proptest::option::of(1..8000_u64),
        cpu_limit in proptest::option::of(0.1..16.0_f64),
        request_mib in proptest::option::of(1..8000_u64),
        kills in 0..2_u64,
        throttled in 0..20_u64,
        sampled in any::<bool>(),
        bound_mib in proptest::option::of(1..8000_u64),
        cpu_bound in proptest::option::of(0.1..16.0_f64),
        machine in proptest::option::of((1..16_u32, 1..8000_u64)),
    ) -> ContainerSummary {
        let mut histogram = CpuHistogram::default();
        histogram.add(cores, seconds);
        histogram.add(cores / 3.0, seconds * 2.0);
        ContainerSummary {
            memory_limit_bytes: limit_mib.map(|mib| mib * MIB),
            memory_request_bytes: request_mib.map(|mib| mib * MIB),
            cpu_limit_cores: cpu_limit,
            memory_bound_bytes: bound_mib.map(|mib| mib * MIB),
            cpu_bound_cores: cpu_bound,
            machine_cpus: machine.map(|(cpus, _)| cpus),
            machine_memory_bytes: machine.map(|(_, mib)| mib * MIB),
            oom_kills: Some(kills),
            cpu_throttled_periods: Some(throttled),
            cpu_periods: Some(100),
            cpu_cores_histogram: sampled.then_some(histogram),
            ..facts(cores, peak_mib)
        }
    }
}

proptest! {
    #[test]
    fn a_censored_run_never_lowers_what_the_others_say(
        others in proptest::collection::vec(any_facts(), 3..12),
        mut censored in any_facts(),
        at in 0..12_usize,
    ) {
        let before = size(others.clone());
        censored.oom_kills = Some(1);
        censored.cpu_throttled_periods = Some(50);
        let mut with = others;
        with.insert(at.min(with.len()), censored);
        let after = size(with);
        prop_assert!(after.cpu.target_cores >= before.cpu.target_cores, "{before:#?} {after:#?}");
        // Growth and kills in a row depend on the order of runs, which has changed.
        let by_order = before.memory.reasons.iter().any(|reason| reason.contains("grew") || reason.contains("×"));
        prop_assert!(by_order || after.memory.target_bytes >= before.memory.target_bytes, "{before:#?} {after:#?}");
    }

    #[test]
    fn figures_are_in_order_and_within_the_rails(containers in proptest::collection::vec(any_facts(), 3..25)) {
        let newest = containers.last().unwrap().clone();
        let told = containers.iter().any(|facts| facts.oom_kills == Some(0));
        let sizing = size(containers);
        let memory = &sizing.memory;
        let (request, target) = (memory.request_bytes.unwrap(), memory.target_bytes.unwrap());
        prop_assert!(memory.lower_bound_bytes <= memory.target_bytes);
        prop_assert!(memory.upper_bound_bytes.is_none_or(|upper| upper >= target));
        prop_assert!(sizing.cpu.lower_bound_cores <= sizing.cpu.target_cores);
        prop_assert!(sizing.cpu.upper_bound_cores.is_none_or(|upper| Some(upper) >= sizing.cpu.target_cores));
        prop_assert!(request >= 32 * MIB && request.is_multiple_of(MIB) && target >= memory.used_bytes.unwrap());
        if let Some(current) = newest.memory_request_bytes.or(newest.memory_limit_bytes) {
            prop_assert!(request as f64 >= current as f64 * 0.75);
            // Never below the need, regardless of the current request.
            prop_assert!(request >= memory.used_bytes.unwrap());
            prop_assert!(told || request >= current);
        } else {
            prop_assert_eq!(request, target);
        }
        prop_assert!(!memory.reasons.is_empty() && !sizing.cpu.reasons.is_empty());
    }
}
