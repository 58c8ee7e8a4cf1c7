//! What identifies a run.

use std::hash::{Hash, Hasher};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use wire::{CiContext, Payload, Scope, Submission, normal_name};

/// What identifies a run of a job to a receiver, and what else the CI system says about it.
///
/// Two are equal if they name the same run, of the same variant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunIdentity {
    /// Organization.
    pub organization: String,
    /// Repository, as `organization/repository`.
    pub repository: String,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Attempt of the run, if the CI system counts attempts.
    pub run_attempt: Option<u32>,
    /// The context, of which only the variant identifies the run.
    #[serde(with = "as_json")]
    pub ci: CiContext,
}

/// A checkpoint's format does not say which fields are there, and the context leaves out what is unknown.
mod as_json {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use wire::CiContext;

    pub(super) fn serialize<S: Serializer>(ci: &CiContext, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(ci).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CiContext, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl PartialEq for RunIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names() && self.ci.variant == other.ci.variant
    }
}

impl Eq for RunIdentity {}

impl Hash for RunIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.names(), &self.ci.variant).hash(state);
    }
}

impl RunIdentity {
    /// Checks and [normalises](normal_name) the names. By default, the organization is the part of the repository before the
    /// first slash.
    pub fn new(
        organization: Option<&str>,
        repository: &str,
        workflow: &str,
        job: &str,
        run_id: &str,
        run_attempt: Option<u32>,
    ) -> Result<Self> {
        let owner = repository.split_once('/').map(|(owner, _)| owner);
        let organization = organization.or(owner).unwrap_or_default();
        let scope = Scope::named(organization, Some(repository), Some(workflow), Some(job))?;
        let run_id = normal_name(run_id);
        ensure!(!run_id.is_empty(), "run_id: is empty");
        let owned = |part: Option<&str>| part.unwrap_or_default().to_owned();
        Ok(Self {
            organization: scope.organization().to_owned(),
            repository: scope.full_repository().unwrap_or_default(),
            workflow: owned(scope.workflow()),
            job: owned(scope.job()),
            run_id,
            run_attempt,
            ci: CiContext::default(),
        })
    }

    fn names(&self) -> ([&str; 5], Option<u32>) {
        let names = [&self.organization, &self.repository, &self.workflow, &self.job, &self.run_id];
        (names.map(String::as_str), self.run_attempt)
    }

    /// Whether a process that names this run can be one of the other run: the names are the same, and the variants are, unless
    /// one of them does not say its variant, as when a runner sets it only for some steps.
    pub fn may_be(&self, other: &Self) -> bool {
        let variants = self.ci.variant.as_ref().zip(other.ci.variant.as_ref());
        self.names() == other.names() && variants.is_none_or(|(one, other)| one == other)
    }

    /// One of the run's summaries, ready to push.
    pub fn submission(
        self,
        summary_id: String,
        seq: u64,
        is_final: bool,
        mut payload: Payload,
    ) -> Submission {
        payload.ci = payload.ci.or_else(|| Some(self.ci).filter(|ci| !ci.is_empty()));
        Submission {
            organization: self.organization,
            repository: self.repository,
            workflow: self.workflow,
            job: self.job,
            run_id: self.run_id,
            run_attempt: self.run_attempt,
            summary_id: Some(summary_id),
            seq: Some(seq),
            is_final: Some(is_final),
            payload,
        }
    }
}
