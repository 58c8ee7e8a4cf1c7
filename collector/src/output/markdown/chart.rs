//! A run's time series in block characters. Everything that shows Markdown shows a code block, but not the diagrams of one
//! particular version of Mermaid.

use std::fmt::Write;

use wire::{ContainerUsage, Series};

use super::escape;
use crate::output::shown::{bytes, cores, duration};

/// Width in characters, and height in lines.
const WIDTH: usize = 60;
const HEIGHT: usize = 4;
/// The eighths of a line.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws CPU and memory of one container, or nothing if it has no time series.
pub(super) fn draw(markdown: &mut String, usage: &ContainerUsage, seconds: f64) {
    let Some(series) = usage.series.as_ref().filter(|series| !series.cpu_cores.is_empty()) else { return };
    let _ = write!(markdown, "\n{}\n\n```text\n", escape::name(&usage.name));
    let limit = usage.cpu_limit_cores.map_or(String::new(), |limit| format!(", limit {}", cores(limit)));
    let _ = writeln!(markdown, "CPU in cores{limit}");
    bars(markdown, &columns(&series.cpu_cores, mean), cores);
    axis(markdown, series, seconds);
    let limit =
        usage.memory_limit_bytes.map_or(String::new(), |limit| format!(", limit {}", bytes(limit as f64)));
    let _ = writeln!(markdown, "\nmemory (RSS){limit}");
    let memory: Vec<f64> = series.memory_bytes.iter().map(|bytes| *bytes as f64).collect();
    bars(markdown, &columns(&memory, highest), bytes);
    axis(markdown, series, seconds);
    markdown.push_str("```\n");
}

/// Scales points to the width: a column stands for several points, or a point takes several columns.
fn columns(points: &[f64], together: fn(&[f64]) -> f64) -> Vec<f64> {
    if points.len() > WIDTH {
        let bounds = |column: usize| column * points.len() / WIDTH;
        return (0..WIDTH).map(|column| together(&points[bounds(column)..bounds(column + 1)])).collect();
    }
    let wide = WIDTH / points.len().max(1);
    points.iter().flat_map(|point| std::iter::repeat_n(*point, wide)).collect()
}

fn mean(points: &[f64]) -> f64 {
    points.iter().sum::<f64>() / points.len() as f64
}

fn highest(points: &[f64]) -> f64 {
    points.iter().copied().fold(0.0, f64::max)
}

/// The lines of a chart. Its highest column reaches the top. Top and bottom have labels.
fn bars(markdown: &mut String, columns: &[f64], label: fn(f64) -> String) {
    let top = highest(columns);
    let eighths = |column: f64| {
        let all = if top > 0.0 { (column / top * (8 * HEIGHT) as f64).round() as usize } else { 0 };
        // A small value must not look like 0.
        all.max(usize::from(column > 0.0))
    };
    for line in (0..HEIGHT).rev() {
        let name = match line {
            _ if line == HEIGHT - 1 => label(top),
            0 => "0".to_owned(),
            _ => String::new(),
        };
        let blocks = columns.iter().map(|column| BLOCKS[eighths(*column).saturating_sub(8 * line).min(8)]);
        let blocks: String = blocks.collect();
        let _ = writeln!(markdown, "{name:>10} │{}", blocks.trim_end());
    }
}

fn axis(markdown: &mut String, series: &Series, seconds: f64) {
    let wide = columns(&series.cpu_cores, mean).len();
    let end = duration(seconds);
    let _ = writeln!(markdown, "{:>10} └{}", "", "─".repeat(wide));
    let _ = writeln!(markdown, "{:>10}  0s{end:>1$}", "", wide.saturating_sub(2));
}
