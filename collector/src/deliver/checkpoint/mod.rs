//! The run so far, in a file that a killed collector leaves behind.
//!
//! The file holds `rrc-run\n`, the version (u32), frames (the length as u32, then a value in postcard format), a frame of
//! length 0, and the CRC-32 of everything before it. Numbers are little-endian. The first frame is the [`Head`], the second
//! the accumulator without its containers, and each other frame one container, so that a writer never holds more than one
//! of them twice. The layout follows these types: a reader does not guess at another version's.

use std::collections::BTreeMap;
use std::time::Duration;

use crc32fast::Hasher;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::{CollectorInfo, Payload, Submission};

use crate::accumulate::{Accumulator, ContainerRun};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, SavedContainers};
use crate::config::MAX_TOP;
use crate::config::limits::Limits;
use crate::config::process_map::ProcessMap;
use crate::run_identity::RunIdentity;
use crate::sample::cgroupfs::SavedReadings;
use crate::summarise::{CgroupFigures, Run};

const MAGIC: &[u8; 8] = b"rrc-run\n";
/// The version that this collector writes and reads.
pub const VERSION: u32 = 3;
/// Larger than any checkpoint within the accumulator's limits.
pub const MAX_BYTES: u64 = 256 << 20;

/// Everything but the samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// The run's identity.
    pub run: RunIdentity,
    /// `sidecar`, `run` or `node`.
    pub mode: String,
    /// `/proc/sys/kernel/random/boot_id`: process starts and the boot clock are valid only within one boot.
    pub boot_id: Option<String>,
    /// Id of the run's row.
    pub summary_id: String,
    /// Number of the next summary.
    pub next_seq: u64,
    /// Whether the run had been recovered before.
    pub recovered: bool,
    /// When this was written, by the boot clock.
    pub written: Duration,
    /// When measuring began, by the wall clock.
    pub start_time: Timestamp,
    /// When measuring began, by the boot clock.
    pub started: Duration,
    /// The same, in clock ticks since boot.
    pub began_ticks: u64,
    /// From `started` to the last pass.
    pub duration: Duration,
    /// How many processes of each kind to report.
    pub top: usize,
    /// Passes that were due and did not happen.
    pub missed_samples: u64,
    /// Records that were lost.
    pub lost_records: u64,
    /// CPU time of the collector itself.
    pub collector_cpu: Duration,
    /// `CGROUP_LIMITS`.
    pub limits: BTreeMap<String, Limits>,
    /// [`CollectorInfo`] as JSON: its absent fields have no place in a format without names.
    pub collector: String,
    /// The containers.
    pub containers: SavedContainers,
    /// The readings of their cgroups.
    pub cgroups: BTreeMap<ContainerIndex, SavedReadings>,
}

/// Why a file is not a usable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It does not begin as a checkpoint.
    #[error("it is not a checkpoint")]
    Foreign,
    /// Another version wrote it.
    #[error("it has version {0}, this collector reads version {VERSION}")]
    Version(u32),
    /// It ends too soon, or some of its bits have changed.
    #[error("it is truncated or corrupt: {0}")]
    Corrupt(&'static str),
    /// It is complete, but no run can have such values.
    #[error("it contains impossible values: {0}")]
    Unsound(&'static str),
}

/// A checkpoint that was read.
#[derive(Debug)]
pub struct Checkpoint {
    /// Everything but the samples.
    pub head: Head,
    /// The collector that measured.
    pub collector: CollectorInfo,
    /// The samples.
    pub accumulator: Accumulator,
}

/// Writes a checkpoint block by block; the accumulator must not change meanwhile.
#[derive(Debug)]
pub struct Encoder {
    crc: Hasher,
    last: Option<ContainerIndex>,
    done: bool,
}

impl Encoder {
    /// Starts a checkpoint; the block is the file's first.
    pub fn begin(head: &Head, accumulator: &Accumulator) -> postcard::Result<(Self, Vec<u8>)> {
        let mut block = MAGIC.to_vec();
        block.extend(VERSION.to_le_bytes());
        frame(&mut block, head)?;
        frame(&mut block, accumulator)?;
        let mut crc = Hasher::new();
        crc.update(&block);
        Ok((Self { crc, last: None, done: false }, block))
    }

    /// The next block; `None` after the last.
    pub fn next(&mut self, accumulator: &Accumulator) -> postcard::Result<Option<Vec<u8>>> {
        if self.done {
            return Ok(None);
        }
        let mut block = Vec::new();
        if let Some((index, run)) = accumulator.container_after(self.last) {
            frame(&mut block, &(index, run))?;
            self.crc.update(&block);
            self.last = Some(index);
        } else {
            block.extend(0u32.to_le_bytes());
            self.crc.update(&block);
            block.extend(self.crc.clone().finalize().to_le_bytes());
            self.done = true;
        }
        Ok(Some(block))
    }
}

/// The checksum at a checkpoint's end.
pub fn checksum(content: &[u8]) -> u32 {
    crc32fast::hash(content)
}

fn frame(block: &mut Vec<u8>, value: &impl Serialize) -> postcard::Result<()> {
    let begin = block.len();
    block.extend([0; 4]);
    *block = postcard::to_extend(value, std::mem::take(block))?;
    let length = u32::try_from(block.len() - begin - 4).map_err(|_| postcard::Error::SerializeBufferFull)?;
    block[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

impl Checkpoint {
    /// Reads what [`Encoder`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        use CheckpointError::{Corrupt, Foreign, Unsound, Version};
        let rest = bytes.strip_prefix(MAGIC).ok_or(Foreign)?;
        let (version, _) = rest.split_first_chunk().ok_or(Corrupt("no version"))?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(Version(version));
        }
        let (content, crc) = bytes.split_last_chunk().ok_or(Corrupt("no checksum"))?;
        if checksum(content) != u32::from_le_bytes(*crc) {
            return Err(Corrupt("the checksum is another"));
        }
        let mut frames = Frames(content.get(MAGIC.len() + 4..).ok_or(Corrupt("no version"))?);
        let head: Head = frames.value()?.ok_or(Corrupt("no head"))?;
        let mut accumulator: Accumulator = frames.value()?.ok_or(Corrupt("no totals"))?;
        while let Some((index, run)) = frames.value::<(ContainerIndex, ContainerRun)>()? {
            if !accumulator.restore(index, run) {
                return Err(Unsound("a container"));
            }
        }
        let collector = serde_json::from_str(&head.collector).map_err(|_| Unsound("the collector"))?;
        let checkpoint = Self { head, collector, accumulator };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<(), CheckpointError> {
        use CheckpointError::Unsound;
        let head = &self.head;
        let mut containers = Containers::new(ProcessMap::default(), false);
        if !containers.restore(head.containers.clone()) {
            return Err(Unsound("the containers"));
        }
        let (len, nested) = (containers.len() as u32, containers.nested_len() as u32);
        if !self.accumulator.is_sound(len, nested) {
            return Err(Unsound("the samples"));
        }
        let limits = head.limits.values().flat_map(|limits| [limits.cpu_cores, limits.requests.cpu_cores]);
        let cgroups = head.cgroups.values().flat_map(|saved| [&saved.first, &saved.last]);
        let cgroups = cgroups.flat_map(|reading| [reading.cpu_limit_cores, reading.bounds.cpu_cores]);
        let cores = limits.chain(cgroups);
        if !cores.flatten().all(f64::is_finite) || head.cgroups.keys().any(|index| index.0 >= len) {
            return Err(Unsound("a limit"));
        }
        if uuid::Uuid::parse_str(&head.summary_id).is_err() || head.next_seq > i64::MAX as u64 / 2 {
            return Err(Unsound("the summary's id or number"));
        }
        let day = Duration::from_hours(24);
        if head.duration > 10_000 * day || head.collector_cpu > 10_000 * day || head.top > MAX_TOP {
            return Err(Unsound("a duration"));
        }
        Ok(())
    }

    /// The summary of the run as it was at that time.
    pub fn payload(&self) -> Payload {
        let head = &self.head;
        let mut containers = Containers::new(ProcessMap::default(), false);
        let sound = containers.restore(head.containers.clone());
        debug_assert!(sound, "it was checked when it was read");
        let figures = head.cgroups.iter().map(|(index, saved)| (*index, CgroupFigures::of(saved))).collect();
        let run = Run {
            accumulator: &self.accumulator,
            containers: &containers,
            cgroups: figures,
            limits: &head.limits,
            collector: self.collector.clone(),
            start_time: head.start_time,
            duration: head.duration,
            top: head.top,
            missed_samples: head.missed_samples,
            lost_records: head.lost_records,
            collector_cpu: head.collector_cpu,
            complete: false,
        };
        run.payload()
    }

    /// The last summary of a run that no collector continues.
    ///
    /// If an interim summary has been pushed since, its number is the same or higher, and the receiver keeps it.
    pub fn into_submission(self) -> Submission {
        let payload = self.payload();
        let Head { run, summary_id, next_seq, .. } = self.head;
        run.submission(summary_id, next_seq, true, payload)
    }
}

/// The remaining frames.
struct Frames<'a>(&'a [u8]);

impl Frames<'_> {
    /// The value of the next frame; `None` after the last.
    fn value<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, CheckpointError> {
        let corrupt = || CheckpointError::Corrupt("a frame is cut off");
        let (length, rest) = self.0.split_first_chunk().ok_or_else(corrupt)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Ok(None);
        }
        let (content, rest) = rest.split_at_checked(length).ok_or_else(corrupt)?;
        self.0 = rest;
        match postcard::take_from_bytes(content) {
            Ok((value, [])) => Ok(Some(value)),
            _ => Err(CheckpointError::Corrupt("a frame is not what it should be")),
        }
    }
}

#[cfg(test)]
mod tests;
