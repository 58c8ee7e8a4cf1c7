//! Checks whether a summary could be pushed before there is one, so that a wrong address or token is reported before the
//! build is over.

use std::sync::PoisonError;

use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use serde_json::from_slice;
use tokio::time::timeout;
use tracing::{debug, warn};
use wire::Problem;

use super::{ATTEMPT_TIMEOUT, Pusher, RECEIVER, Whose, read_limited, reason, redirect, shown, trouble};
use crate::config::PUSH_PATH;
use crate::run_identity::RunIdentity;

/// Path of the check, in place of [`PUSH_PATH`].
const CHECK_PATH: &str = "/api/v1/push-check";

/// Result of the check.
enum Verdict {
    Welcome,
    /// Why a push would fail now.
    Wrong(String),
    /// Why the receiver cannot be asked now; it may be there later.
    Unreachable(String),
}

impl Pusher {
    /// Asks the receiver whether it would take summaries of this run, and warns if not. It asks once: a receiver that does
    /// not answer may be there later.
    pub async fn check(&self, run: &RunIdentity) {
        // At another path, something unknown may answer.
        let mut address = self.target.endpoint.clone();
        let Some(prefix) = address.path().strip_suffix(PUSH_PATH).map(ToOwned::to_owned) else { return };
        address.set_path(&format!("{prefix}{CHECK_PATH}"));
        let parts = [
            ("organization", &run.organization),
            ("repository", &run.repository),
            ("workflow", &run.workflow),
            ("job", &run.job),
        ];
        address.query_pairs_mut().extend_pairs(parts);
        let endpoint = shown(&self.target.endpoint);
        match timeout(ATTEMPT_TIMEOUT, self.ask(address, run)).await {
            Ok(Verdict::Welcome) => debug!(endpoint, "the receiver will accept the summary"),
            Ok(Verdict::Wrong(why)) => warn!(endpoint, why, "the summary will not be accepted"),
            Ok(Verdict::Unreachable(why)) => self.warn_unreachable(&endpoint, &why),
            Err(_) => self.warn_unreachable(&endpoint, "it does not answer"),
        }
    }

    fn warn_unreachable(&self, endpoint: &str, why: &str) {
        why.clone_into(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        if self.tells(RECEIVER) {
            warn!(endpoint, why, "the receiver cannot be reached; it is tried again with each summary");
        }
    }

    async fn ask(&self, address: url::Url, run: &RunIdentity) -> Verdict {
        let whose = Whose {
            organization: run.organization.clone(),
            repository: run.repository.clone(),
            workflow: run.workflow.clone(),
            job: run.job.clone(),
        };
        let Some(token) = self.tokens.of(&whose) else {
            return Verdict::Wrong("there is no push token for its organization".to_owned());
        };
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return Verdict::Wrong(error),
        };
        let request = client.get(address).header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Verdict::Unreachable(trouble::sentence(&error, &self.target.endpoint)),
        };
        let status = response.status();
        let redirect = redirect(&response);
        let answer = read_limited(&mut response).await.unwrap_or_default();
        let of_receiver = from_slice::<Problem>(&answer).is_ok();
        match status {
            StatusCode::NO_CONTENT => Verdict::Welcome,
            _ if redirect.is_some() || of_receiver && status != StatusCode::NOT_FOUND => {
                let reason = reason(status, redirect.as_deref(), &answer);
                if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                    self.hold(status, &whose, token, reason.clone());
                }
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                    Verdict::Unreachable(reason)
                } else {
                    Verdict::Wrong(reason)
                }
            }
            _ if status.is_server_error() => Verdict::Unreachable(reason(status, None, &answer)),
            _ => Verdict::Wrong(format!(
                "the server there is not a receiver ({})",
                reason(status, None, &answer)
            )),
        }
    }
}
