//! The history of a job's runs.

use jiff::Timestamp;
use wire::rules::is_throttled;
use wire::{CiContext, ContainerSummary, RunSummary};

use crate::sizing::recommendation::Sizing;
use crate::store::RunFilter;
use crate::ui::chart::{Chart, Unit, X};
use crate::ui::components::Badge;
use crate::ui::format::{self, DisplayTime};
use crate::ui::urls;

/// One container over several runs.
pub(super) struct ContainerCourse {
    pub(super) name: String,
    pub(super) charts: Vec<Chart>,
    pub(super) rows: Vec<CourseRow>,
}

/// The figures of the charts for one run.
pub(super) struct CourseRow {
    pub(super) href: String,
    pub(super) run_id: String,
    pub(super) values: Vec<(&'static str, String)>,
}

/// A row in the list of runs.
pub(super) struct RunRow {
    pub(super) id: i64,
    pub(super) href: String,
    pub(super) run_id: String,
    pub(super) attempt: Option<u32>,
    /// What the CI system says about it, each with the list of the runs that it says the same about.
    pub(super) said: Vec<(String, String)>,
    pub(super) began: DisplayTime,
    pub(super) duration: String,
    pub(super) cpu: String,
    pub(super) memory: String,
    pub(super) badges: Vec<Badge>,
    /// Whether the run is preselected as A or as B of a comparison.
    pub(super) is_a: bool,
    pub(super) is_b: bool,
}

/// The memory that the container needed, by the same rule as for recommendations.
fn memory(container: &ContainerSummary) -> f64 {
    container.memory_needed().0
}

/// All containers, in the order of the newest run. Runs come newest first and are drawn oldest first.
pub(super) fn courses(runs: &[RunSummary], sizing: &Sizing) -> Vec<ContainerCourse> {
    let mut names: Vec<&str> = vec![];
    for container in runs.iter().flat_map(|run| &run.containers) {
        if !names.contains(&container.name.as_str()) {
            names.push(&container.name);
        }
    }
    names.into_iter().map(|name| course(name, runs, sizing)).collect()
}

fn course(name: &str, runs: &[RunSummary], sizing: &Sizing) -> ContainerCourse {
    let found: Vec<_> = runs
        .iter()
        .filter_map(|run| Some((run, run.containers.iter().find(|container| container.name == name)?)))
        .collect();
    let of = |figure: fn(&ContainerSummary) -> Option<f64>| -> Vec<Option<f64>> {
        found.iter().rev().map(|(_, container)| figure(container)).collect()
    };
    let recommended = sizing.containers.iter().find(|container| container.name == name);
    let xs: Vec<_> =
        found.iter().rev().map(|(run, _)| run.start_time.as_millisecond() as f64 / 1000.0).collect();
    let ordered = xs.windows(2).all(|pair| pair[0] < pair[1]);
    // Runs are pushed when they end, so runs that overlap may have begun in another order.
    let charts = if xs.len() < 2 {
        vec![]
    } else {
        let order = order(&xs, ordered);
        let of = |figure| arranged(&order, &of(figure));
        let xs = arranged(&order, &xs);
        vec![
            Chart::new(&format!("CPU of {name} over its runs"), Unit::Cores, X::Time, xs.clone())
                .line("used (p95)", "used", of(|container| container.cpu_p95_cores))
                .bounds(
                    of(|container| container.cpu_request_cores),
                    of(|container| container.cpu_limit_cores),
                )
                .level("recommended", "recommended", recommended.and_then(|sizing| sizing.cpu.request_cores)),
            Chart::new(&format!("Memory of {name} over its runs"), Unit::Bytes, X::Time, xs)
                .line("used (peak)", "used", of(|container| Some(memory(container))))
                .bounds(
                    of(|container| container.memory_request_bytes.map(|bytes| bytes as f64)),
                    of(|container| container.memory_limit_bytes.map(|bytes| bytes as f64)),
                )
                .level(
                    "recommended",
                    "recommended",
                    recommended.and_then(|sizing| sizing.memory.request_bytes).map(|bytes| bytes as f64),
                ),
        ]
    };
    ContainerCourse {
        name: name.to_owned(),
        charts,
        rows: found.iter().map(|(run, of_it)| row(run, of_it)).collect(),
    }
}

fn order(xs: &[f64], ordered: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    if !ordered {
        order.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]));
    }
    order
}

fn arranged<T: Copy>(order: &[usize], values: &[T]) -> Vec<T> {
    order.iter().map(|at| values[*at]).collect()
}

fn row(run: &RunSummary, container: &ContainerSummary) -> CourseRow {
    let cores = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), format::cores);
    let bytes =
        |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| format::bytes(value as f64));
    CourseRow {
        href: format!("/runs/{}", run.id),
        run_id: run.run_id.clone(),
        values: vec![
            ("CPU p95", cores(container.cpu_p95_cores)),
            ("CPU peak", format::cores(container.cpu_peak_cores)),
            ("CPU request", cores(container.cpu_request_cores)),
            ("CPU limit", cores(container.cpu_limit_cores)),
            ("CPU bound", cores(container.cpu_bound_cores)),
            ("Memory peak", format::bytes(memory(container))),
            ("Memory request", bytes(container.memory_request_bytes)),
            ("Memory limit", bytes(container.memory_limit_bytes)),
            ("Memory bound", bytes(container.memory_bound_bytes)),
        ],
    }
}

/// `href`: the page of the job.
pub(super) fn rows(runs: &[RunSummary], href: &str, now: Timestamp) -> Vec<RunRow> {
    let rows = runs.iter().enumerate().map(|(at, run)| RunRow {
        id: run.id,
        href: format!("/runs/{}", run.id),
        run_id: run.run_id.clone(),
        attempt: run.run_attempt.filter(|attempt| *attempt > 1),
        said: run.ci.as_ref().map(|ci| said(ci, href)).unwrap_or_default(),
        began: DisplayTime::new(run.start_time, now),
        duration: format::seconds(run.duration_seconds),
        cpu: run.cpu_seconds.map_or_else(|| "–".to_owned(), format::seconds),
        memory: run
            .containers
            .iter()
            .map(memory)
            .reduce(f64::max)
            .map_or_else(|| "–".to_owned(), format::bytes),
        badges: badges(run),
        is_a: at == 1,
        is_b: at == 0,
    });
    rows.collect()
}

fn said(ci: &CiContext, href: &str) -> Vec<(String, String)> {
    let all = RunFilter::default;
    let link = |text: &Option<String>, filter: RunFilter| {
        text.clone().map(|text| (text, format!("{}#runs", urls::filtered(href, &filter, None))))
    };
    let variant = link(&ci.variant, RunFilter { variant: ci.variant.clone(), ..all() });
    let git_ref = link(&ci.git_ref, RunFilter { git_ref: ci.git_ref.clone(), ..all() });
    let event = link(&ci.event, RunFilter { event: ci.event.clone(), ..all() });
    [variant, git_ref, event].into_iter().flatten().collect()
}

fn badges(run: &RunSummary) -> Vec<Badge> {
    let mut badges = vec![];
    let killed: u64 = run.containers.iter().filter_map(|container| container.oom_kills).sum();
    if killed > 0 {
        badges.push(Badge { kind: "bad", text: "OOM-killed".to_owned() });
    }
    let share = |container: &ContainerSummary| container.throttled_share(run.duration_seconds);
    if run.containers.iter().filter_map(share).any(is_throttled) {
        badges.push(Badge { kind: "warn", text: "throttled".to_owned() });
    }
    badges.extend(Badge::of_result(run.ci.as_ref()));
    if run.complete == Some(false) || !run.is_final {
        badges.push(Badge::partial());
    }
    badges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_overlap_are_drawn_in_the_order_of_their_beginning() {
        let xs = [3.0, 1.0, 2.0];
        let order = order(&xs, false);
        assert_eq!(arranged(&order, &xs), [1.0, 2.0, 3.0]);
        assert_eq!(arranged(&order, &["c", "a", "b"]), ["a", "b", "c"]);
    }
}
