//! The report for the page of a CI run: the part of GitHub-flavoured Markdown that Forgejo, Gitea and GitHub all show.

mod chart;
mod escape;
mod warnings;

use std::fmt::Write;

use wire::{CommandUsage, ContainerUsage, Payload, StepUsage};

use super::shown::{
    BOUND_NOTE, bytes, cores, cpu_bound, duration, limit, memory_bound, memory_needed, seconds,
};
use crate::run_identity::RunIdentity;

/// Maximum size of a section, for any names in it. GitHub shows no summary at all of a step with more than 1 MiB.
pub const MAX_BYTES: usize = 128 << 10;
/// Maximum rows of each table, charts and warnings. The report counts what is left out.
const MAX_CONTAINERS: usize = 30;
const MAX_COMMANDS: usize = 15;
const MAX_CHARTS: usize = 3;
const MAX_STEPS: usize = 40;
const MAX_WARNINGS: usize = 30;

/// Renders the report as a section of its own.
pub fn render(payload: &Payload, run: Option<&RunIdentity>) -> String {
    let mut markdown = String::new();
    header(&mut markdown, payload, run);
    list_warnings(&mut markdown, payload);
    containers(&mut markdown, payload);
    let charted =
        payload.containers.iter().filter(|usage| usage.cpu_seconds.is_none_or(|seconds| seconds > 0.0));
    for usage in charted.take(MAX_CHARTS) {
        chart::draw(&mut markdown, usage, payload.duration_seconds);
    }
    steps(&mut markdown, payload);
    commands(&mut markdown, payload);
    source(&mut markdown, payload);
    markdown
}

fn header(markdown: &mut String, payload: &Payload, run: Option<&RunIdentity>) {
    match run {
        Some(run) => {
            let job = escape::name(&run.job);
            let _ = writeln!(markdown, "### Resources used by {job}, run {}\n", escape::name(&run.run_id));
            let workflow = escape::name(&run.workflow);
            let _ = write!(markdown, "{}, workflow {workflow}: ", escape::name(&run.repository));
        }
        None => markdown.push_str("### Resources used\n\n"),
    }
    let _ =
        write!(markdown, "{} measured, {} samples", duration(payload.duration_seconds), payload.sample_count);
    let collector = payload.collector.as_ref();
    if let Some(collector) = collector {
        let _ = write!(markdown, " every {}", duration(collector.interval_seconds));
    }
    markdown.push('.');
    if let Some(cpu) = &payload.cpu_total_percent {
        let of = collector.map_or(String::new(), |collector| format!(" of {} CPUs", collector.cpu_count));
        let _ = write!(markdown, " The host: CPU {:.0} % on average, {:.0} % at most{of}", cpu.avg, cpu.peak);
        if let Some(memory) = &payload.mem_used_bytes {
            let total = collector.and_then(|collector| collector.memory_total_bytes);
            let of = total.map_or(String::new(), |total| format!(" of {}", bytes(total as f64)));
            let _ = write!(markdown, ", memory {} at most{of}", bytes(memory.peak));
        }
        markdown.push('.');
    }
    markdown.push('\n');
}

fn list_warnings(markdown: &mut String, payload: &Payload) {
    let warnings = warnings::of(payload);
    if warnings.is_empty() {
        return;
    }
    markdown.push('\n');
    for warning in warnings.iter().take(MAX_WARNINGS) {
        let _ = writeln!(markdown, "- ⚠️ {warning}.");
    }
    if warnings.len() > MAX_WARNINGS {
        let _ = writeln!(markdown, "- and {} more warnings", warnings.len() - MAX_WARNINGS);
    }
}

/// A column: its head, whether it is text, and its cells.
struct Column<T> {
    head: &'static str,
    text: bool,
    cell: fn(&T) -> Option<String>,
}

fn figures<T>(head: &'static str, cell: fn(&T) -> Option<String>) -> Column<T> {
    Column { head, text: false, cell }
}

fn names<T>(head: &'static str, cell: fn(&T) -> Option<String>) -> Column<T> {
    Column { head, text: true, cell }
}

/// Writes a table. Columns without any known value are left out.
fn table<'a, T: 'a>(markdown: &mut String, rows: &[T], columns: impl IntoIterator<Item = &'a Column<T>>) {
    let known = |column: &&Column<T>| rows.iter().any(|row| (column.cell)(row).is_some());
    let columns: Vec<_> = columns.into_iter().filter(known).collect();
    let heads: Vec<_> = columns.iter().map(|column| column.head).collect();
    let rules: Vec<_> = columns.iter().map(|column| if column.text { "---" } else { "--:" }).collect();
    let _ = writeln!(markdown, "\n| {} |\n| {} |", heads.join(" | "), rules.join(" | "));
    for row in rows {
        let cells = columns.iter().map(|column| {
            let cell = (column.cell)(row).unwrap_or_default();
            // Keep a figure and its unit on one line if a table is narrow.
            if column.text { cell } else { cell.replace(' ', "\u{a0}") }
        });
        let cells: Vec<_> = cells.collect();
        let _ = writeln!(markdown, "| {} |", cells.join(" | "));
    }
}

fn containers(markdown: &mut String, payload: &Payload) {
    let shown = &payload.containers[..payload.containers.len().min(MAX_CONTAINERS)];
    if shown.is_empty() {
        return;
    }
    let columns: [Column<ContainerUsage>; 18] = [
        names("container", |usage| Some(escape::name(&usage.name))),
        figures("CPU cores p95", |usage| usage.cpu_cores.p95.map(cores)),
        figures("peak", |usage| Some(cores(usage.cpu_cores.peak))),
        figures("request", |usage| usage.cpu_request_cores.map(cores)),
        figures("limit", |usage| limit(usage.cpu_limit_cores.map(cores), cpu_bound(usage).map(cores))),
        figures("memory peak", |usage| Some(bytes(usage.memory_bytes.peak))),
        figures("working set", |usage| usage.working_set_bytes.map(|set| bytes(set.peak))),
        figures("needed", memory_needed),
        figures("request", |usage| usage.memory_request_bytes.map(whole)),
        figures("limit", |usage| limit(usage.memory_limit_bytes.map(whole), memory_bound(usage).map(bytes))),
        figures("CPU time", |usage| usage.cpu_seconds.map(seconds)),
        figures("processes", |usage| usage.process_count.map(|count| count.to_string())),
        figures("throttled", |usage| usage.cpu_throttled_seconds.map(seconds)),
        figures("waited for CPU", |usage| usage.cpu_stalled_seconds.map(seconds)),
        figures("disk read", |usage| usage.disk_read_bytes.map(whole)),
        figures("written", |usage| usage.disk_written_bytes.map(whole)),
        figures("OOM kills", |usage| usage.oom_kills.map(|kills| kills.to_string())),
        figures("restarts", |usage| usage.restarts.map(|restarts| restarts.to_string())),
    ];
    table(markdown, shown, &columns);
    if shown.iter().any(|usage| cpu_bound(usage).is_some() || memory_bound(usage).is_some()) {
        let _ = writeln!(markdown, "\n{BOUND_NOTE}");
    }
    left_out(markdown, payload.containers.len() - shown.len(), "containers");
    if let Some(overhead) = &payload.pod_overhead {
        let (used, peak) = (seconds(overhead.cpu_seconds), bytes(overhead.memory_bytes.peak));
        let _ = writeln!(markdown, "\nPod overhead: CPU {used}, memory {peak} at most.");
    }
}

/// The steps, if there are several: a single one is the run.
fn steps(markdown: &mut String, payload: &Payload) {
    if payload.steps.len() < 2 {
        return;
    }
    let shown = &payload.steps[..payload.steps.len().min(MAX_STEPS)];
    let columns: [Column<StepUsage>; 6] = [
        names("step", |step| Some(escape::name(&step.name))),
        figures("began", |step| Some(duration(step.begin_seconds))),
        figures("took", |step| Some(duration(step.end_seconds - step.begin_seconds))),
        figures("CPU time", |step| Some(seconds(step.cpu_seconds))),
        figures("memory", |step| Some(whole(step.peak_mem_bytes))),
        figures("processes", |step| Some(step.process_count.to_string())),
    ];
    markdown.push_str("\nSteps:\n");
    table(markdown, shown, &columns);
    left_out(markdown, payload.steps.len() - shown.len(), "steps");
}

fn commands(markdown: &mut String, payload: &Payload) {
    let shown = &payload.top_commands[..payload.top_commands.len().min(MAX_COMMANDS)];
    if shown.is_empty() {
        return;
    }
    let columns: [Column<CommandUsage>; 7] = [
        names("command", |command| Some(escape::name(&command.name))),
        names("container", |command| command.container.as_deref().map(escape::name)),
        figures("CPU time", |command| Some(seconds(command.cpu_seconds))),
        figures("its short-lived children", |command| command.unseen_children_cpu_seconds.map(seconds)),
        figures("processes", |command| Some(command.process_count.to_string())),
        figures("at once", |command| command.peak_process_count.map(|count| count.to_string())),
        figures("largest", |command| Some(whole(command.peak_mem_bytes))),
    ];
    let several = payload.containers.len() > 1;
    markdown.push_str("\nCommands by CPU time:\n");
    table(markdown, shown, columns.iter().filter(|column| several || column.head != "container"));
    left_out(markdown, payload.top_commands.len() - shown.len(), "commands");
}

fn whole(count: u64) -> String {
    bytes(count as f64)
}

fn left_out(markdown: &mut String, count: usize, what: &str) {
    if count > 0 {
        let _ = writeln!(markdown, "\nand {count} more {what}");
    }
}

/// How it was measured, which also shows what the figures do not cover.
fn source(markdown: &mut String, payload: &Payload) {
    let Some(collector) = &payload.collector else { return };
    let how = match (collector.source.as_str(), &collector.source_reason) {
        ("ebpf", _) => "with eBPF: short-lived processes are counted by name".to_owned(),
        (_, Some(reason)) => format!(
            "from /proc without eBPF ({}): short-lived processes are counted where they ran, some without their names",
            escape::text(reason)
        ),
        (_, None) => "from /proc".to_owned(),
    };
    let _ = write!(markdown, "\nMeasured {how}.");
    if let Some(attribution) =
        payload.attribution.as_ref().filter(|attribution| attribution.cpu_seconds > 0.0)
    {
        let share = 100.0 * attribution.exited_cpu_seconds / attribution.cpu_seconds;
        let _ = write!(markdown, " {share:.0} % of the CPU time was used by processes between two samples.");
    }
    markdown.push('\n');
}

#[cfg(test)]
mod tests;
