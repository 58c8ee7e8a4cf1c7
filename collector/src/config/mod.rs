//! What is valid: everything that can be wrong with the arguments is found here, before measuring begins.

mod delivery;
pub mod limits;
pub mod node;
pub mod process_map;
pub mod tokens;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use wire::{Payload, Scope, Submission};

use self::limits::Limits;
use self::process_map::ProcessMap;
use crate::args::{Args, Command, DEFAULT_PROC_PATH, Options};
use program::{log, quantity};

/// Passes closer together than this would measure little but themselves.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Sizes of the ring buffer.
const MIN_RING: u32 = 4 << 10;
const MAX_RING: u32 = 256 << 20;
/// A summary with more than this would be a process table.
pub(crate) const MAX_TOP: usize = 1000;

/// Everything that the collector was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to measure.
    pub mode: Mode,
    /// Time between two passes.
    pub interval: Duration,
    /// Where proc is mounted.
    pub proc_path: PathBuf,
    /// Where cgroups are mounted, if not where `mountinfo` says.
    pub cgroup_path: Option<PathBuf>,
    /// Whether to follow processes with eBPF.
    pub ebpf: Ebpf,
    /// Bytes of its ring buffer.
    pub ebpf_buffer: u32,
    /// Whether it logs what it does.
    pub ebpf_log: bool,
    /// Processes and commands of each kind in the summary.
    pub top: usize,
    /// Form of the report.
    pub output: Output,
    /// Where it goes, if not to a standard stream.
    pub output_file: Option<PathBuf>,
    /// File that the report is appended to as Markdown.
    pub summary_file: Option<PathBuf>,
    /// Where to push, if anywhere.
    pub push: Option<PushTarget>,
    /// Whose run it is, if it is known; always where there is something to push to.
    pub run: Option<RunIdentity>,
    /// Time between two interim summaries, if there are any.
    pub push_interval: Option<Duration>,
    /// Where summaries lie that could not be pushed, if anywhere.
    pub spool: Option<SpoolConfig>,
    /// Time between two checkpoints, if there are any.
    pub checkpoint_interval: Option<Duration>,
    /// Time for report and push.
    pub shutdown_timeout: Duration,
    /// Names of containers by the processes in them.
    pub process_map: ProcessMap,
    /// Limits by container name.
    pub limits: BTreeMap<String, Limits>,
    /// Least severe level that is logged.
    pub log_level: log::Level,
    /// Form of the log.
    pub log_format: log::Format,
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Everything in sight.
    Sidecar,
    /// One command.
    Run {
        /// The command and its arguments.
        command: Vec<OsString>,
    },
    /// Nothing: push what lies in the spool.
    Deliver,
    /// Every CI job of the node.
    Node(Box<NodeConfig>),
}

pub use self::delivery::{PushTarget, Secret, SpoolConfig};
pub use self::node::NodeConfig;
pub use crate::args::{EbpfArg as Ebpf, OutputArg as Output};

/// Whose run it is.
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
    /// Which attempt at it, where the CI system counts them.
    pub run_attempt: Option<u32>,
}

impl RunIdentity {
    /// Whose run it is, if that can be; without an organization it is what is in front of the repository's first slash.
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
        let scope = Scope::new(organization, Some(repository), Some(workflow), Some(job))?;
        if run_id.is_empty() || run_id.chars().any(char::is_control) {
            bail!("--run-id (GITHUB_RUN_ID) {run_id:?} is empty or contains a control character");
        }
        Ok(Self {
            organization: organization.to_owned(),
            repository: scope.full_repository().unwrap_or_default(),
            workflow: workflow.to_owned(),
            job: job.to_owned(),
            run_id: run_id.to_owned(),
            run_attempt,
        })
    }

    /// One of the run's summaries, as it goes over the wire.
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

impl Config {
    /// Checks what was typed.
    pub fn from_args(args: Args) -> Result<Self> {
        let node = match &args.command {
            Some(Command::Node(node)) => Some(NodeConfig::new(node, &args.options)?),
            _ => None,
        };
        // The variables of a job in which a node's collector was started say nothing about the node.
        let options = if node.is_some() { args.options } else { args.options.with_ci_variables() };
        if options.interval < MIN_INTERVAL {
            bail!("--interval is {:?}; at least 10ms is accepted", options.interval);
        }
        if options.shutdown_timeout.is_zero() {
            bail!("--shutdown-timeout is 0; give the push some time, such as 25s");
        }
        if options.top > MAX_TOP {
            bail!("--top is {}; at most {MAX_TOP} is accepted", options.top);
        }
        let (mode, to_deliver) = match (args.command, node) {
            (_, Some(node)) => (Mode::Node(Box::new(node)), None),
            (Some(Command::Run { command }), _) => (Mode::Run { command }, None),
            (Some(Command::Deliver { directory }), _) => (Mode::Deliver, Some(directory)),
            _ => (Mode::Sidecar, None),
        };
        let spool = delivery::spool(&options, to_deliver.as_ref())?;
        // In front of a command that proc is not where it always is shall not keep the command from running.
        let may_lack_proc =
            matches!(mode, Mode::Run { .. }) && options.proc_path == Path::new(DEFAULT_PROC_PATH);
        if mode != Mode::Deliver && !may_lack_proc {
            check_proc(&options.proc_path)?;
        }
        if let Some(path) = &options.cgroup_path
            && !path.is_dir()
        {
            bail!("--cgroup-path {} is no directory", path.display());
        }
        let process_map = match given(options.cgroup_process_map.as_ref()) {
            Some(text) => ProcessMap::parse(text).context("CGROUP_PROCESS_MAP")?,
            None => ProcessMap::default(),
        };
        let limits = match given(options.cgroup_limits.as_ref()) {
            Some(text) => limits::parse(text).context("CGROUP_LIMITS")?,
            None => BTreeMap::new(),
        };
        let push = delivery::push_target(&options, &mode)?;
        let needed_by = match (&mode, &push, &spool) {
            (Mode::Deliver, None, _) => {
                bail!("deliver needs to know where to push: set --push-endpoint (COLLECTOR_PUSH_ENDPOINT)")
            }
            (Mode::Deliver | Mode::Node(_), ..) | (_, None, None) => None,
            (_, Some(_), _) => Some("--push-endpoint"),
            (_, None, Some(_)) => Some("--spool-dir"),
        };
        let run = run_identity(&options, needed_by)?;
        let summary_file = options.summary_path(matches!(mode, Mode::Run { .. }));
        Ok(Self {
            mode,
            interval: options.interval,
            proc_path: options.proc_path,
            cgroup_path: options.cgroup_path,
            ebpf: options.ebpf,
            ebpf_buffer: ring_bytes(&options.ebpf_buffer)?,
            ebpf_log: options.ebpf_log,
            top: options.top,
            output: options.output,
            output_file: options.output_file,
            summary_file,
            push,
            run,
            push_interval: delivery::interval("--push-interval", options.push_interval)?,
            spool,
            checkpoint_interval: delivery::interval("--checkpoint-interval", options.checkpoint_interval)?,
            shutdown_timeout: options.shutdown_timeout,
            process_map,
            limits,
            log_level: options.log_level,
            log_format: options.log_format,
        })
    }
}

/// The kernel takes a power of two of whole pages: the next that is no smaller.
fn ring_bytes(text: &str) -> Result<u32> {
    let bytes = quantity::memory_bytes(text).context("--ebpf-buffer")?;
    let accepted = u64::from(MIN_RING)..=u64::from(MAX_RING);
    if !accepted.contains(&bytes) {
        bail!("--ebpf-buffer is {text}; 4Ki to 256Mi are accepted");
    }
    Ok((bytes as u32).next_power_of_two().max(rustix::param::page_size() as u32))
}

/// A variable that is set but empty is as good as none.
fn given(option: Option<&String>) -> Option<&str> {
    option.map(String::as_str).filter(|value| !value.is_empty())
}

/// A proc tree tells of the machine (`stat`) and of at least one process.
pub(crate) fn check_proc(path: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(path).with_context(|| format!("--proc-path {} cannot be read", path.display()))?;
    let has_process = entries.flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if !has_process || !path.join("stat").is_file() {
        bail!("--proc-path {} is no proc tree: it has no stat file or no process in it", path.display());
    }
    Ok(())
}

/// Whose run it is; with something to push to all of it must be there, and all that is missing is named at once.
fn run_identity(options: &Options, needed_by: Option<&str>) -> Result<Option<RunIdentity>> {
    let repository = given(options.repository.as_ref());
    // A full repository path tells the organization, too.
    let owner = repository.and_then(|full| full.split_once('/')).map(|(owner, _)| owner);
    let organization = given(options.organization.as_ref()).or(owner);
    let parts = [
        ("--organization (GITHUB_REPOSITORY_OWNER)", organization),
        ("--repository (GITHUB_REPOSITORY)", repository),
        ("--workflow (GITHUB_WORKFLOW)", given(options.workflow.as_ref())),
        ("--job (GITHUB_JOB)", given(options.job.as_ref())),
        ("--run-id (GITHUB_RUN_ID)", given(options.run_id.as_ref())),
    ];
    let [Some(organization), Some(repository), Some(workflow), Some(job), Some(run_id)] =
        parts.map(|(_, value)| value)
    else {
        let missing: Vec<_> =
            parts.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        if let Some(flag) = needed_by {
            bail!("{flag} needs to know whose run this is; missing: {}", missing.join(", "));
        }
        return Ok(None);
    };
    let attempt = given(options.run_attempt.as_ref()).map(|text| {
        text.parse::<u32>()
            .map_err(|_| anyhow!("--run-attempt (GITHUB_RUN_ATTEMPT) {text:?} is no number such as 1"))
    });
    RunIdentity::new(Some(organization), repository, workflow, job, run_id, attempt.transpose()?).map(Some)
}
