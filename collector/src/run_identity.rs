//! What identifies a run.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use wire::{Payload, Scope, Submission, normal_name};

/// What identifies a run of a job to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        })
    }

    /// One of the run's summaries, ready to push.
    pub fn submission(self, summary_id: String, seq: u64, is_final: bool, payload: Payload) -> Submission {
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
