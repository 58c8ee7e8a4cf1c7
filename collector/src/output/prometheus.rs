//! Metrics in Prometheus' text format. Made anew for each scrape, so that the series of a job end with it.

use prometheus::{CounterVec, Encoder, GaugeVec, Opts, Registry, TextEncoder};

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of metrics, as one scrape sees them.
#[derive(Debug, Default)]
pub struct Scrape {
    registry: Registry,
}

/// A value of a family: its labels' values, in the family's order.
pub type Labelled<'a> = (Vec<&'a str>, f64);

impl Scrape {
    /// A family of values that only grow.
    pub fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = Labelled<'a>>,
    ) -> prometheus::Result<()> {
        let family = CounterVec::new(Opts::new(name, help), labels)?;
        for (labels, value) in values {
            family.get_metric_with_label_values(&labels)?.inc_by(value.max(0.0));
        }
        self.registry.register(Box::new(family))
    }

    /// A family of values that grow and shrink.
    pub fn gauges<'a>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = Labelled<'a>>,
    ) -> prometheus::Result<()> {
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        for (labels, value) in values {
            family.get_metric_with_label_values(&labels)?.set(value);
        }
        self.registry.register(Box::new(family))
    }

    /// The text.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_any_text_stay_in_their_quotes() {
        let scrape = Scrape::default();
        let values = [(vec!["a\"b\\c\nd"], 1.5), (vec!["ü"], 0.0)];
        scrape.counters("x_seconds_total", "Of all.", &["job"], values).unwrap();
        scrape.gauges("y_bytes", "Now.", &[], [(vec![], 3.0)]).unwrap();
        let expected = "# HELP x_seconds_total Of all.\n# TYPE x_seconds_total counter\n\
            x_seconds_total{job=\"a\\\"b\\\\c\\nd\"} 1.5\nx_seconds_total{job=\"ü\"} 0\n\
            # HELP y_bytes Now.\n# TYPE y_bytes gauge\ny_bytes 3\n";
        assert_eq!(scrape.text().unwrap(), expected);
        assert_eq!(Scrape::default().text().unwrap(), "");
    }
}
