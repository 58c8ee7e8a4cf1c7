//! The contract between the collector and the receiver, version 1.
//!
//! It defines the types, and in [`rules`] what both programs derive from them. Units are part of field names. An unknown value
//! is absent, never 0. A reader accepts and keeps unknown fields, so that an older receiver loses nothing that a newer collector
//! sends.

mod answers;
mod ci;
mod histogram;
mod names;
mod payload;
pub mod rules;
mod scope;

pub use answers::{
    Change, ComparedCommand, ComparedContainer, ComparedRun, Comparison, ContainerSummary, Group, Presence,
    RunSummary, Source,
};
pub use ci::{CiContext, MAX_URL_BYTES, RunResult, normal_variant, url_fault};
pub use histogram::CpuHistogram;
pub use names::{MAX_NAME_CHARS, normal_name};
pub use payload::{
    Attribution, Certainty, CollectorInfo, CommandUsage, ContainerUsage, NestedUsage, Payload, PodOverhead,
    PodUsage, ProcessCpu, ProcessMemory, QuantileMethod, Series, Stats, StepUsage,
};
pub use rules::MemoryFigure;
pub use scope::{Scope, ScopeError, name_fault};

use serde::{Deserialize, Serialize};

/// Version of the payload's schema that this crate writes.
pub const SCHEMA_VERSION: u32 = 1;

/// Header of every answer to `GET /api/v1/push-check`: the receiver's version. It shows that the server is a receiver.
pub const RECEIVER_VERSION_HEADER: &str = "receiver-version";

/// The body of `POST /api/v1/metrics`: which run a summary belongs to, which of that run's summaries it is,
/// and the summary.
///
/// `P` is the payload: [`Payload`] to write or read it, raw JSON to only store it.
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
    /// Attempt of the run, from 1; absent if the CI system does not count attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<u32>,
    /// The collector makes it once per run: all summaries of a run share it and end up in one row. If it is absent (as from the
    /// original's collector), every push makes a new row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_id: Option<String>,
    /// Ascending number of the summary within its run; the highest is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whether this is the run's last summary; absent means yes.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub is_final: Option<bool>,
    /// The summary.
    pub payload: P,
}

/// The answer of `POST /api/v1/metrics` with 200 or 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stored {
    /// Id of the stored run.
    pub id: i64,
    /// A summary of this run with a higher `seq`, or its final one, was already stored; nothing changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// Another collector measured the same containers at the same time. Its row now holds the better figures of both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
}

/// The body of `POST /api/v1/token`. If later fields are left out, the token is for everything below the given ones.
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
    /// Seconds from now until the token expires; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// The answer of `POST /api/v1/token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// The push token, to be sent as `Authorization: Bearer …`.
    pub token: String,
    /// When it expires; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Option<jiff::Timestamp>,
}

/// One element of the answer of `GET /api/v1/metrics/repo/{org}/{repo}/{workflow}/{job}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredRun<P = Payload> {
    /// Id of the run.
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
    /// When the receiver stored the last summary of this run, by its own clock.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub received_at: jiff::Timestamp,
    /// The collectors that measured it, best first; empty if the payload does not name one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The summary as it was pushed; with more than one source, the better figures of all.
    pub payload: P,
}

/// An error answer of the receiver: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Kind of problem; `about:blank` if the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What was wrong with this request, and what would be accepted.
    pub detail: String,
    /// The invalid field, as a path into the body such as `payload.containers[0].name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
