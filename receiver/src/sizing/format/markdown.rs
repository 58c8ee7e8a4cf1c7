//! The recommendation as Markdown, for people.

use std::fmt::Write as _;

use super::super::quantity::{say_bytes, say_cores};
use super::super::recommendation::{ContainerSizing, Savings, Sizing};
use super::text::{line, subject, window};

/// Tables, reasons and savings.
pub(super) fn write(sizing: &Sizing) -> String {
    let mut text =
        format!("## What to request: {}\n\n{}.\n\n", escape(&subject(sizing)), window(&sizing.window));
    if sizing.containers.is_empty() {
        return text + "Insufficient data: there is no complete run.\n";
    }
    text += "| container | CPU request | now | memory request and limit | now | runs |\n";
    text += "|---|---:|---:|---:|---:|---:|\n";
    text += &sizing.containers.iter().map(row).collect::<String>();
    for container in &sizing.containers {
        let _ = writeln!(text, "\n**{}**\n", escape(&container.name));
        for reason in container.cpu.reasons.iter().chain(&container.memory.reasons) {
            let _ = writeln!(text, "- {}", escape(reason));
        }
    }
    let _ = writeln!(text, "\n{}", savings(&sizing.savings));
    if !sizing.jobs.is_empty() {
        text += "\n### By job\n\n| workflow | job | container | CPU request | now | memory request and limit | now | runs |\n";
        text += "|---|---|---|---:|---:|---:|---:|---:|\n";
        for job in &sizing.jobs {
            for container in &job.containers {
                let _ = write!(text, "| {} | {} {}", escape(&job.workflow), escape(&job.job), row(container));
            }
        }
        if sizing.jobs_left_out > 0 {
            text += "\nThere are more jobs; only the most recent ones are listed.\n";
        }
    }
    text
}

fn row(container: &ContainerSizing) -> String {
    let ContainerSizing { name, cpu, memory, basis, .. } = container;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let unknown = || "insufficient data".to_owned();
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        escape(name),
        cpu.request.clone().unwrap_or_else(unknown),
        or_dash(cpu.current_request_cores.or(cpu.current_limit_cores).map(say_cores)),
        memory.request.clone().unwrap_or_else(unknown),
        or_dash(
            memory.current_request_bytes.or(memory.current_limit_bytes).map(|bytes| say_bytes(bytes as f64))
        ),
        basis.runs
    )
}

fn savings(savings: &Savings) -> String {
    let said = |value: f64, unit: &str| {
        if value >= 0.0 { format!("{value:.2} {unit} fewer") } else { format!("{:.2} {unit} more", -value) }
    };
    let mut text = format!(
        "Over these runs: {} and {}",
        said(savings.core_hours, "core-hours"),
        said(savings.gib_hours, "GiB-hours")
    );
    if let Some(money) = savings.money {
        let _ = write!(text, ", {money:.2} at the prices given");
    }
    if !savings.known {
        text += "; not all current requests are known, and unknown ones are not counted";
    }
    text + "."
}

/// Escapes everything that has a meaning in Markdown or HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in line(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '@' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}
