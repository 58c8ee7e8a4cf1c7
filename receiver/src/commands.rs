//! Runs what the arguments ask for: the service, or one of the other commands.

use anyhow::{Context, Result, anyhow};
use program::arguments::Parsed;
use program::{log, stream};
use wire::Scope;

use crate::args::{Args, Command, HealthArgs, TokenArgs};
use crate::auth::{TokenKey, expiry};
use crate::config::{self, Config, hmac_key};
use crate::store::backup;
use crate::{hardening, health, service};

const EXIT_FAILED: u8 = 1;
const EXIT_CONFIG: u8 = 2;

/// Runs what the arguments ask for. `hidden` says whether the process could hide its secrets from other processes.
///
/// An error comes with the exit code of the process.
pub fn run(parsed: &Parsed<Args>, hidden: std::io::Result<()>) -> Result<(), (anyhow::Error, u8)> {
    let failed = |error| (error, EXIT_FAILED);
    let misconfigured = |error| (error, EXIT_CONFIG);
    match &parsed.args.command {
        Some(Command::Token(args)) => print(&token(args).map_err(misconfigured)?).map_err(failed),
        Some(Command::Health(args)) => ask(args).map_err(failed),
        Some(Command::Backup(args)) => {
            let report = backup::backup(&args.db, &args.file).map_err(failed)?;
            // The copy exists whether or not this report can be printed.
            print(&report).unwrap_or_else(|_| stream::tell(&report));
            Ok(())
        }
        Some(Command::Check(args)) => {
            backup::check(&args.file).and_then(|report| print(&report)).map_err(failed)
        }
        None => {
            let args = &parsed.args.serve;
            let config = Config::from_args(args).map_err(misconfigured)?;
            // Kept until the receiver ends. The log is queued, so requests never wait for a slow reader of standard
            // error.
            let _log =
                log::init_queued(args.log_level, args.log_format, &[("receiver", args.log_level.into())]);
            hardening::log_panics();
            hardening::warn_of_arguments(&parsed.sources);
            hidden.context("cannot hide from other processes").map_err(failed)?;
            service::run(config).map_err(failed)
        }
    }
}

/// Prints a result to standard output. Returns an error if it cannot be written.
fn print(result: &str) -> Result<()> {
    let written = stream::write(&mut std::io::stdout(), format!("{result}\n").as_bytes());
    written.context("the result could not be written to standard output")
}

fn token(args: &TokenArgs) -> Result<String> {
    let key = TokenKey::new(&hmac_key(&args.key)?);
    let (repository, workflow, job) = (&args.repository, &args.workflow, &args.job);
    let scope = Scope::named(&args.organization, repository.as_deref(), workflow.as_deref(), job.as_deref())?;
    let expires_at = args.expires_in.map(|time| expiry(jiff::Timestamp::now(), time.as_secs()));
    let expires_at = expires_at.transpose().map_err(|detail| anyhow!("--expires-in {detail}"))?;
    Ok(key.mint(&scope, expires_at))
}

fn ask(args: &HealthArgs) -> Result<()> {
    health::check(&config::addresses(&args.addr)?, args.tls_cert.is_some(), args.timeout)
}
