//! Made-up histories that are hard for a rule, the same each time.

use jiff::Timestamp;
use receiver::store::CompleteRun;
use wire::{ContainerSummary, CpuHistogram};

use super::{History, MIB, Past};

/// Hours between two runs: six a day.
const HOURS: f64 = 4.0;
const RUNS: usize = 60;

/// Numbers that look random, from 0 to 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number around 1, at most `spread` away.
    fn around(&mut self, spread: f64) -> f64 {
        1.0 + spread * (2.0 * self.next() - 1.0)
    }
}

/// The need of each run of a history, and the limit that it was recorded under.
type Course = fn(at: usize, noise: &mut Noise) -> (f64, Option<f64>);

/// All made-up histories.
pub fn synthetic() -> Vec<History> {
    let courses: [(&str, Course); 13] = [
        ("steady", |_, noise| (600.0 * noise.around(0.02), None)),
        ("noisy", |_, noise| (600.0 * noise.around(0.3), None)),
        ("small, 40 MiB", |_, noise| (40.0 * noise.around(0.05), None)),
        ("bimodal, 3 of 10", |_, noise| {
            (if noise.next() < 0.3 { 1600.0 } else { 500.0 } * noise.around(0.03), None)
        }),
        ("bimodal, 1 of 12", |at, noise| {
            (if at % 12 == 5 { 1600.0 } else { 500.0 } * noise.around(0.03), None)
        }),
        ("grows 2 % a run", |at, noise| (300.0 * 1.02_f64.powi(at as i32) * noise.around(0.005), None)),
        ("grows 18 % a run", |at, noise| {
            (300.0 * 1.18_f64.powi(at.min(14) as i32) * noise.around(0.01), None)
        }),
        ("shrank to 40 %", |at, noise| (if at < 20 { 1500.0 } else { 600.0 } * noise.around(0.03), None)),
        ("one outlier", |at, noise| (if at == 10 { 2400.0 } else { 600.0 } * noise.around(0.03), None)),
        ("outlier, and again", |at, noise| {
            (if [10, 24].contains(&at) { 2400.0 } else { 600.0 } * noise.around(0.03), None)
        }),
        ("outlier every 30", |at, noise| {
            (if at % 30 == 8 { 1800.0 } else { 600.0 } * noise.around(0.03), None)
        }),
        // The limit is raised by a fifth every three runs, and the job fails until the limit is sufficient.
        ("OOM loop", |at, noise| {
            (1200.0 * noise.around(0.02), Some(512.0 * 1.2_f64.powi((at / 3).min(5) as i32)))
        }),
        ("at its limit", |at, noise| {
            (if at % 9 == 8 { 1100.0 } else { 1005.0 } * noise.around(0.01), Some(1024.0))
        }),
    ];
    courses
        .into_iter()
        .enumerate()
        .map(|(seed, (name, course))| history(name, seed as u64 + 1, course))
        .collect()
}

fn history(name: &str, seed: u64, course: Course) -> History {
    let mut noise = Noise(seed);
    let runs = (0..RUNS).map(|at| {
        let (need_mib, limit_mib) = course(at, &mut noise);
        let need_bytes = need_mib * MIB;
        let limit = limit_mib.map(|limit| limit * MIB);
        let killed = limit.is_some_and(|limit| need_bytes > limit);
        let peak = limit.map_or(need_bytes, |limit| need_bytes.min(limit));
        let facts = ContainerSummary {
            name: "job".to_owned(),
            memory_peak_bytes: peak,
            working_set_peak_bytes: Some(peak),
            memory_limit_bytes: limit.map(|limit| limit as u64),
            oom_kills: Some(u64::from(killed)),
            ..cpu(&mut noise)
        };
        let at_hours = at as f64 * HOURS;
        let run = CompleteRun {
            failed: false,
            id: at as i64 + 1,
            job_id: 1,
            run_id: at.to_string(),
            duration_seconds: 300.0,
            cpu_seconds: None,
            received_at: Timestamp::from_second((at_hours * 3600.0) as i64).unwrap_or_default(),
            containers: vec![facts],
        };
        Past { run, need_bytes, at_hours }
    });
    History { name: name.to_owned(), runs: runs.collect() }
}

/// A build: waiting, compiling, and linking, which takes longer in some runs.
fn cpu(noise: &mut Noise) -> ContainerSummary {
    let mut histogram = CpuHistogram::default();
    let (scale, linking) = (noise.around(0.2), 0.1 * noise.next());
    let mut peak = 0.0_f64;
    for second in 0..300 {
        let share = f64::from(second) / 300.0;
        let cores = if share < linking {
            3.0
        } else if share < 0.3 {
            0.2
        } else {
            1.5
        };
        let cores = cores * scale * noise.around(0.1);
        peak = peak.max(cores);
        histogram.add(cores, 1.0);
    }
    ContainerSummary {
        cpu_peak_cores: peak,
        cpu_p95_cores: histogram.quantile(0.95),
        cpu_cores_histogram: Some(histogram),
        ..ContainerSummary::default()
    }
}
