//! Charts that the script draws. Their figures are in an attribute of the page, which also has them in a table.

use serde::Serialize;
use wire::StepUsage;

use super::format;

/// One chart.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Chart {
    /// The caption, which also names the chart for screen readers.
    #[serde(skip)]
    pub(super) label: String,
    unit: Unit,
    x: X,
    /// Charts with the same key share their cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sync: Option<&'static str>,
    xs: Vec<f64>,
    series: Vec<Line>,
    /// The steps of the job, which are marked where they begin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<ChartStep>,
}

/// When a step of the job ran, in seconds since the beginning of the run.
#[derive(Debug, Clone, Serialize)]
struct ChartStep {
    name: String,
    begin: f64,
    end: f64,
}

/// Unit of the values.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Cores,
    Bytes,
}

/// Unit of the x axis.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum X {
    /// Seconds since the beginning of the run.
    Seconds,
    /// Seconds since 1970.
    Time,
}

/// One line. Its kind decides its colour.
#[derive(Debug, Clone, Serialize)]
struct Line {
    label: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dashed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    filled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    points: bool,
    values: Vec<Option<f64>>,
}

impl Chart {
    pub(super) fn new(label: &str, unit: Unit, x: X, xs: Vec<f64>) -> Self {
        let label = format::sentence(label);
        Self { label, unit, x, sync: None, xs, series: vec![], steps: vec![] }
    }

    /// Marks the steps of the job.
    #[must_use]
    pub(super) fn steps(mut self, steps: &[StepUsage]) -> Self {
        let step = |step: &StepUsage| ChartStep {
            name: step.name.clone(),
            begin: step.begin_seconds,
            end: step.end_seconds,
        };
        self.steps = steps.iter().map(step).collect();
        self
    }

    /// Adds a line of measured values.
    #[must_use]
    pub(super) fn line(mut self, label: &str, kind: &'static str, values: Vec<Option<f64>>) -> Self {
        let filled = kind == "used" && matches!(self.x, X::Seconds);
        let points = matches!(self.x, X::Time);
        self.series.push(Line { label: label.to_owned(), kind, dashed: false, filled, points, values });
        self
    }

    /// Adds a dashed line of configured values. Nothing is drawn where they are unknown.
    #[must_use]
    pub(super) fn mark(mut self, label: &str, kind: &'static str, values: Vec<Option<f64>>) -> Self {
        if values.iter().any(Option::is_some) {
            let label = label.to_owned();
            self.series.push(Line { label, kind, dashed: true, filled: false, points: false, values });
        }
        self
    }

    /// Adds request and limit, as one line if they are the same: the other would be hidden behind it.
    #[must_use]
    pub(super) fn bounds(self, request: Vec<Option<f64>>, limit: Vec<Option<f64>>) -> Self {
        if request == limit {
            return self.mark("request and limit", "limit", limit);
        }
        self.mark("request", "request", request).mark("limit", "limit", limit)
    }

    /// Adds a constant request and a constant limit.
    #[must_use]
    pub(super) fn levels(self, request: Option<f64>, limit: Option<f64>) -> Self {
        let count = self.xs.len();
        self.bounds(vec![request; count], vec![limit; count])
    }

    /// Adds a constant dashed line.
    #[must_use]
    pub(super) fn level(self, label: &str, kind: &'static str, value: Option<f64>) -> Self {
        let values = vec![value; self.xs.len()];
        self.mark(label, kind, values)
    }

    /// The chart as JSON, for the script.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
