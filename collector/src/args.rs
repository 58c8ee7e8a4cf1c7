//! Flags and environment variables, unchecked. The only module that reads the environment.

#![expect(clippy::doc_markdown, reason = "these comments are the help text, read in a terminal")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use program::arguments::Sources;
use program::{duration, log, quantity};

/// Variables that no other process may see.
pub const SECRET_VARIABLES: [&str; 1] = ["COLLECTOR_PUSH_TOKEN"];
/// The variable that `step` sets for its command.
pub const STEP_VARIABLE: &str = "COLLECTOR_STEP";
/// Where proc is mounted, almost always.
pub const DEFAULT_PROC_PATH: &str = "/proc";
/// OpenSSL's variables for the certificates to trust: a file, and directories.
pub const CERTIFICATE_FILE: &str = "SSL_CERT_FILE";
/// As above.
pub const CERTIFICATE_DIRECTORY: &str = "SSL_CERT_DIR";
const TRUST_VARIABLES: [&str; 2] = [CERTIFICATE_FILE, CERTIFICATE_DIRECTORY];

/// The variable that names certificates to trust in place of the system's, if one does.
pub fn trust_variable() -> Option<&'static str> {
    TRUST_VARIABLES.into_iter().find(|name| variable(name).is_some())
}

/// Measures what a CI job uses, container by container.
///
/// Without a command it runs beside the job (in its PID namespace) until SIGINT or SIGTERM, then prints one
/// summary and, with --push-endpoint, pushes it to a receiver.
///
/// Exit codes: 0 done; 1 failed; 2 the configuration is wrong, nothing was measured; 3 the summary could not be pushed (it is
/// in the spool directory, else printed). `run` exits with the command's own code, 128 + n for a signal, 126 and 127 if it
/// could not be run or found; 2, without running it, only if the collector's own flags are wrong.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, subcommand_precedence_over_arg = true, args_override_self = true)]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Everything else.
    #[command(flatten)]
    pub options: Options,
}

/// What to measure, if not every visible process.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure one command and all its descendants; its output and exit code are passed through, the report goes
    /// to standard error. A failure of measuring, reporting or pushing is a warning, and a line of the report.
    Run {
        /// Fail where there would only be a warning: with 2 before the command runs if the configuration is wrong,
        /// with 1 afterwards if the report or the push failed and the command itself did not.
        #[arg(long, env = "COLLECTOR_STRICT", value_parser = BoolishValueParser::new())]
        strict: bool,

        /// No report and no warnings on standard error.
        #[arg(long, short, env = "COLLECTOR_QUIET", value_parser = BoolishValueParser::new())]
        quiet: bool,

        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Run a command as a step of the job: collectors that can read its environment report what each step used. Adds
    /// COLLECTOR_STEP to the environment and executes the command in place of itself; nothing else changes.
    Step {
        /// The step's name.
        #[arg(value_name = "NAME")]
        name: String,

        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Push the summaries in a spool directory, without measuring. Exit codes: 0 nothing is left to push; 2 the
    /// configuration is wrong; 3 something is left.
    Deliver {
        /// The spool directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Follow every CI job on this node, and push one summary of each: one privileged process, in the node's PID
    /// namespace. Jobs are identified by the environment of their processes; --push-token or --push-tokens-file
    /// must be valid for all of them.
    Node(Box<NodeArgs>),
}

/// Flags of `node`; every one has a variable.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// CI systems whose jobs are followed, by the variables that they set: `github` (Forgejo and Gitea, too), `gitlab`.
    #[arg(long, env = "COLLECTOR_CI", default_value = "github", value_delimiter = ',')]
    pub ci: Vec<CiArg>,

    /// Names of the variables that identify a job, instead of those of --ci, as JSON: {"repository":
    /// "MY_REPOSITORY", "workflow": …, "job": …, "run_id": …}, and optionally "organization" and "run_attempt".
    #[arg(long, env = "COLLECTOR_JOB_VARIABLES", value_name = "JSON")]
    pub job_variables: Option<String>,

    /// A job is over when it has had no process for this long, when its pod is gone, or when another job has begun in
    /// its pod.
    #[arg(long, env = "COLLECTOR_JOB_IDLE", default_value = "60s", value_parser = duration::parse)]
    pub job_idle: Duration,

    /// Also report pods that are not CI jobs, one run for each, under this organization/repository/workflow/job;
    /// `{namespace}`, `{pod}` and `{uid}` stand for the pod's.
    #[arg(long, env = "COLLECTOR_REPORT_OTHER", value_name = "SCOPE")]
    pub report_other: Option<String>,

    /// Address of GET /metrics, for Prometheus; `none` for no metrics. The metrics name every job.
    #[arg(long, env = "COLLECTOR_METRICS_ADDR", default_value = "127.0.0.1:9101", value_name = "ADDRESS")]
    pub metrics_addr: String,

    /// Where the kubelet keeps the logs of pods, which name pods and containers; it may be missing.
    #[arg(long, env = "COLLECTOR_POD_LOGS_PATH", default_value = "/var/log/pods", value_name = "DIR")]
    pub pod_logs_path: PathBuf,
}

/// CI systems by the variables that they set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CiArg {
    /// `GITHUB_REPOSITORY`, `GITHUB_WORKFLOW`, `GITHUB_JOB`, `GITHUB_RUN_ID`, …: GitHub, Forgejo, Gitea.
    Github,
    /// `CI_PROJECT_PATH`, `CI_CONFIG_PATH`, `CI_JOB_NAME`, `CI_PIPELINE_ID`: GitLab.
    Gitlab,
}

/// Flags; every one has a variable.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Time between two passes over the process table.
    #[arg(long, global = true, env = "COLLECTOR_INTERVAL", default_value = "2s", value_parser = duration::parse)]
    pub interval: Duration,

    /// Where proc is mounted.
    #[arg(long, global = true, env = "COLLECTOR_PROC_PATH", default_value = DEFAULT_PROC_PATH)]
    pub proc_path: PathBuf,

    /// Where cgroups are mounted: a v2 hierarchy, or the directory of the v1 hierarchies [default: as mounted].
    #[arg(long, global = true, env = "COLLECTOR_CGROUP_PATH")]
    pub cgroup_path: Option<PathBuf>,

    /// Follow processes in the kernel: needs CAP_BPF and CAP_PERFMON.
    #[arg(long, global = true, env = "COLLECTOR_EBPF", default_value = "auto")]
    pub ebpf: EbpfArg,

    /// Memory for the eBPF program's records between two passes; 1Mi is enough for some 10,000 processes. It is
    /// emptied when it is half full, and records that do not fit are counted as lost.
    #[arg(long, global = true, env = "COLLECTOR_EBPF_BUFFER", default_value = "1Mi", value_name = "BYTES")]
    pub ebpf_buffer: String,

    /// Log what the eBPF program does with each process. For diagnosis: it slows every process down.
    #[arg(long, global = true, env = "COLLECTOR_EBPF_LOG", value_parser = BoolishValueParser::new())]
    pub ebpf_log: bool,

    /// Number of processes and commands in each list of the summary.
    #[arg(long, global = true, env = "COLLECTOR_TOP", default_value_t = 10)]
    pub top: usize,

    /// Form of the report at the end.
    #[arg(long, global = true, env = "COLLECTOR_OUTPUT", default_value = "text")]
    pub output: OutputArg,

    /// File for the report, instead of standard output (`run`: standard error); - for standard output.
    #[arg(long, global = true, env = "COLLECTOR_OUTPUT_FILE")]
    pub output_file: Option<PathBuf>,

    /// File that the report is appended to as Markdown, for the page of a CI run; none for no file
    /// [default of `run`: GITHUB_STEP_SUMMARY].
    #[arg(long, global = true, env = "COLLECTOR_SUMMARY_FILE", value_name = "PATH")]
    pub summary_file: Option<OsString>,

    /// The receiver, such as http://receiver:8080.
    #[arg(long, global = true, env = "COLLECTOR_PUSH_ENDPOINT")]
    pub push_endpoint: Option<String>,

    /// Push token, made by the receiver. A job can read command lines: prefer the variable or the file.
    #[arg(long, global = true, env = "COLLECTOR_PUSH_TOKEN", hide_env_values = true)]
    pub push_token: Option<String>,

    /// File that holds the push token; read again when it changes.
    #[arg(long, global = true, env = "COLLECTOR_PUSH_TOKEN_FILE")]
    pub push_token_file: Option<PathBuf>,

    /// File with a push token for each organization, as JSON ({"my-org": "token"}) or lines my-org=token, for `node` and
    /// `deliver`; read again when it changes. --push-token is for those that are not in it.
    #[arg(long, global = true, env = "COLLECTOR_PUSH_TOKENS_FILE", value_name = "FILE")]
    pub push_tokens_file: Option<PathBuf>,

    /// File with PEM certificates that are trusted in addition to the system's, for a receiver with https.
    #[arg(long, global = true, env = "COLLECTOR_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// Time between two interim summaries, for CI systems that kill without SIGTERM; 0 for none.
    #[arg(long, global = true, env = "COLLECTOR_PUSH_INTERVAL", default_value = "60s", value_parser = duration::parse)]
    pub push_interval: Duration,

    /// Directory for summaries that could not be pushed, and for checkpoints: the next start delivers what is
    /// there, or resumes the run, and so does `collector deliver DIR`. `none` for no directory [default of `run`
    /// and beside a job, with --push-endpoint: one for each receiver below
    /// runner-resource-collector/spool in $XDG_STATE_HOME, else in ~/.local/state].
    #[arg(long, global = true, env = "COLLECTOR_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Maximum size of the summaries in it; the oldest interim ones are removed first, final ones last.
    #[arg(long, global = true, env = "COLLECTOR_SPOOL_MAX_BYTES", default_value = "64Mi", value_parser = quantity::memory_bytes)]
    pub spool_max_bytes: u64,

    /// How long a summary is kept in it.
    #[arg(long, global = true, env = "COLLECTOR_SPOOL_MAX_AGE", default_value = "168h", value_parser = duration::parse)]
    pub spool_max_age: Duration,

    /// Time between two checkpoints in the spool directory, 0 for none.
    #[arg(long, global = true, env = "COLLECTOR_CHECKPOINT_INTERVAL", default_value = "10s", value_parser = duration::parse)]
    pub checkpoint_interval: Duration,

    /// Time for the report and the push after a signal to stop; Kubernetes kills after 30s.
    #[arg(long, global = true, env = "COLLECTOR_SHUTDOWN_TIMEOUT", default_value = "25s", value_parser = duration::parse)]
    pub shutdown_timeout: Duration,

    /// Process name → container name, as JSON: every process in that process's cgroup or below it.
    #[arg(long, global = true, env = "CGROUP_PROCESS_MAP", value_name = "JSON")]
    pub cgroup_process_map: Option<String>,

    /// Container name → limits, as JSON: {"runner": {"cpu": "2", "memory": "1Gi"}}; and its requests, as
    /// "cpu_request" and "memory_request".
    #[arg(long, global = true, env = "CGROUP_LIMITS", value_name = "JSON")]
    pub cgroup_limits: Option<String>,

    /// Organization that the run belongs to [env also: GITHUB_REPOSITORY_OWNER].
    #[arg(long, global = true, env = "COLLECTOR_ORGANIZATION")]
    pub organization: Option<String>,

    /// Repository, with or without its organization [env also: GITHUB_REPOSITORY].
    #[arg(long, global = true, env = "COLLECTOR_REPOSITORY")]
    pub repository: Option<String>,

    /// Workflow [env also: GITHUB_WORKFLOW].
    #[arg(long, global = true, env = "COLLECTOR_WORKFLOW")]
    pub workflow: Option<String>,

    /// Job [env also: GITHUB_JOB].
    #[arg(long, global = true, env = "COLLECTOR_JOB")]
    pub job: Option<String>,

    /// Identifier of the run [env also: GITHUB_RUN_ID].
    #[arg(long, global = true, env = "COLLECTOR_RUN_ID")]
    pub run_id: Option<String>,

    /// Attempt of the run [env also: GITHUB_RUN_ATTEMPT].
    #[arg(long, global = true, env = "COLLECTOR_RUN_ATTEMPT")]
    pub run_attempt: Option<String>,

    /// Which leg of a matrix this is, such as ${{ toJSON(matrix) }}: runs of different variants are sized apart.
    #[arg(long, global = true, env = "COLLECTOR_VARIANT", value_name = "TEXT")]
    pub variant: Option<String>,

    /// Name of the machine, such as the Kubernetes node's.
    #[arg(long, global = true, env = "COLLECTOR_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Type of the machine, as its cloud names it.
    #[arg(long, global = true, env = "COLLECTOR_INSTANCE_TYPE", value_name = "NAME")]
    pub instance_type: Option<String>,

    /// Least severe level that is logged [default: info; `run`: warn, and with --output=json nothing, since the report has
    /// the warnings].
    #[arg(long, global = true, env = "COLLECTOR_LOG_LEVEL")]
    pub log_level: Option<log::Level>,

    /// Form of the log, on standard error.
    #[arg(long, global = true, env = "COLLECTOR_LOG_FORMAT", default_value = "text")]
    pub log_format: log::Format,

    /// Where each of them came from.
    #[arg(skip)]
    pub sources: Sources,
}

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// Tables for people.
    Text,
    /// The summary as it is pushed.
    Json,
    /// No report.
    None,
}

/// Whether to follow processes with eBPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EbpfArg {
    /// Where possible; else from /proc alone, and the summary says why.
    Auto,
    /// With eBPF, or measure nothing.
    Require,
    /// From /proc alone.
    Off,
}

impl Args {
    /// Whether mistakes in the environment must not fail a build.
    pub fn is_tolerant(&self) -> bool {
        matches!(self.command, Some(Command::Run { strict: false, .. } | Command::Step { .. }))
    }
}

impl Options {
    /// Whether the push token was given as an argument, where every visible process can read it.
    pub fn token_is_argument(&self) -> bool {
        self.sources.is_typed("push_token")
    }

    /// Where the summary for the page of the run goes; `in_step`: by default where the CI system says that a step's does.
    pub fn summary_path(&self, in_step: bool) -> Option<PathBuf> {
        let step = || variable("GITHUB_STEP_SUMMARY").filter(|_| in_step);
        self.summary_file.clone().or_else(step).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Fills in from the variables that CI systems set what was given neither as a flag nor as our own variable.
    #[must_use]
    pub fn with_ci_variables(mut self) -> Self {
        let fill = |option: &mut Option<String>, name| {
            *option = option.take().filter(|value| !value.is_empty());
            if option.is_none() {
                // What is no UTF-8 is made so: a name is a name.
                *option = variable(name).map(|value| value.to_string_lossy().into_owned());
            }
        };
        fill(&mut self.organization, "GITHUB_REPOSITORY_OWNER");
        fill(&mut self.repository, "GITHUB_REPOSITORY");
        fill(&mut self.workflow, "GITHUB_WORKFLOW");
        fill(&mut self.job, "GITHUB_JOB");
        fill(&mut self.run_id, "GITHUB_RUN_ID");
        fill(&mut self.run_attempt, "GITHUB_RUN_ATTEMPT");
        self
    }
}

/// A variable that somebody else sets; one that is empty is as good as none.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The directory in which programs keep the state of a user (XDG base directories), if there is one.
pub fn state_home() -> Option<PathBuf> {
    let named = variable("XDG_STATE_HOME").map(PathBuf::from);
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    named.or_else(home).filter(|path| path.is_absolute())
}
