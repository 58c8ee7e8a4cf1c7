//! The report as text for people.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use wire::{ContainerSummary, ContainerUsage, Payload};

use super::shown::{
    BOUND_NOTE, bytes, cores, cpu_bound, duration, limit, memory_bound, memory_needed, name, plain, seconds,
};
use crate::run_identity::RunIdentity;

/// Renders the report. With `colour`, titles are bold.
pub fn render(payload: &Payload, run: Option<&RunIdentity>, colour: bool) -> String {
    let mut report = String::new();
    header(&mut report, payload, run);
    section(&mut report, "Containers", containers(payload), colour);
    if payload.containers.iter().any(|it| cpu_bound(it).is_some() || memory_bound(it).is_some()) {
        let _ = writeln!(report, "{BOUND_NOTE}");
    }
    needed(&mut report, payload);
    disk(&mut report, payload);
    overhead(&mut report, payload);
    section(&mut report, "Steps", steps(payload), colour);
    section(&mut report, "Commands by CPU", commands(payload), colour);
    section(&mut report, "Processes by memory", memory(payload), colour);
    quality(&mut report, payload);
    warnings(&mut report, payload);
    report
}

/// Warnings and errors, as in the log.
fn warnings(report: &mut String, payload: &Payload) {
    let Some(collector) = payload.collector.as_ref().filter(|collector| !collector.warnings.is_empty())
    else {
        return;
    };
    report.push_str("\nWarnings\n");
    for warning in &collector.warnings {
        let _ = writeln!(report, " {}", plain(warning));
    }
}

fn section(report: &mut String, title: &str, table: Option<Table>, colour: bool) {
    let Some(table) = table else { return };
    let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let _ = write!(report, "\n{bold}{title}{plain}\n{}\n", table.trim_fmt());
}

fn header(report: &mut String, payload: &Payload, run: Option<&RunIdentity>) {
    if let Some(run) = run {
        let _ = writeln!(
            report,
            "{} · {} · {} · run {}",
            plain(&run.repository),
            plain(&run.workflow),
            plain(&run.job),
            plain(&run.run_id)
        );
    }
    let _ =
        write!(report, "{} measured, {} samples", duration(payload.duration_seconds), payload.sample_count);
    if let Some(collector) = &payload.collector {
        let _ = write!(report, " every {}", duration(collector.interval_seconds));
    }
    report.push('\n');
    let mut host = Vec::new();
    if let Some(cpu) = &payload.cpu_total_percent {
        let of =
            payload.collector.as_ref().map_or(String::new(), |info| format!(" of {} CPUs", info.cpu_count));
        host.push(format!("CPU {:.0} % avg, {:.0} % peak{of}", cpu.avg, cpu.peak));
    }
    if let Some(memory) = &payload.mem_used_bytes {
        let total = payload.collector.as_ref().and_then(|info| info.memory_total_bytes);
        let of = total.map_or(String::new(), |total| format!(" of {}", bytes(total as f64)));
        host.push(format!("memory {} avg, {} peak{of}", bytes(memory.avg), bytes(memory.peak)));
    }
    if !host.is_empty() {
        let _ = writeln!(report, "Host: {}", host.join("; "));
    }
}

fn containers(payload: &Payload) -> Option<Table> {
    if payload.containers.is_empty() {
        return None;
    }
    let any = |has: fn(&ContainerUsage) -> bool| payload.containers.iter().any(has);
    let limits = any(|it| it.cpu_limit_cores.is_some() || it.memory_limit_bytes.is_some())
        || any(|it| cpu_bound(it).is_some() || memory_bound(it).is_some());
    let requests = any(|it| it.cpu_request_cores.is_some() || it.memory_request_bytes.is_some());
    let troubles: Vec<String> =
        payload.containers.iter().map(|usage| troubles(usage, payload.duration_seconds)).collect();
    let trouble = troubles.iter().any(|troubles| !troubles.is_empty());
    let mut heads = vec!["container", "CPU", "cores avg", "p95", "peak"];
    heads.extend(requests.then_some("request"));
    heads.extend(limits.then_some("limit"));
    heads.extend(["memory avg", "p95", "peak"]);
    heads.extend(requests.then_some("request"));
    heads.extend(limits.then_some("limit"));
    heads.push("processes");
    heads.extend(trouble.then_some("trouble"));
    let mut table = table(&heads);
    for (usage, troubles) in payload.containers.iter().zip(troubles) {
        let mut row = vec![
            name(&usage.name),
            usage.cpu_seconds.map_or(String::new(), seconds),
            cores(usage.cpu_cores.avg),
            usage.cpu_cores.p95.map_or(String::new(), cores),
            cores(usage.cpu_cores.peak),
        ];
        if requests {
            row.push(usage.cpu_request_cores.map_or(String::new(), cores));
        }
        if limits {
            let own = usage
                .cpu_limit_cores
                .map(|limit| format!("{} ({:.0} %)", cores(limit), 100.0 * usage.cpu_cores.peak / limit));
            row.push(limit(own, cpu_bound(usage).map(cores)).unwrap_or_default());
        }
        let memory = &usage.memory_bytes;
        row.extend([bytes(memory.avg), memory.p95.map_or(String::new(), bytes), bytes(memory.peak)]);
        if requests {
            row.push(usage.memory_request_bytes.map_or(String::new(), |request| bytes(request as f64)));
        }
        if limits {
            let own = usage.memory_limit_bytes.map(|limit| {
                format!("{} ({:.0} %)", bytes(limit as f64), 100.0 * memory.peak / limit as f64)
            });
            row.push(limit(own, memory_bound(usage).map(bytes)).unwrap_or_default());
        }
        row.push(usage.process_count.map_or(String::new(), |count| count.to_string()));
        if trouble {
            row.push(troubles);
        }
        table.add_row(row);
    }
    Some(table)
}

/// The memory that each container needed, if its account could be read.
fn needed(report: &mut String, payload: &Payload) {
    for usage in &payload.containers {
        if let Some(needed) = memory_needed(usage) {
            let _ = writeln!(report, "Memory without page cache: {} needed {needed}", name(&usage.name));
        }
    }
}

/// The disk I/O of each container that had some.
fn disk(report: &mut String, payload: &Payload) {
    for usage in &payload.containers {
        let (read, written) = (usage.disk_read_bytes.unwrap_or(0), usage.disk_written_bytes.unwrap_or(0));
        if read + written > 0 {
            let (read, written) = (bytes(read as f64), bytes(written as f64));
            let _ = writeln!(report, "Disk: {} read {read}, wrote {written}", name(&usage.name));
        }
    }
}

fn overhead(report: &mut String, payload: &Payload) {
    let Some(overhead) = &payload.pod_overhead else { return };
    let (used, peak) = (seconds(overhead.cpu_seconds), bytes(overhead.memory_bytes.peak));
    let _ = writeln!(report, "Pod overhead: CPU {used}, memory {peak} at most");
}

fn troubles(usage: &ContainerUsage, duration_seconds: f64) -> String {
    let mut troubles = Vec::new();
    let summary = ContainerSummary::new(usage, None);
    match usage.oom_kills {
        Some(1) => troubles.push("1 OOM kill".to_owned()),
        Some(kills) if kills > 1 => troubles.push(format!("{kills} OOM kills")),
        _ => {}
    }
    if summary.may_be_oom_killed() {
        troubles.push("ended by SIGKILL".to_owned());
    }
    match usage.restarts {
        Some(1) => troubles.push("restarted".to_owned()),
        Some(restarts) if restarts > 1 => troubles.push(format!("restarted {restarts} times")),
        _ => {}
    }
    if let Some(throttled) = usage.cpu_throttled_seconds.filter(|throttled| *throttled > 0.0) {
        troubles.push(format!("throttled {}", seconds(throttled)));
    }
    if let Some(stalled) = usage.cpu_stalled_seconds.filter(|_| summary.is_short_of_cpu(duration_seconds)) {
        troubles.push(format!("waited {} for CPU", seconds(stalled)));
    }
    troubles.join(", ")
}

/// The steps, if there are several: a single one is the run.
fn steps(payload: &Payload) -> Option<Table> {
    if payload.steps.len() < 2 {
        return None;
    }
    let mut table = table(&["step", "began", "took", "CPU", "memory", "processes"]);
    for step in &payload.steps {
        table.add_row(vec![
            name(&step.name),
            duration(step.begin_seconds),
            duration(step.end_seconds - step.begin_seconds),
            seconds(step.cpu_seconds),
            bytes(step.peak_mem_bytes as f64),
            step.process_count.to_string(),
        ]);
    }
    Some(table)
}

fn commands(payload: &Payload) -> Option<Table> {
    if payload.top_commands.is_empty() {
        return None;
    }
    let unseen = payload.top_commands.iter().any(|command| command.unseen_children_cpu_seconds.is_some());
    let at_once = payload.top_commands.iter().any(|command| command.peak_process_count.is_some());
    let several = payload.containers.len() > 1;
    let mut heads = vec!["command"];
    heads.extend(several.then_some("container"));
    heads.push("CPU");
    heads.extend(unseen.then_some("+ its short-lived children"));
    heads.push("processes");
    heads.extend(at_once.then_some("at once"));
    heads.push("largest");
    let mut table = table(&heads);
    for command in &payload.top_commands {
        let mut row = vec![name(&command.name)];
        if several {
            row.push(command.container.as_deref().map_or(String::new(), name));
        }
        row.push(seconds(command.cpu_seconds));
        if unseen {
            row.push(command.unseen_children_cpu_seconds.map_or(String::new(), seconds));
        }
        row.push(command.process_count.to_string());
        if at_once {
            row.push(command.peak_process_count.map_or(String::new(), |count| count.to_string()));
        }
        row.push(bytes(command.peak_mem_bytes as f64));
        table.add_row(row);
    }
    Some(table)
}

fn memory(payload: &Payload) -> Option<Table> {
    if payload.top_mem_processes.is_empty() {
        return None;
    }
    let several = payload.containers.len() > 1;
    let mut heads = vec!["process"];
    heads.extend(several.then_some("container"));
    heads.extend(["PID", "peak"]);
    let mut table = table(&heads);
    for process in &payload.top_mem_processes {
        let mut row = vec![name(&process.name)];
        if several {
            row.push(process.container.as_deref().map_or(String::new(), name));
        }
        row.extend([process.pid.to_string(), bytes(process.peak_mem_bytes as f64)]);
        table.add_row(row);
    }
    Some(table)
}

fn quality(report: &mut String, payload: &Payload) {
    let Some(attribution) = &payload.attribution else { return };
    report.push('\n');
    if let Some(collector) = &payload.collector {
        let how = match (collector.source.as_str(), &collector.source_reason) {
            ("ebpf", _) => "eBPF and /proc".to_owned(),
            (_, Some(reason)) => format!("/proc ({})", plain(reason)),
            (_, None) => "/proc".to_owned(),
        };
        let _ = write!(report, "Measured from {how}. ");
        if let Some(hidden) = &collector.hidden {
            let _ = write!(report, "Not everything was seen: {}. ", plain(hidden));
        }
    }
    let total = attribution.cpu_seconds;
    let share =
        if total > 0.0 { 100.0 * (total - attribution.unattributed_cpu_seconds) / total } else { 100.0 };
    let _ = writeln!(report, "CPU time {}, of which {share:.1} % found its container;", seconds(total));
    let exited = if total > 0.0 { 100.0 * attribution.exited_cpu_seconds / total } else { 0.0 };
    let _ = writeln!(
        report,
        "{exited:.1} % was used by processes that no sample saw (or in their last moments)."
    );
    if attribution.missed_samples > 0 || attribution.lost_records > 0 {
        let _ = writeln!(
            report,
            "Samples missed: {}; records lost: {}.",
            attribution.missed_samples, attribution.lost_records
        );
    }
    let own = 100.0 * attribution.collector_cpu_seconds / payload.duration_seconds.max(0.001);
    let _ = writeln!(
        report,
        "The collector itself used {}, {own:.1} % of one core.",
        seconds(attribution.collector_cpu_seconds)
    );
}

fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for (head, column) in heads.iter().zip(table.column_iter_mut()) {
        // Names to the left, figures to the right.
        let text = ["container", "command", "process", "step", "trouble"].contains(head);
        column.set_cell_alignment(if text { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
}

#[cfg(test)]
mod tests;
