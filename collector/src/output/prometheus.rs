//! Metrics in Prometheus' text format. Each scrape makes them anew, so that the series of a job end with it.

use std::fmt::Error;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of metrics, as one scrape sees them.
#[derive(Debug, Default)]
pub struct Scrape {
    registry: Registry,
}

/// A value of a family, with the values of its labels in the family's order.
pub type Labelled<'a> = (Vec<&'a str>, f64);

/// The series of one family, in the order in which they are written.
#[derive(Debug)]
struct Family {
    kind: MetricType,
    series: Vec<(Vec<(String, String)>, f64)>,
}

impl EncodeMetric for Family {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        for (labels, value) in &self.series {
            let mut series = encoder.encode_family(labels)?;
            match self.kind {
                MetricType::Counter => series.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                _ => series.encode_gauge(value)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }

    fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl Scrape {
    /// Adds a family of counters. The text format appends `_total` to its name.
    pub fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = Labelled<'a>>,
    ) {
        let values = values.into_iter().map(|(labels, value)| (labels, value.max(0.0)));
        self.add(MetricType::Counter, name, help, labels, values);
    }

    /// Adds a family of gauges.
    pub fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = Labelled<'a>>,
    ) {
        self.add(MetricType::Gauge, name, help, labels, values);
    }

    fn add<'a>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        names: &[&str],
        values: impl IntoIterator<Item = Labelled<'a>>,
    ) {
        let labelled = |labels: Vec<&str>| {
            debug_assert_eq!(labels.len(), names.len(), "{name}");
            names.iter().zip(labels).map(|(name, label)| ((*name).to_owned(), label.to_owned())).collect()
        };
        let series = values.into_iter().map(|(labels, value)| (labelled(labels), value)).collect();
        self.registry.register(name, help, Family { kind, series });
    }

    /// The metrics as text.
    pub fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_text_stay_in_their_quotes() {
        let mut scrape = Scrape::default();
        let values = [(vec!["a\"b\\c\nd"], 1.5), (vec!["ü"], 0.0)];
        scrape.counters("x_seconds", "Of all", &["job"], values);
        scrape.gauges("y_bytes", "Now", &[], [(vec![], 3.0)]);
        scrape.gauges("z", "Nothing", &["job"], []);
        let expected = "# HELP x_seconds_total Of all.\n# TYPE x_seconds_total counter\n\
            x_seconds_total{job=\"a\\\"b\\\\c\\nd\"} 1.5\nx_seconds_total{job=\"ü\"} 0.0\n\
            # HELP y_bytes Now.\n# TYPE y_bytes gauge\ny_bytes 3.0\n";
        assert_eq!(scrape.text().unwrap(), expected);
        assert_eq!(Scrape::default().text().unwrap(), "");
    }
}
