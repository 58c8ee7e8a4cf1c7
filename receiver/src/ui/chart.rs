//! What the script draws: figures in an attribute of the page, which also has them in a table.

use serde::Serialize;

use super::format;

/// One chart.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Chart {
    /// What it shows, for who cannot see it.
    #[serde(skip)]
    pub(super) label: String,
    unit: Unit,
    x: X,
    /// Charts with the same key share their cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sync: Option<&'static str>,
    xs: Vec<f64>,
    series: Vec<Line>,
}

/// Of the values.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Cores,
    Bytes,
}

/// Of the places.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum X {
    /// Since the beginning.
    Seconds,
    /// Since 1970, in seconds.
    Time,
}

/// One line; its kind gives it its colour.
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
        Self { label, unit, x, sync: None, xs, series: vec![] }
    }

    /// What was measured.
    #[must_use]
    pub(super) fn line(mut self, label: &str, kind: &'static str, values: Vec<Option<f64>>) -> Self {
        let filled = kind == "used" && matches!(self.x, X::Seconds);
        let points = matches!(self.x, X::Time);
        self.series.push(Line { label: label.to_owned(), kind, dashed: false, filled, points, values });
        self
    }

    /// What was set; nothing is drawn where it is not known.
    #[must_use]
    pub(super) fn mark(mut self, label: &str, kind: &'static str, values: Vec<Option<f64>>) -> Self {
        if values.iter().any(Option::is_some) {
            let label = label.to_owned();
            self.series.push(Line { label, kind, dashed: true, filled: false, points: false, values });
        }
        self
    }

    /// Request and limit: one line where they are the same, since the other would lie under it.
    #[must_use]
    pub(super) fn bounds(self, request: Vec<Option<f64>>, limit: Vec<Option<f64>>) -> Self {
        if request == limit {
            return self.mark("request and limit", "limit", limit);
        }
        self.mark("request", "request", request).mark("limit", "limit", limit)
    }

    /// The same request and limit everywhere.
    #[must_use]
    pub(super) fn levels(self, request: Option<f64>, limit: Option<f64>) -> Self {
        let count = self.xs.len();
        self.bounds(vec![request; count], vec![limit; count])
    }

    /// The same everywhere.
    #[must_use]
    pub(super) fn level(self, label: &str, kind: &'static str, value: Option<f64>) -> Self {
        let values = vec![value; self.xs.len()];
        self.mark(label, kind, values)
    }

    /// As the script reads it.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
