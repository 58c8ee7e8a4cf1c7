//! How well a run was measured.

use wire::{Payload, Source};

use crate::ui::format;

pub(super) fn quality(payload: &Payload, sources: &[Source]) -> Vec<(&'static str, String)> {
    let mut quality = vec![];
    if !sources.is_empty() {
        let sources: Vec<String> = sources.iter().map(measured_by).collect();
        quality.push(("Measured by", sources.join(", ")));
    }
    let complete = match payload.complete {
        Some(true) => "yes: from the collector's start to its end",
        Some(false) => "no: an interim summary, or one recovered after the collector was killed",
        None => "not known",
    };
    quality.push(("The whole run", complete.to_owned()));
    if let Some(collector) = &payload.collector {
        let reason = collector.source_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let source = match collector.source.as_str() {
            "ebpf" => format!("eBPF: the kernel reports every process when it ends{reason}"),
            "proc" => format!("/proc{reason}"),
            other => format!("{other}{reason}"),
        };
        quality.push(("Short-lived processes by", source));
        quality.push((
            "Hidden from the collector",
            collector.hidden.clone().unwrap_or_else(|| "nothing known".to_owned()),
        ));
    }
    if let Some(attribution) = &payload.attribution {
        let placed = 1.0 - attribution.unattributed_cpu_seconds / attribution.cpu_seconds.max(1e-9);
        quality.push((
            "CPU time that found its container",
            format!(
                "{} of {}",
                format::percent(placed.clamp(0.0, 1.0)),
                format::seconds(attribution.cpu_seconds)
            ),
        ));
        quality.push(("Lost records", format::count(attribution.lost_records)));
        quality.push((
            "Missed samples",
            format!(
                "{} of {}",
                format::count(attribution.missed_samples),
                format::count(payload.sample_count + attribution.missed_samples)
            ),
        ));
        quality.push(("The collector itself used", format::seconds(attribution.collector_cpu_seconds)));
    }
    if let Some(method) = payload.quantile_method {
        let method = match method {
            wire::QuantileMethod::Exact => "of all samples, exact",
            wire::QuantileMethod::Hdr3 => "of a histogram with three significant digits",
            wire::QuantileMethod::Unknown => "by a method unknown to this receiver",
        };
        quality.push(("Percentiles", method.to_owned()));
    }
    if let Some(collector) = &payload.collector {
        let memory = collector.memory_total_bytes.map(|bytes| format!(", {}", format::bytes(bytes as f64)));
        let machine = [&collector.node_name, &collector.instance_type].into_iter().flatten();
        let machine: String = machine.map(|name| format!("{name}, ")).collect();
        let kernel = collector.kernel.as_ref().map(|kernel| format!(", Linux {kernel}"));
        quality.push((
            "Host",
            format!(
                "{machine}{} CPUs{}{}",
                collector.cpu_count,
                memory.unwrap_or_default(),
                kernel.unwrap_or_default()
            ),
        ));
        quality.push((
            "Collector",
            format!(
                "{}, {} mode, every {}",
                collector.version,
                collector.mode,
                format::seconds(collector.interval_seconds)
            ),
        ));
    }
    quality
}

/// Describes one of the collectors that measured the run.
fn measured_by(source: &Source) -> String {
    let who = match source.mode.as_str() {
        "node" => "node collector",
        "sidecar" => "sidecar",
        "run" => "collector run",
        other => other,
    };
    let mut notes = vec![];
    if source.source == "ebpf" {
        notes.push("eBPF");
    }
    if !source.is_final {
        notes.push("not its last summary");
    } else if source.complete == Some(false) {
        notes.push("a part of the run");
    }
    if notes.is_empty() { who.to_owned() } else { format!("{who} ({})", notes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_measured_is_told_with_what_matters() {
        let source = |mode: &str, source: &str, is_final, complete| Source {
            mode: mode.to_owned(),
            source: source.to_owned(),
            summary_id: None,
            seq: None,
            is_final,
            complete,
        };
        let told = |one: Source| measured_by(&one);
        assert_eq!(told(source("node", "ebpf", true, Some(true))), "node collector (eBPF)");
        assert_eq!(told(source("sidecar", "proc", true, Some(true))), "sidecar");
        assert_eq!(
            told(source("node", "ebpf", true, Some(false))),
            "node collector (eBPF, a part of the run)"
        );
        assert_eq!(told(source("sidecar", "proc", false, Some(false))), "sidecar (not its last summary)");
    }
}
