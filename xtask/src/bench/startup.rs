//! How much longer a command takes under `collector run`, from its start to its end, with the program as it is shipped.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::flush::{ms, percentile};
use crate::build::{self, Object};

const COMMAND: &str = "true";
/// The promised bounds of the medians.
const LONGER_WITH_EBPF: Duration = Duration::from_millis(60);
const LONGER_WITHOUT: Duration = Duration::from_millis(6);

/// One way to run the command.
struct Form {
    name: &'static str,
    /// The value of `--ebpf`; none without a collector.
    ebpf: Option<&'static str>,
    /// The largest allowed difference to the command alone.
    bound: Option<Duration>,
    times: Vec<Duration>,
}

impl Form {
    fn new(name: &'static str, ebpf: Option<&'static str>, bound: Option<Duration>) -> Self {
        Self { name, ebpf, bound, times: Vec::new() }
    }

    /// Runs it once, and returns the time until the parent process sees its end.
    fn take(&self, collector: &Path) -> Result<Duration> {
        let mut command = match self.ebpf {
            None => Command::new(COMMAND),
            Some(ebpf) => {
                let mut command = Command::new(collector);
                command.args(["run", &format!("--ebpf={ebpf}"), "--", COMMAND]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        let taken = begin.elapsed();
        if !status.success() {
            bail!("{command:?}: {status}");
        }
        Ok(taken)
    }
}

pub(crate) fn run(rounds: usize, collector: Option<&Path>) -> Result<()> {
    if rounds < 3 {
        bail!("--rounds is {rounds}; a median needs at least 3");
    }
    let collector = match collector {
        Some(built) => built.to_owned(),
        None => build::static_programs(true, Object::IfPossible)?.collector,
    };
    let mut forms = vec![
        Form::new("true", None, None),
        Form::new("collector run --ebpf=off -- true", Some("off"), Some(LONGER_WITHOUT)),
    ];
    let with = Form::new("collector run -- true", Some("require"), Some(LONGER_WITH_EBPF));
    // The first runs read from the disk and do not count.
    match with.take(&collector) {
        Ok(_) => forms.push(with),
        Err(error) => println!("not measured with eBPF, which cannot be loaded here: {error:#}"),
    }
    for form in &forms {
        form.take(&collector)?;
    }
    for _ in 0..rounds {
        for form in &mut forms {
            let taken = form.take(&collector)?;
            form.times.push(taken);
        }
    }
    println!("from start to end, {rounds} rounds in turn");
    let mut missed = Vec::new();
    let mut alone = Duration::ZERO;
    for form in &mut forms {
        let median = percentile(&mut form.times, 50).context("no rounds")?;
        let p95 = percentile(&mut form.times, 95).context("no rounds")?;
        let figures = format!("{:<34} median {:>7.2} ms  p95 {:>7.2} ms", form.name, ms(median), ms(p95));
        let Some(bound) = form.bound else {
            alone = median;
            println!("{figures}");
            continue;
        };
        let longer = median.saturating_sub(alone);
        let met = longer <= bound;
        println!(
            "{figures}  longer {:>7.2} ms, wanted at most {} ms{}",
            ms(longer),
            bound.as_millis(),
            if met { "" } else { "  MISSED" }
        );
        if !met {
            missed.push(form.name);
        }
    }
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}
