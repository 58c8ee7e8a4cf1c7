//! From one collector to the next: what a checkpoint takes, and what it gives back.

use std::time::Duration;

use super::Measurement;
use crate::accumulate::Accumulator;
use crate::config::RunIdentity;
use crate::deliver::checkpoint::{Checkpoint, Head};
use crate::host::{self, Instant};
use crate::mode::outbox::Measured;
use crate::mode::trace::Trace;
use crate::sample::boot_id;
use crate::summarise::Run;

/// What a collector that was killed had counted of this run.
#[derive(Debug, Default)]
pub(super) struct Before {
    lost_records: u64,
    collector_cpu: Duration,
}

impl Measurement {
    /// Takes over what a collector that was killed had measured of this run.
    pub(super) fn go_on_from(&mut self, checkpoint: Checkpoint) -> anyhow::Result<()> {
        let Checkpoint { head, accumulator, .. } = checkpoint;
        anyhow::ensure!(
            self.containers.restore(head.containers),
            "the containers of the checkpoint cannot be"
        );
        self.accumulator = accumulator;
        self.resumed = true;
        self.cgroups.restore(head.cgroups);
        let gap = self.started.boot.saturating_sub(head.started + head.duration);
        self.missed_samples = head.missed_samples + (gap.as_secs_f64() / self.info.interval_seconds) as u64;
        self.start_time = head.start_time;
        self.started.boot = head.started;
        self.began_ticks = head.began_ticks;
        self.before = Before { lost_records: head.lost_records, collector_cpu: head.collector_cpu };
        Ok(())
    }

    pub(super) fn lost_records(&self) -> u64 {
        self.before.lost_records + self.trace.as_ref().map_or(0, Trace::lost)
    }

    pub(super) fn collector_cpu(&self) -> Duration {
        self.before.collector_cpu + host::own_cpu_time()
    }
}

impl Measured for Measurement {
    fn head(&self, run: RunIdentity, summary_id: String, next_seq: u64, recovered: bool) -> Head {
        Head {
            run,
            mode: self.info.mode.clone(),
            boot_id: boot_id::read(),
            summary_id,
            next_seq,
            recovered,
            written: Instant::now().boot,
            start_time: self.start_time,
            started: self.started.boot,
            began_ticks: self.began_ticks,
            duration: self.since_start(self.last.unwrap_or(self.started)),
            top: self.top,
            missed_samples: self.missed_samples,
            lost_records: self.lost_records(),
            collector_cpu: self.collector_cpu(),
            limits: self.limits.clone(),
            // Numbers and texts: nothing in it can fail to be JSON.
            collector: serde_json::to_string(&self.info).unwrap_or_default(),
            containers: self.containers.keep(),
            cgroups: self.cgroups.readings(),
        }
    }

    fn accumulator(&self) -> &Accumulator {
        &self.accumulator
    }

    fn with_run<T>(&self, complete: bool, work: impl FnOnce(Run<'_>) -> T) -> T {
        Self::with_run(self, complete, work)
    }
}
