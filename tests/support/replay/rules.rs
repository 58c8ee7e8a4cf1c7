//! Rules, as published by their authors.

use receiver::sizing::parameters::SizingParameters;
use receiver::sizing::recommend;
use receiver::store::CompleteRun;
use wire::CpuHistogram;

use super::{MIB, Past, cpu, peak};

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// This project's rule: the target, before the current request is taken into account.
    Ours,
    /// krr's `simple` strategy (`strategies/simple.py`, `config.py`).
    Krr,
    /// The Vertical Pod Autoscaler's target (`docs/flags.md`, `logic/recommender.go`, `model/aggregations_config.go`).
    Vpa,
}

/// A rule's recommendation.
#[derive(Debug, Clone, Copy)]
pub struct Recommended {
    /// Memory limit, in bytes.
    pub bytes: f64,
    /// CPU request, in cores.
    pub cores: f64,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::Ours, Self::Krr, Self::Vpa];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Krr => "krr",
            Self::Vpa => "VPA",
        }
    }

    /// Recommends from these runs, oldest first.
    pub fn recommend(self, past: &[Past]) -> Recommended {
        match self {
            Self::Ours => ours(past),
            Self::Krr => krr(past),
            Self::Vpa => vpa(past),
        }
    }
}

fn ours(past: &[Past]) -> Recommended {
    let parameters = SizingParameters::default();
    let runs: Vec<CompleteRun> =
        past.iter().rev().take(parameters.runs as usize).map(|past| past.run.clone()).collect();
    let sizing = &recommend(&runs, &[], &parameters)[0];
    let none = Recommended { bytes: f64::NAN, cores: f64::NAN };
    sizing
        .memory
        .target_bytes
        .zip(sizing.cpu.target_cores)
        .map_or(none, |(bytes, cores)| Recommended { bytes: bytes as f64, cores })
}

/// Two weeks of history. Memory: the highest peak + 15 %, OOM kills ignored by default, at least 100 MiB. CPU: the highest of
/// the pods' 95th percentiles, at least 10 m.
fn krr(past: &[Past]) -> Recommended {
    let now = past.last().map_or(0.0, |past| past.at_hours);
    let those = || past.iter().filter(|past| now - past.at_hours <= 14.0 * 24.0);
    let highest = those().map(|past| peak(&past.run.containers[0])).fold(0.0, f64::max);
    let p95 = those().filter_map(|past| cpu(past).quantile(0.95)).fold(0.0, f64::max);
    Recommended { bytes: ((highest * 1.15) / MIB).ceil().max(100.0) * MIB, cores: p95.max(0.01) }
}

/// Eight days of history with weights that halve each day. The 90th percentile of peaks, or of CPU samples, + 15 %, in buckets
/// that grow by 5 %. An OOM kill counts as a peak that is a fifth or 100 MiB higher. At least 250 MiB and 25 m.
fn vpa(past: &[Past]) -> Recommended {
    const FIRST_BYTES: f64 = 1e7;
    let now = past.last().map_or(0.0, |past| past.at_hours);
    let mut peaks: Vec<(f64, f64)> = Vec::new();
    let mut samples = CpuHistogram::default();
    for past in past.iter().filter(|past| now - past.at_hours <= 8.0 * 24.0) {
        let weight = ((past.at_hours - now) / 24.0).exp2();
        let facts = &past.run.containers[0];
        peaks.push((peak(facts), weight));
        if facts.oom_kills.is_some_and(|kills| kills > 0) {
            let limit = facts.memory_limit_bytes.map_or(peak(facts), |limit| limit as f64);
            peaks.push(((limit * 1.2).max(limit + 100.0 * MIB), weight));
        }
        for &(bucket, seconds) in cpu(past).buckets() {
            samples.add(CpuHistogram::end_of(bucket), seconds * weight);
        }
    }
    peaks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let threshold = 0.9 * peaks.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut passed = 0.0;
    let found = peaks.iter().find(|(_, weight)| {
        passed += weight;
        passed >= threshold - 1e-9
    });
    // The end of the percentile's bucket.
    let p90 = found.or(peaks.last()).map_or(0.0, |(bytes, _)| {
        let bucket = ((bytes * 0.05 / FIRST_BYTES + 1.0).ln() / 1.05_f64.ln()).floor();
        FIRST_BYTES * (1.05_f64.powf(bucket + 1.0) - 1.0) / 0.05
    });
    Recommended {
        bytes: (p90 * 1.15).max(250.0 * MIB),
        cores: (samples.quantile(0.9).unwrap_or(0.0) * 1.15).max(0.025),
    }
}
