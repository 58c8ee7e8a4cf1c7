//! One pod, or one container in no pod: the job that it runs, from pass to pass.

use std::rc::Rc;
use std::time::Duration;

use tracing::{info, warn};

use super::clock::Clock;
use super::groups::GroupKey;
use super::samples::{GroupPass, Samples};
use crate::accumulate::Accumulator;
use crate::attribute::containers::Containers;
use crate::attribute::jobs::{Sighting, Verdict, decide};
use crate::config::node::PodFacts;
use crate::config::{Config, NodeConfig, RunIdentity};
use crate::deliver::checkpoint::Head;
use crate::deliver::push::Pusher;
use crate::deliver::recover::Recovered;
use crate::deliver::spool::{RunLock, Spool};
use crate::mode::outbox::Outbox;
use crate::mode::pods;
use crate::sample::cgroupfs::Hierarchies;
use crate::sample::pod_logs::PodName;

/// So long what a pod uses is kept for the job that may begin in it. One that waits longer for a job is a runner that
/// serves many, and the job begins when it does.
const LEAD: Duration = Duration::from_mins(10);
/// So many passes without a process mean that a pod is over: the last words on its processes come after they are gone.
const EMPTY_PASSES: u32 = 2;
/// So many passes wait for a sign of life of their job.
const MAX_HELD: usize = 4096;
/// So many jobs that are over are remembered by each pod.
const MAX_OVER: usize = 64;

/// A pod.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) containers: Containers,
    /// What its pod is called.
    pub(super) pod: Option<PodName>,
    /// Whether it was there when measuring began.
    was_there: bool,
    /// A run that is to be gone on with.
    pub(super) recovered: Option<Box<Recovered>>,
    /// The start of its first process that was seen.
    began_ticks: Option<u64>,
    empty_passes: u32,
    /// What it used since its beginning, until it is known for what job.
    pending: Option<Samples>,
    had_job: bool,
    pub(super) job: Option<JobRun>,
    over: Vec<Rc<RunIdentity>>,
}

/// A job as it is measured.
#[derive(Debug)]
pub(super) struct JobRun {
    pub(super) run: Rc<RunIdentity>,
    /// The start of its first process.
    since_ticks: u64,
    pub(super) samples: Samples,
    pub(super) outbox: Outbox,
    /// When something of it was last seen to live.
    alive_at: Duration,
    /// Whether nothing of it lived in the last pass.
    quiet: bool,
    /// Passes since then, but for the first: if it goes on they count, if it is over they do not.
    held: Vec<GroupPass>,
    /// It is no CI job at all.
    other: bool,
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Its pod is gone.
    Gone,
    /// Nothing of it has lived for long enough.
    Idle,
    /// Another one began in its pod.
    Replaced,
}

impl End {
    pub(super) const ALL: [Self; 3] = [Self::Gone, Self::Idle, Self::Replaced];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Idle => "idle",
            Self::Replaced => "replaced",
        }
    }
}

/// What the node gives to each of its pods.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) node: &'a NodeConfig,
    pub(super) pusher: Option<&'a Pusher>,
    pub(super) spool: Option<&'a Spool>,
    pub(super) hierarchies: &'a Rc<Hierarchies>,
    pub(super) clock: Clock,
    /// Now, by the boot clock.
    pub(super) now: Duration,
}

impl Context<'_> {
    fn samples(&self, began_ticks: u64, from_the_beginning: bool) -> Samples {
        let new = Accumulator::new(self.config.interval.as_secs_f64(), self.config.top);
        Samples::begin(new, self.hierarchies, self.clock, began_ticks, self.now, from_the_beginning)
    }

    fn outbox(&self, run: &RunIdentity, recovered: Option<(&Head, RunLock)>) -> Outbox {
        Outbox::for_run(self.config, run.clone(), self.pusher.cloned(), self.spool.cloned(), recovered)
    }
}

impl Group {
    pub(super) fn new(
        key: GroupKey,
        containers: Containers,
        pod: Option<PodName>,
        was_there: bool,
        recovered: Option<Box<Recovered>>,
    ) -> Self {
        Self {
            key,
            containers,
            pod,
            was_there,
            recovered,
            began_ticks: None,
            empty_passes: 0,
            pending: None,
            had_job: false,
            job: None,
            over: Vec::new(),
        }
    }

    /// What it is called: as a pod, else by its id.
    pub(super) fn facts(&self) -> PodFacts<'_> {
        let (uid, pod) = (self.key.id(), self.pod.as_ref());
        let in_pod = matches!(self.key, GroupKey::Pod(_));
        PodFacts {
            namespace: pod.map_or(if in_pod { "unknown" } else { "none" }, |pod| &pod.namespace),
            pod: pod.map_or(uid, |pod| &pod.pod),
            uid,
        }
    }

    /// Takes a pass; tells the run that is over, where one is.
    pub(super) fn advance(
        &mut self,
        mut pass: GroupPass,
        seen: &[Sighting],
        context: &Context<'_>,
    ) -> Option<(JobRun, End)> {
        self.go_on_with_recovered(context);
        pods::learn_from_ended(&mut self.containers, pass.exited.as_deref().unwrap_or_default());
        pods::give_orphans_back(&self.containers, &pass.present, &mut pass.charges, None);
        let is_empty = pass.present.is_empty();
        self.empty_passes = if is_empty { self.empty_passes.saturating_add(1) } else { 0 };
        if self.began_ticks.is_none() {
            self.begin(&pass, context);
        }
        let current = self.job.as_ref().filter(|job| !job.other);
        let current = current.map(|job| (Rc::clone(&job.run), job.since_ticks));
        let verdict = decide(current.as_ref().map(|(run, since)| (&**run, *since)), &self.over, seen);
        let replaced = match verdict {
            Verdict::New { run, since_ticks } => self.replace(pass, run, since_ticks, context),
            Verdict::Same { alive } => {
                self.same(pass, alive, context);
                None
            }
        };
        replaced.map(|job| (job, End::Replaced)).or_else(|| self.ended(context))
    }

    /// Whether nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        self.job.is_none() && self.empty_passes >= EMPTY_PASSES
    }

    fn go_on_with_recovered(&mut self, context: &Context<'_>) {
        let Some(recovered) = self.recovered.take() else { return };
        let Recovered { checkpoint, lock } = *recovered;
        let head = &checkpoint.head;
        let run = Rc::new(head.run.clone());
        info!(
            run_id = run.run_id,
            summary_id = head.summary_id,
            age_seconds = context.now.saturating_sub(head.written).as_secs_f64(),
            "going on with the run of a collector that was stopped"
        );
        let outbox = context.outbox(&run, Some((head, lock)));
        let other = self.other_run(context).is_some_and(|other| other == *run);
        let since_ticks = head.began_ticks;
        let interval = context.config.interval.as_secs_f64();
        let samples = Samples::resume(checkpoint, context.hierarchies, context.now, interval);
        self.began_ticks = Some(since_ticks);
        self.had_job = true;
        self.job = Some(JobRun { other, ..JobRun::new(run, since_ticks, samples, outbox, context.now) });
    }

    /// The first pass in which there is something of it.
    fn begin(&mut self, pass: &GroupPass, context: &Context<'_>) {
        let exited = pass.exited.iter().flatten().map(|one| one.key);
        let starts = pass.present.iter().map(|one| one.key).chain(exited).map(|key| key.start_ticks);
        let Some(began_ticks) = starts.min() else { return };
        self.began_ticks = Some(began_ticks);
        // What was used before measuring began is not known.
        let measured = if self.was_there { began_ticks.max(context.clock.began_ticks) } else { began_ticks };
        self.pending = Some(context.samples(measured, !self.was_there));
    }

    /// Another job, or the first.
    fn replace(
        &mut self,
        pass: GroupPass,
        run: Rc<RunIdentity>,
        since_ticks: u64,
        context: &Context<'_>,
    ) -> Option<JobRun> {
        let before = self.job.take();
        let mut outbox = context.outbox(&run, None);
        // It was there before we were: what it used until then is not known.
        if since_ticks < context.clock.began_ticks {
            outbox.is_not_whole();
        }
        let (samples, rest) = if let Some(pending) = self.pending.take() {
            let mut samples = pending;
            samples.add(&pass, &self.containers);
            (samples, None)
        } else {
            let (first, second) = pass.split(since_ticks);
            let mut samples = context.samples(since_ticks, false);
            samples.add(&second, &self.containers);
            (samples, Some(first))
        };
        info!(
            repository = run.repository,
            workflow = run.workflow,
            job = run.job,
            run_id = run.run_id,
            pod = self.facts().pod,
            summary_id = outbox.summary_id(),
            "a job begins"
        );
        self.had_job = true;
        self.job = Some(JobRun::new(run, since_ticks, samples, outbox, context.now));
        let mut before = before?;
        before.samples.unite(&self.containers);
        if let Some(rest) = rest.filter(|_| before.held.is_empty()) {
            before.samples.add(&rest, &self.containers);
        }
        if !before.other {
            self.over.push(Rc::clone(&before.run));
            let excess = self.over.len().saturating_sub(MAX_OVER);
            self.over.drain(..excess);
        }
        Some(before)
    }

    fn same(&mut self, pass: GroupPass, alive: bool, context: &Context<'_>) {
        let containers = &self.containers;
        if let Some(job) = &mut self.job {
            if alive || (job.other && !pass.present.is_empty()) {
                job.let_count(containers);
                job.samples.add(&pass, containers);
                (job.alive_at, job.quiet) = (context.now, false);
            } else if !job.quiet {
                // What it used last was used since the pass before.
                job.samples.add(&pass, containers);
                job.quiet = true;
            } else {
                job.held.push(pass);
                if job.held.len() >= MAX_HELD {
                    job.let_count(containers);
                }
            }
            return;
        }
        let Some(pending) = &mut self.pending else { return };
        pending.add(&pass, containers);
        let age = context.now.saturating_sub(pending.started());
        if self.had_job || age < context.node.job_idle {
            return;
        }
        if let Some(run) = self.other_run(context) {
            let run = Rc::new(run);
            let outbox = context.outbox(&run, None);
            let since_ticks = self.began_ticks.unwrap_or_default();
            if let Some(samples) = self.pending.take() {
                let job = JobRun::new(run, since_ticks, samples, outbox, context.now);
                self.job = Some(JobRun { other: true, ..job });
            }
        } else if age > LEAD {
            self.pending = None;
        }
    }

    /// The run that it is if it is no CI job, where that is asked for.
    fn other_run(&self, context: &Context<'_>) -> Option<RunIdentity> {
        let template = context.node.report_other.as_ref()?;
        match template.run(self.facts()) {
            Ok(run) => Some(run),
            Err(error) => {
                warn!(pod = self.facts().pod, error = format!("{error:#}"), "a pod cannot be reported");
                None
            }
        }
    }

    fn ended(&mut self, context: &Context<'_>) -> Option<(JobRun, End)> {
        let job = self.job.as_mut()?;
        let gone = self.empty_passes >= EMPTY_PASSES && {
            // Its files are read to see whether they are still there.
            job.samples.cgroups.read(&self.containers, false);
            job.samples.cgroups.are_gone().unwrap_or(true)
        };
        let idle = job.quiet && context.now.saturating_sub(job.alive_at) >= context.node.job_idle;
        if gone {
            job.let_count(&self.containers);
        } else if !idle {
            return None;
        }
        job.samples.unite(&self.containers);
        let end = if gone { End::Gone } else { End::Idle };
        self.job.take().map(|job| (job, end))
    }
}

impl JobRun {
    fn new(run: Rc<RunIdentity>, since_ticks: u64, samples: Samples, outbox: Outbox, now: Duration) -> Self {
        let (quiet, held, other) = (false, Vec::new(), false);
        Self { run, since_ticks, samples, outbox, alive_at: now, quiet, held, other }
    }

    /// The job goes on, or its pod is over: what was held counts.
    fn let_count(&mut self, containers: &Containers) {
        for pass in std::mem::take(&mut self.held) {
            self.samples.add(&pass, containers);
        }
    }
}
