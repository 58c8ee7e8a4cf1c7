//! The receiver: stores what CI jobs used and answers questions about it. See `receiver --help`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use program::{arguments, log, stream};
use receiver::api::state::AppState;
use receiver::args::{Args, Command, HealthArgs, TokenArgs};
use receiver::auth::TokenKey;
use receiver::config::{self, Config, hmac_key};
use receiver::store::{Store, copy};
use receiver::tls::Tls;
use receiver::{app, auth, health, process, reload, retention, serve, sizing};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use wire::Scope;

const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let hidden = process::hide();
    process::outlive_file_limits();
    let arguments::Parsed { args, sources, .. } = arguments::parse::<Args>(|_| false);
    // SAFETY: nothing was started yet.
    unsafe { process::forget_variables() };
    let failed = |error| (error, 1);
    let result = match &args.command {
        Some(Command::Token(token)) => make_token(token)
            .map_err(|error| (error, EXIT_CONFIG))
            .and_then(|token| say(&token).map_err(failed)),
        Some(Command::Health(args)) => ask(args).map_err(failed),
        // The copy is there whether or not anybody reads that it is.
        Some(Command::Backup(args)) => copy::backup(&args.db, &args.file)
            .map(|told| say(&told).unwrap_or_else(|_| stream::tell(&told)))
            .map_err(failed),
        Some(Command::Check(args)) => copy::check(&args.file).and_then(|told| say(&told)).map_err(failed),
        None => match Config::from_args(&args.serve) {
            Ok(config) => {
                let level = args.serve.log_level;
                // Until it has ended: a request waits for nobody who reads the log.
                let _log = log::init_queued(level, args.serve.log_format, &[("receiver", level.into())]);
                process::log_panics();
                process::warn_of_arguments(&sources);
                hidden.context("cannot hide from other processes").and_then(|()| run(config)).map_err(failed)
            }
            Err(error) => Err((error, EXIT_CONFIG)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            stream::tell(&format!("receiver: {error:#}"));
            ExitCode::from(code)
        }
    }
}

/// Writes what was asked for to standard output: who does not get it is told so.
fn say(result: &str) -> Result<()> {
    let written = stream::write(&mut std::io::stdout(), format!("{result}\n").as_bytes());
    written.context("the result could not be written to standard output")
}

fn run(config: Config) -> Result<()> {
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
    let refreshing = tokio::spawn(sizing::refresh::refresh(state.store.clone()));
    let reloading = tokio::spawn(reload::on(hangup, Arc::clone(&state), config.sources, tls.clone()));
    let deleting = config.retention.is_needed().then(|| {
        tokio::spawn(retention::run(state.store.clone(), Arc::clone(&state.metrics), config.retention))
    });
    let stop = async move {
        let signal = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!(signal, "stopping: no new requests, those in flight are finished");
    };
    let options =
        serve::Options { tls, header_timeout: config.header_timeout, grace: config.shutdown_timeout };
    serve::serve(listener, app::app(state), stop, options).await;
    // They hold the database as well.
    for task in [Some(reloading), Some(refreshing), deleting].into_iter().flatten() {
        task.abort();
        let _ = task.await;
    }
    tokio::task::spawn_blocking(|| closer.close()).await?;
    info!("stopped");
    Ok(())
}

fn make_token(args: &TokenArgs) -> Result<String> {
    let key = TokenKey::new(&hmac_key(&args.key)?);
    let scope = Scope::named(
        &args.organization,
        args.repository.as_deref(),
        args.workflow.as_deref(),
        args.job.as_deref(),
    )?;
    let expires_at = args.expires_in.map(|time| auth::expiry(jiff::Timestamp::now(), time.as_secs()));
    let expires_at = expires_at.transpose().map_err(|detail| anyhow!("--expires-in {detail}"))?;
    Ok(key.mint(&scope, expires_at))
}

fn ask(args: &HealthArgs) -> Result<()> {
    health::check(&config::addresses(&args.addr)?, args.tls_cert.is_some(), args.timeout)
}
