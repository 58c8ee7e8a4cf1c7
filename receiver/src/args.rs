//! Flags and environment variables, unchecked.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args as ClapArgs, Parser, Subcommand};
use program::duration::positive;
use program::log::{Format, Level};
use program::quantity::memory_bytes;

/// Stores what CI jobs used and answers questions about it.
///
/// Exit codes: 0 done; 1 failed; 2 the configuration is wrong.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, args_conflicts_with_subcommands = true, args_override_self = true)]
pub struct Args {
    /// A command to run instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands other than serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a push token without a running receiver.
    Token(TokenArgs),
    /// Ask a running receiver whether it is ready, for health checks of containers.
    Health(HealthArgs),
    /// Copy a database to a new file while a receiver writes to it.
    Backup(BackupArgs),
    /// Read a whole database and report damage.
    Check(CheckArgs),
}

/// How to serve.
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Address to listen on; `:8080` means port 8080 of every address.
    #[arg(long, env = "RECEIVER_ADDR", default_value = ":8080")]
    pub addr: String,

    /// SQLite database; created if it does not exist.
    #[arg(long, env = "RECEIVER_DB", default_value = "metrics.db")]
    pub db: PathBuf,

    /// Secret for reading and for making tokens (required, here or by --read-token-file). Several, one per line, are
    /// all accepted.
    #[arg(long, env = "RECEIVER_READ_TOKEN", hide_env_values = true)]
    pub read_token: Option<String>,

    /// File with the secret or secrets; read again on SIGHUP.
    #[arg(long, env = "RECEIVER_READ_TOKEN_FILE")]
    pub read_token_file: Option<PathBuf>,

    /// Key that push tokens are made from.
    #[command(flatten)]
    pub key: KeyArgs,

    /// Certificate chain in PEM, the server's own certificate first. Enables TLS; read again on SIGHUP.
    #[arg(long, env = "RECEIVER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, env = "RECEIVER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Timeout for the headers of a request, for a TLS handshake, and for an idle connection.
    #[arg(long, env = "RECEIVER_HEADER_TIMEOUT", default_value = "10s", value_parser = positive)]
    pub header_timeout: Duration,

    /// Timeout for the body of a request.
    #[arg(long, env = "RECEIVER_BODY_TIMEOUT", default_value = "30s", value_parser = positive)]
    pub body_timeout: Duration,

    /// Largest body of a push, such as 4Mi or 4194304.
    #[arg(long, env = "RECEIVER_MAX_BODY", default_value = "4Mi", value_parser = memory_bytes)]
    pub max_body: u64,

    /// Delete runs older than this, such as 90d [default: keep all].
    #[arg(long, env = "RECEIVER_RETENTION", value_parser = positive)]
    pub retention: Option<Duration>,

    /// Delete the oldest runs of a job beyond this number, such as 1000 [default: keep all].
    #[arg(long, env = "RECEIVER_KEEP_RUNS_PER_JOB", value_name = "RUNS", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_runs_per_job: Option<u32>,

    /// Time for requests in flight to finish after a stop signal.
    #[arg(long, env = "RECEIVER_SHUTDOWN_TIMEOUT", default_value = "25s", value_parser = positive)]
    pub shutdown_timeout: Duration,

    /// How long a sign-in to the page is valid.
    #[arg(long, env = "RECEIVER_SESSION_TIME", default_value = "12h", value_parser = positive)]
    pub session_time: Duration,

    /// Trust `X-Forwarded-Proto`: if it says `https`, browsers send the page's cookie only over TLS. Set this only if
    /// nobody can reach the receiver but a proxy that sets this header.
    #[arg(long, env = "RECEIVER_BEHIND_PROXY", value_parser = BoolishValueParser::new())]
    pub behind_proxy: bool,

    /// Least severe level to log.
    #[arg(long, env = "RECEIVER_LOG_LEVEL", default_value = "info")]
    pub log_level: Level,

    /// Format of the log, on standard error.
    #[arg(long, env = "RECEIVER_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// Key that push tokens are made from.
#[derive(Debug, ClapArgs)]
pub struct KeyArgs {
    /// Secret key that push tokens are made from (required, here or by --hmac-key-file). Of several, one per line, the
    /// first makes tokens and all verify them.
    #[arg(long, env = "RECEIVER_HMAC_KEY", hide_env_values = true)]
    pub hmac_key: Option<String>,

    /// File with the key or keys; read again on SIGHUP.
    #[arg(long, env = "RECEIVER_HMAC_KEY_FILE")]
    pub hmac_key_file: Option<PathBuf>,
}

/// The scope of a new token. If later parts are left out, the token is valid for everything below the earlier ones.
#[derive(Debug, ClapArgs)]
pub struct TokenArgs {
    /// Organization.
    #[arg(long)]
    pub organization: String,
    /// Repository, with or without its organization.
    #[arg(long)]
    pub repository: Option<String>,
    /// Workflow.
    #[arg(long)]
    pub workflow: Option<String>,
    /// Job.
    #[arg(long)]
    pub job: Option<String>,
    /// How long the token is valid, such as 30d or 12h [default: forever].
    #[arg(long, value_parser = positive)]
    pub expires_in: Option<Duration>,
    /// Key to make the token from.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Which receiver to ask.
#[derive(Debug, ClapArgs)]
pub struct HealthArgs {
    /// Address that the receiver listens on; an unspecified address is reached over loopback.
    #[arg(long, env = "RECEIVER_ADDR", default_value = ":8080")]
    pub addr: String,
    /// The receiver's certificate: ask over TLS. The file is not read, as nothing secret is sent.
    #[arg(long, env = "RECEIVER_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Timeout for the answer.
    #[arg(long, default_value = "5s", value_parser = positive)]
    pub timeout: Duration,
}

/// What to copy, and where to.
#[derive(Debug, ClapArgs)]
pub struct BackupArgs {
    /// The database.
    #[arg(long, env = "RECEIVER_DB", default_value = "metrics.db")]
    pub db: PathBuf,
    /// The copy; it must not exist yet.
    pub file: PathBuf,
}

/// What to check.
#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// A database or a copy of one; it is not changed.
    pub file: PathBuf,
}
