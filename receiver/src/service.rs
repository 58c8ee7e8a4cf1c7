//! The service from its start until it is stopped by a signal.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::api::state::AppState;
use crate::config::Config;
use crate::store::Store;
use crate::tls::Tls;
use crate::{app, reload, retention, serve, sizing};

/// Serves until SIGINT or SIGTERM.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(listen(config))
}

async fn listen(config: Config) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let hangup = signal(SignalKind::hangup())?;
    let tls = config.tls.map(|(certificate, key)| Tls::load(certificate, key)).transpose()?.map(Arc::new);
    let db = config.db.display().to_string();
    let (store, closer) = Store::open(&config.db).map_err(|error| anyhow!("{db}: {error}"))?;
    let listener = serve::bind(&config.addresses).await?;
    info!(address = %listener.local_addr()?, db, tls = tls.is_some(), "listening");
    let mut state = AppState::new(store, config.secrets, config.max_body, config.body_timeout);
    state.page = config.page;
    let state = Arc::new(state);
    let refreshing = tokio::spawn(sizing::background::refresh(state.store.clone()));
    let reloading = tokio::spawn(reload::on(hangup, Arc::clone(&state), config.sources, tls.clone()));
    let deleting = config.retention.is_needed().then(|| {
        let (store, metrics) = (state.store.clone(), Arc::clone(&state.metrics));
        tokio::spawn(retention::run(store, metrics, config.retention))
    });
    let stop = async move {
        let signal = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!(signal, "stopping: finishing the requests in flight, accepting no new ones");
    };
    let options =
        serve::Options { tls, header_timeout: config.header_timeout, grace: config.shutdown_timeout };
    serve::serve(listener, app::app(state), stop, options).await;
    // These tasks hold the database open.
    for task in [Some(reloading), Some(refreshing), deleting].into_iter().flatten() {
        task.abort();
        let _ = task.await;
    }
    tokio::task::spawn_blocking(|| closer.close()).await?;
    info!("stopped");
    Ok(())
}
