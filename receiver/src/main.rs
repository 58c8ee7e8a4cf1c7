//! The receiver: stores what CI jobs used and answers questions about it. See `receiver --help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use receiver::args::{Args, Command, ServeArgs, TokenArgs};
use receiver::auth::TokenKey;
use receiver::config::{Config, hmac_key};
use receiver::{app, logging, mint, serve, state, store};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use wire::Scope;

const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Command::Token(token)) => make_token(token).map_err(|error| (error, EXIT_CONFIG)),
        None => match Config::from_args(&args.serve) {
            Ok(config) => run(&args.serve, config).map_err(|error| (error, 1)),
            Err(error) => Err((error, EXIT_CONFIG)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            eprintln!("receiver: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn run(args: &ServeArgs, config: Config) -> Result<()> {
    logging::init(args.log_level, args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(listen(config))
}

async fn listen(config: Config) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let db = config.db.display().to_string();
    let (store, closer) = store::Store::open(&config.db).map_err(|error| anyhow::anyhow!("{db}: {error}"))?;
    let listener = serve::bind(&config.addresses).await?;
    info!(address = %listener.local_addr()?, db, "listening");
    let state =
        state::AppState { store, read_token: config.read_token, key: config.key, max_body: config.max_body };
    let stop = async move {
        let signal = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        info!(signal, "stopping: no new requests, those in flight are finished");
    };
    serve::serve(listener, app::app(state.into()), stop, config.shutdown_timeout).await;
    tokio::task::spawn_blocking(|| closer.close()).await?;
    info!("stopped");
    Ok(())
}

fn make_token(args: &TokenArgs) -> Result<()> {
    let key = TokenKey::new(&hmac_key(&args.key)?);
    let scope = Scope::new(
        &args.organization,
        args.repository.as_deref(),
        args.workflow.as_deref(),
        args.job.as_deref(),
    )?;
    let expires_at = args.expires_in.map(|time| mint::expiry(jiff::Timestamp::now(), time.as_secs()));
    let expires_at = expires_at.transpose().map_err(|detail| anyhow::anyhow!("--expires-in {detail}"))?;
    println!("{}", mint::token(&key, &scope, expires_at).token);
    Ok(())
}
