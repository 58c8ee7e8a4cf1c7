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
                info!(keys, "secrets reloaded");
            }
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "cannot reload the secrets on SIGHUP; the old ones stay valid"
                );
            }
        }
        match tls.as_ref().map(|tls| tls.reload()) {
            None => {}
            Some(Ok(())) => info!("certificate reloaded"),
            Some(Err(error)) => {
                error!(
                    error = format!("{error:#}"),
                    "cannot reload the certificate on SIGHUP; the old one stays in use"
                );
            }
        }
    }
}
