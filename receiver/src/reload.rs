//! SIGHUP: reads the secrets and the certificate again without interrupting requests.

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tracing::{error, info};

use crate::api::state::AppState;
use crate::config::Sources;
use crate::tls::Tls;

/// Reads the secrets and the certificate again on each signal. What cannot be read stays as it was.
pub async fn on(mut hangup: Signal, state: Arc<AppState>, sources: Sources, tls: Option<Arc<Tls>>) {
    while hangup.recv().await.is_some() {
        match sources.load() {
            Ok(secrets) => {
                let keys = secrets.key_count();
                state.access.replace(secrets);
                info!(keys, "secrets were read again");
            }
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "the secrets stay as they were; SIGHUP asked for others"
                );
            }
        }
        match tls.as_ref().map(|tls| tls.reload()) {
            None => {}
            Some(Ok(())) => info!("the certificate was read again"),
            Some(Err(error)) => {
                error!(
                    error = format!("{error:#}"),
                    "the certificate stays as it was; SIGHUP asked for another"
                );
            }
        }
    }
}
