//! Checks the configuration. Everything that can be wrong with the arguments is found here, before measuring begins.

mod delivery;
pub mod limits;
pub mod node;
mod problems;
pub mod process_map;
mod secret;
pub mod tokens;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use program::{given_file, log, quantity};
use wire::{CiContext, normal_name};

use self::limits::Limits;
use self::problems::Problems;
use self::process_map::ProcessMap;
use crate::args::{Args, Command, DEFAULT_PROC_PATH, Options};
use crate::ci_context;
use crate::run_identity::RunIdentity;

/// Passes at a shorter interval would measure little but themselves.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// The values to use if a variable is invalid: the defaults that clap has as texts.
const INTERVAL: Duration = Duration::from_secs(2);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
const EBPF_BUFFER: u32 = 1 << 20;
/// Values in place of a file: for none, and for standard output.
const NONE: &str = "none";
const STANDARD_OUTPUT: &str = "-";
/// Accepted sizes of the ring buffer.
const MIN_RING: u32 = 4 << 10;
const MAX_RING: u32 = 256 << 20;
/// A summary with more processes would be a process table.
pub(crate) const MAX_TOP: usize = 1000;

/// The whole configuration.
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
    /// Size of the ring buffer of eBPF, in bytes.
    pub ebpf_buffer: u32,
    /// Whether the eBPF program logs what it does.
    pub ebpf_log: bool,
    /// Number of processes and commands of each kind in the summary.
    pub top: usize,
    /// Format of the report.
    pub output: Output,
    /// Where the report goes.
    pub output_to: OutputTo,
    /// File that the report is appended to as Markdown.
    pub summary_file: Option<PathBuf>,
    /// Where to push, if anywhere.
    pub push: Option<PushTarget>,
    /// Identity of the run, if it is known. A sidecar or a command that pushes or spools always has one.
    pub run: Option<RunIdentity>,
    /// What the CI system says about that run. In node mode, each job's own environment says it.
    pub ci: CiContext,
    /// Name of the machine.
    pub node_name: Option<String>,
    /// Type of the machine.
    pub instance_type: Option<String>,
    /// Time between two interim summaries, if there are any.
    pub push_interval: Option<Duration>,
    /// The spool for summaries that could not be pushed, if there is one.
    pub spool: Option<SpoolConfig>,
    /// Time between two checkpoints, if there are any.
    pub checkpoint_interval: Option<Duration>,
    /// Time limit for report and push at the end.
    pub shutdown_timeout: Duration,
    /// Names of containers by the processes in them.
    pub process_map: ProcessMap,
    /// Limits by container name.
    pub limits: BTreeMap<String, Limits>,
    /// Least severe level that is logged, if anything is.
    pub log_level: Option<log::Level>,
    /// Format of the log.
    pub log_format: log::Format,
    /// Whether warnings fail the run of a command.
    pub strict: bool,
    /// Problems that did not prevent the start.
    pub warnings: Vec<String>,
}

/// Where the report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputTo {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file of its own.
    File(PathBuf),
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Every process in sight.
    Sidecar,
    /// One command.
    Run {
        /// The command and its arguments.
        command: Vec<OsString>,
    },
    /// Nothing: push the summaries in the spool.
    Deliver,
    /// Every CI job of the node.
    Node(Box<NodeConfig>),
}

pub(crate) use self::delivery::PUSH_PATH;
pub use self::delivery::{PushTarget, SpoolConfig};
pub use self::node::NodeConfig;
pub use self::secret::Secret;
pub use crate::args::{EbpfArg as Ebpf, OutputArg as Output};

impl Config {
    /// Checks arguments and variables.
    pub fn from_args(args: Args) -> Result<Self> {
        let tolerant = args.is_tolerant();
        let node = match &args.command {
            Some(Command::Node(node)) => Some(NodeConfig::new(node, &args.options)?),
            _ => None,
        };
        // If a job starts a node's collector, the job's variables say nothing about the node.
        let options = if node.is_some() { args.options } else { args.options.with_ci_variables() };
        let (mut strict, mut quiet) = (false, false);
        let (mode, to_deliver) = match (args.command, node) {
            (_, Some(node)) => (Mode::Node(Box::new(node)), None),
            (Some(Command::Run { command, strict: is_strict, quiet: is_quiet }), _) => {
                (strict, quiet) = (is_strict, is_quiet);
                (Mode::Run { command }, None)
            }
            (Some(Command::Deliver { directory }), _) => (Mode::Deliver, Some(directory)),
            _ => (Mode::Sidecar, None),
        };
        let mut problems = Problems::new(&options.sources, tolerant);
        let is_run = matches!(mode, Mode::Run { .. });
        // With a command, a missing proc only means that nothing is measured. That is found when measuring begins.
        let may_lack_proc = is_run && (tolerant || options.proc_path == Path::new(DEFAULT_PROC_PATH));
        if mode != Mode::Deliver && !may_lack_proc {
            check_proc(&options.proc_path)?;
        }
        let cgroup_path = problems.state(cgroup_path(&options), None)?;
        let process_map = match given(options.cgroup_process_map.as_ref()) {
            Some(text) => {
                let parsed = ProcessMap::parse(text).map_err(Into::into);
                problems.form("cgroup_process_map", parsed, ProcessMap::default())?
            }
            None => ProcessMap::default(),
        };
        let limits = match given(options.cgroup_limits.as_ref()) {
            Some(text) => {
                problems.form("cgroup_limits", limits::parse(text).map_err(Into::into), BTreeMap::new())?
            }
            None => BTreeMap::new(),
        };
        let Destination { push, spool, run, ci } =
            Destination::of(&options, &mode, to_deliver.as_ref(), &mut problems)?;
        let output_to = output_to(&options, is_run);
        let log_level = options.log_level.or(match output_to {
            _ if quiet => None,
            // With log lines in it, the report would no longer be JSON.
            OutputTo::Stderr if options.output == Output::Json => None,
            _ if is_run => Some(log::Level::Warn),
            _ => Some(log::Level::Info),
        });
        let interval = problems.form("interval", interval(options.interval), INTERVAL)?;
        let shutdown_timeout =
            problems.form("shutdown_timeout", some_time(options.shutdown_timeout), SHUTDOWN_TIMEOUT)?;
        let push_interval =
            problems.form("push_interval", delivery::interval(options.push_interval), None)?;
        let checkpoint_interval =
            problems.form("checkpoint_interval", delivery::interval(options.checkpoint_interval), None)?;
        Ok(Self {
            interval,
            cgroup_path,
            ebpf: options.ebpf,
            ebpf_buffer: problems.form("ebpf_buffer", ring_bytes(&options.ebpf_buffer), EBPF_BUFFER)?,
            ebpf_log: options.ebpf_log,
            top: problems.form("top", at_most(options.top, MAX_TOP), MAX_TOP)?,
            // A report that goes somewhere else does not disturb the build's log.
            output: if quiet && output_to == OutputTo::Stderr { Output::None } else { options.output },
            output_to,
            summary_file: options.summary_path(is_run).filter(|path| path != Path::new(NONE)),
            push,
            run,
            ci,
            node_name: name(options.node_name.as_ref()),
            instance_type: name(options.instance_type.as_ref()),
            push_interval,
            spool,
            checkpoint_interval,
            shutdown_timeout,
            process_map,
            limits,
            log_level,
            log_format: options.log_format,
            strict,
            warnings: problems.into_found(),
            proc_path: options.proc_path,
            mode,
        })
    }
}

/// Where summaries go, and the run that they are of.
struct Destination {
    push: Option<PushTarget>,
    spool: Option<SpoolConfig>,
    run: Option<RunIdentity>,
    ci: CiContext,
}

impl Destination {
    fn of(
        options: &Options,
        mode: &Mode,
        to_deliver: Option<&PathBuf>,
        problems: &mut Problems<'_>,
    ) -> Result<Self> {
        let mut spool = delivery::spool(options, to_deliver)?;
        let mut push = delivery::push_target(options, mode, problems)?;
        // There is no default in node mode: the next collector could not find a spool in the container's own files.
        if let Some(push) = &push
            && matches!(mode, Mode::Run { .. } | Mode::Sidecar)
            && spool.is_none()
            && !delivery::wants_no_spool(options)
        {
            spool = delivery::default_spool(options, push);
        }
        let needed_by = match (mode, &push, &spool) {
            (Mode::Deliver, None, _) => {
                bail!("deliver needs to know where to push: set --push-endpoint (COLLECTOR_PUSH_ENDPOINT)")
            }
            (Mode::Deliver | Mode::Node(_), ..) | (_, None, None) => None,
            (_, Some(_), _) => Some("--push-endpoint"),
            (_, None, Some(_)) => Some("--spool-dir"),
        };
        let mut run = run_identity(options, needed_by, problems)?;
        let ci =
            if matches!(mode, Mode::Run { .. } | Mode::Sidecar) { ci(options) } else { CiContext::default() };
        if let Some(run) = &mut run {
            run.ci = ci.clone();
        }
        if run.is_none() && needed_by.is_some() {
            // The missing identity was already reported.
            (push, spool) = (None, None);
        }
        Ok(Self { push, spool, run, ci })
    }
}

fn output_to(options: &Options, is_run: bool) -> OutputTo {
    match options.output_file.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if path == Path::new(STANDARD_OUTPUT) => OutputTo::Stdout,
        Some(path) => OutputTo::File(path.clone()),
        // Other programs may read the command's standard output. Do not add to it.
        None if is_run => OutputTo::Stderr,
        None => OutputTo::Stdout,
    }
}

fn interval(interval: Duration) -> Result<Duration> {
    ensure!(interval >= MIN_INTERVAL, "is {interval:?}; at least 10ms is accepted");
    Ok(interval)
}

fn some_time(time: Duration) -> Result<Duration> {
    ensure!(!time.is_zero(), "is 0; give the push some time, such as 25s");
    Ok(time)
}

fn at_most(number: usize, most: usize) -> Result<usize> {
    ensure!(number <= most, "is {number}; at most {most} is accepted");
    Ok(number)
}

fn cgroup_path(options: &Options) -> Result<Option<PathBuf>> {
    let Some(path) = options.cgroup_path.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    ensure!(path.is_dir(), "{} {} is not a directory", options.sources.name("cgroup_path"), path.display());
    Ok(Some(path.clone()))
}

/// Rounds up to the sizes that the kernel accepts: a power of two of whole pages.
fn ring_bytes(text: &str) -> Result<u32> {
    let bytes = quantity::memory_bytes(text)?;
    let accepted = u64::from(MIN_RING)..=u64::from(MAX_RING);
    ensure!(accepted.contains(&bytes), "is {text}; 4Ki to 256Mi are accepted");
    Ok((bytes as u32).next_power_of_two().max(rustix::param::page_size() as u32))
}

/// The value of a variable or flag. An empty one counts as unset.
fn given(option: Option<&String>) -> Option<&str> {
    option.map(String::as_str).filter(|value| !value.is_empty())
}

/// A proc tree has the machine's `stat` and at least one process.
pub(crate) fn check_proc(path: &Path) -> Result<()> {
    // Listing a proc tree looks at each process.
    if path.join("self/stat").is_file() && path.join("stat").is_file() {
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("--proc-path {} cannot be read", path.display()))?;
    let has_process = entries.flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if !has_process || !path.join("stat").is_file() {
        bail!("--proc-path {} is not a proc tree: it has no stat file or no process", path.display());
    }
    Ok(())
}

/// The identity of the run. If a flag needs it, every part must be there, and the error names all missing parts at once.
fn run_identity(
    options: &Options,
    needed_by: Option<&str>,
    problems: &mut Problems<'_>,
) -> Result<Option<RunIdentity>> {
    // Names stay as given here: each is normalised and cut separately.
    let is_name = |name: &String| !normal_name(name).is_empty();
    let named = |option: &Option<String>| option.clone().filter(is_name);
    let repository = named(&options.repository);
    // A full repository path contains the organization.
    let owner =
        repository.as_deref().and_then(|full| full.split_once('/')).map(|(owner, _)| owner.to_owned());
    let parts = [
        ("--organization (GITHUB_REPOSITORY_OWNER)", named(&options.organization).or(owner.filter(is_name))),
        ("--repository (GITHUB_REPOSITORY)", repository),
        ("--workflow (GITHUB_WORKFLOW)", named(&options.workflow)),
        ("--job (GITHUB_JOB)", named(&options.job)),
        ("--run-id (GITHUB_RUN_ID)", named(&options.run_id)),
    ];
    let [Some(organization), Some(repository), Some(workflow), Some(job), Some(run_id)] =
        parts.each_ref().map(|(_, value)| value.as_deref())
    else {
        let missing: Vec<_> =
            parts.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        let missing = missing.join(", ");
        return match needed_by {
            Some(flag) => {
                let wrong = anyhow!("{flag} needs the identity of the run; missing: {missing}");
                problems.state(Err(wrong), None)
            }
            None => Ok(None),
        };
    };
    let attempt = run_attempt(options, problems)?;
    let run = RunIdentity::new(Some(organization), repository, workflow, job, run_id, attempt);
    problems.state(run.map(Some), None)
}

/// A name that is only shown.
fn name(option: Option<&String>) -> Option<String> {
    option.map(|text| normal_name(text)).filter(|name| !name.is_empty())
}

/// What this process's variables say about the run.
fn ci(options: &Options) -> CiContext {
    let variable = |name: &str| match name {
        ci_context::VARIANT => options.variant.clone(),
        _ => std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
    };
    let mut ci = ci_context::context(variable);
    if ci.fork.is_none()
        && let Some(path) = std::env::var_os("GITHUB_EVENT_PATH").map(PathBuf::from)
        && path.is_file()
    {
        ci.fork = given_file::read(&path).ok().and_then(|event| ci_context::is_fork_by_event(&event));
    }
    ci
}

/// The attempt of the run. An invalid value is an error only on the command line: a CI system that counts in another way must
/// not prevent measuring.
fn run_attempt(options: &Options, problems: &mut Problems<'_>) -> Result<Option<u32>> {
    let Some(text) = given(options.run_attempt.as_ref()) else { return Ok(None) };
    if let Ok(attempt) = text.trim().parse() {
        return Ok(Some(attempt));
    }
    let wrong = format!("is {text:?}, which is not a number such as 1");
    if options.sources.is_typed("run_attempt") {
        return problems.form("run_attempt", Err(anyhow!(wrong)), None);
    }
    problems.note(format!("GITHUB_RUN_ATTEMPT {wrong}: the summary omits it"));
    Ok(None)
}
