//! The contract between the collector and the receiver, version 1.
//!
//! Types, and in [`rules`] what both programs derive from them. Units are part of field names. A value that is not known is absent,
//! never 0. A reader accepts and keeps fields that it does not know, so that an older receiver loses nothing that a newer
//! collector sends.

mod answers;
mod histogram;
mod names;
mod payload;
pub mod rules;
mod scope;

pub use answers::{
    Change, ComparedCommand, ComparedContainer, ComparedRun, Comparison, ContainerSummary, Group, Presence,
    RunSummary, Source,
};
pub use histogram::CpuHistogram;
pub use names::{MAX_NAME_CHARS, normal_name};
pub use payload::{
    Attribution, Certainty, CollectorInfo, CommandUsage, ContainerUsage, NestedUsage, Payload, PodOverhead,
    ProcessCpu, ProcessMemory, QuantileMethod, Series, Stats,
};
pub use rules::MemoryFigure;
pub use scope::{Scope, ScopeError, name_fault};

use serde::{Deserialize, Serialize};

/// Version of the payload's schema that this crate writes.
pub const SCHEMA_VERSION: u32 = 1;

/// Header of every answer to `GET /api/v1/push-check`: the version of the receiver, by which it is known for one.
pub const RECEIVER_VERSION_HEADER: &str = "receiver-version";

/// The body of `POST /api/v1/metrics`: which run a summary belongs to, which of that run's summaries it is,
/// and the summary.
///
/// `P` is the payload: [`Payload`] for who writes or reads it, the raw JSON for who only stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submission<P = Payload> {
    /// Organization (owner of the repository), for example `my-org`.
    pub organization: String,
    /// Repository, as `my-repo` or as `my-org/my-repo`; see [`Scope::new`].
    pub repository: String,
    /// Workflow, usually its file name.
    pub workflow: String,
    /// Job name.
    pub job: String,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Which attempt at the run this is, from 1; absent where the CI system does not count attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<u32>,
    /// Made once per run by the collector: all summaries of one run share it and end up in one row. Absent
    /// (as from the original's collector) every push is a row of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_id: Option<String>,
    /// Counts the summaries of one run upwards; the highest is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whether this is the run's last summary; absent means yes.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub is_final: Option<bool>,
    /// The summary.
    pub payload: P,
}

/// What `POST /api/v1/metrics` answers with 200 or 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stored {
    /// The row that the run is kept in.
    pub id: i64,
    /// A summary of this run with a higher `seq`, or its final one, was there already; nothing changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// Another collector measured the same containers at the same time: the row was there, and holds the better figures of
    /// both now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
}

/// The body of `POST /api/v1/token`. Later fields left out make a token for everything below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Organization that the token may push for.
    pub organization: String,
    /// Repository; absent: every repository of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Workflow; absent: every workflow of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Job; absent: every job of the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Seconds from now until the token expires; absent: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// What `POST /api/v1/token` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// The push token, to be sent as `Authorization: Bearer …`.
    pub token: String,
    /// When it expires, for one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Option<jiff::Timestamp>,
}

/// One element of what `GET /api/v1/metrics/repo/{org}/{repo}/{workflow}/{job}` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredRun<P = Payload> {
    /// Row.
    pub id: i64,
    /// Organization.
    pub organization: String,
    /// Repository, always as `organization/repository`.
    pub repository: String,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// When the receiver stored this summary, by its own clock; of several the last.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub received_at: jiff::Timestamp,
    /// Who measured it, whoever did best first; empty where the payload does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The summary, as it was pushed; where there is more than one source, the better figures of all.
    pub payload: P,
}

/// An error as the receiver answers it: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What was wrong with this request, and what would be accepted.
    pub detail: String,
    /// The offending field, as a path into the body such as `payload.containers[0].name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
