//! Turns a received summary into what is stored.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use wire::{ContainerSummary, Payload, Scope, Source};

use super::{NewRun, SummaryKey};
use crate::join;

/// A summary as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Which attempt.
    pub run_attempt: Option<u32>,
    /// Identifies the summary: an id that the collector makes once per run, and a sequence number.
    pub summary: Option<SummaryKey>,
    /// Whether it is the collector's last summary.
    pub is_final: bool,
    /// When the summary arrived.
    pub received_at: Timestamp,
    /// SHA-256 of the body, to distinguish a repeat from a conflict.
    pub digest: [u8; 32],
    /// The payload as received.
    pub payload: String,
}

impl NewRun {
    /// Makes a run from a received summary and its parsed payload.
    pub fn new(scope: Scope, received: Received, payload: &Payload) -> Self {
        let summary = received.summary.as_ref().map(|key| (key.summary_id.as_str(), key.seq));
        let sources = Source::of(payload, summary, received.is_final).into_iter().collect();
        // A summary without a sequence number replaces no other summary and is joined to none.
        let places = summary.map(|_| places(payload)).unwrap_or_default();
        Self {
            scope,
            run_id: received.run_id,
            run_attempt: received.run_attempt,
            summary: received.summary,
            is_final: received.is_final,
            complete: payload.complete,
            start_time: payload.start_time,
            end_time: payload.end_time,
            duration_seconds: payload.duration_seconds,
            ci: payload.ci.clone(),
            cpu_seconds: payload.attribution.as_ref().map(|attribution| attribution.cpu_seconds),
            received_at: received.received_at,
            digest: received.digest,
            containers: payload
                .containers
                .iter()
                .map(|usage| ContainerSummary::new(usage, payload.collector.as_ref()))
                .collect(),
            payload: received.payload,
            sources,
            places,
        }
    }

    /// Makes a run from several joined summaries. `payload` is their joined payload, as text.
    pub(super) fn joined(
        scope: Scope,
        joined: join::Joined,
        payload: String,
        received_at: Timestamp,
        places: Vec<Place>,
    ) -> Self {
        let received = Received {
            run_id: joined.run_id,
            run_attempt: joined.run_attempt,
            summary: None,
            is_final: joined.is_final,
            received_at,
            digest: Sha256::digest(&payload).into(),
            payload,
        };
        Self { sources: joined.sources, places, ..Self::new(scope, received, &joined.payload) }
    }
}

/// A hashed key of what a summary measured, to find related summaries. A number instead of a text keeps the index
/// small. A collision only means that one more row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Key of what this kind of collector measured.
    pub key: i64,
    /// Key of what the other kind measured: two summaries of the same kind are never joined.
    pub other: i64,
}

pub(super) fn places(payload: &Payload) -> Vec<Place> {
    let number = |mode: &str, place: &str| {
        let digest: [u8; 32] = Sha256::digest(format!("{mode} {place}")).into();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | i64::from(*byte))
    };
    let is_node = payload.collector.as_ref().is_some_and(|collector| collector.mode == "node");
    let (mode, other) = if is_node { ("node", "sidecar") } else { ("sidecar", "node") };
    let place = |place| Place { key: number(mode, place), other: number(other, place) };
    join::places(payload).into_iter().map(place).collect()
}
