//! One pod, or one container in no pod: the job that it runs, from pass to pass.

use std::rc::Rc;
use std::time::Duration;

use tracing::{info, warn};

use crate::attribute::ci_job::{JobChange, JobEvidence, decide};
use crate::attribute::containers::Containers;
use crate::config::node::PodFacts;
use crate::config::{Config, NodeConfig};
use crate::deliver::checkpoint::Head;
use crate::deliver::push::Pusher;
use crate::deliver::recover::Recovered;
use crate::deliver::spool::{RunLock, Spool};
use crate::engine::cgroup_stats::{CgroupAccess, CgroupStats};
use crate::engine::clock::Clock;
use crate::engine::pass::Pass;
use crate::engine::publisher::RunPublisher;
use crate::engine::recorder::{RunContext, RunRecorder, RunSnapshot};
use crate::run_identity::RunIdentity;
use crate::sample::pod_logs::PodName;

/// How long a pod's usage is kept for a job that may begin in it. A pod that waits longer is a runner for many jobs: its
/// job begins with the job's first process.
const LEAD: Duration = Duration::from_mins(10);
/// A pod is over after this many passes without a process: the exit records of its processes come after they are gone.
const EMPTY_PASSES: u32 = 2;
/// How many passes are held for a job without a live process.
const MAX_HELD: usize = 4096;
/// How many ended jobs each pod remembers.
const MAX_OVER: usize = 64;

/// Identifies the pod of a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PodKey {
    /// The UID of their pod.
    Pod(String),
    /// The id of a container that is in no pod, which also stands for the containers that it started.
    Container(String),
}

impl PodKey {
    /// The UID, or the id.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Pod(id) | Self::Container(id) => id,
        }
    }
}

/// A pod.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) key: PodKey,
    pub(super) containers: Containers,
    name: Option<PodName>,
    /// Whether it existed when measuring began.
    was_there: bool,
    /// The run to continue.
    recovered: Option<Box<Recovered>>,
    /// The start of the first process that was seen in it.
    began_ticks: Option<u64>,
    empty_passes: u32,
    /// Its usage since its beginning, until its job is known.
    pending: Option<RunRecorder>,
    had_job: bool,
    pub(super) job: Option<JobRun>,
    over: Vec<Rc<RunIdentity>>,
}

/// A job that is being measured.
#[derive(Debug)]
pub(super) struct JobRun {
    pub(super) run: Rc<RunIdentity>,
    /// The start of its first process.
    since_ticks: u64,
    pub(super) recorder: RunRecorder,
    pub(super) publisher: RunPublisher,
    /// When a process of it was last seen alive.
    alive_at: Duration,
    /// Whether none of its processes was alive at the last pass.
    quiet: bool,
    /// Passes since then, except for the first. They count only if the job continues.
    held: Vec<Pass>,
    /// Whether it is not a CI job.
    other: bool,
}

/// Why a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum JobEnd {
    /// Its pod is gone.
    Gone,
    /// None of its processes has been alive for the idle time.
    Idle,
    /// Another job began in its pod.
    Replaced,
}

impl JobEnd {
    pub(super) const ALL: [Self; 3] = [Self::Gone, Self::Idle, Self::Replaced];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Idle => "idle",
            Self::Replaced => "replaced",
        }
    }
}

/// What the node provides to each of its pods.
pub(super) struct PodContext<'a> {
    pub(super) config: &'a Config,
    pub(super) node: &'a NodeConfig,
    pub(super) pusher: Option<&'a Pusher>,
    pub(super) spool: Option<&'a Spool>,
    pub(super) access: &'a Rc<CgroupAccess>,
    pub(super) clock: Clock,
    /// The time of the pass, by the boot clock.
    pub(super) now: Duration,
}

impl PodContext<'_> {
    fn cgroups(&self, from_the_beginning: bool) -> CgroupStats {
        let mut cgroups = CgroupStats::new(Rc::clone(self.access));
        if from_the_beginning {
            cgroups.count_from_the_beginning();
        }
        cgroups
    }

    /// `from_the_beginning`: the run includes everything that its cgroups have counted.
    fn recorder(&self, began_ticks: u64, from_the_beginning: bool) -> RunRecorder {
        RunRecorder::begin(self.config, self.cgroups(from_the_beginning), self.clock, began_ticks, self.now)
    }

    fn publisher(&self, run: &RunIdentity, recovered: Option<(&Head, RunLock)>) -> RunPublisher {
        let (pusher, spool) = (self.pusher.cloned(), self.spool.cloned());
        RunPublisher::for_run(self.config, run.clone(), pusher, spool, recovered)
    }
}

impl Pod {
    pub(super) fn new(
        key: PodKey,
        containers: Containers,
        name: Option<PodName>,
        was_there: bool,
        recovered: Option<Box<Recovered>>,
    ) -> Self {
        Self {
            key,
            containers,
            name,
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

    /// Its name, or its id if the name is unknown.
    pub(super) fn facts(&self) -> PodFacts<'_> {
        let (uid, pod) = (self.key.id(), self.name.as_ref());
        let in_pod = matches!(self.key, PodKey::Pod(_));
        PodFacts {
            namespace: pod.map_or(if in_pod { "unknown" } else { "none" }, |pod| &pod.namespace),
            pod: pod.map_or(uid, |pod| &pod.pod),
            uid,
        }
    }

    /// The job's run up to the last pass.
    pub(super) fn snapshot<'a>(&'a self, job: &'a JobRun, context: &'a RunContext) -> RunSnapshot<'a> {
        RunSnapshot { recorder: &job.recorder, containers: &self.containers, context }
    }

    /// Takes a pass. Returns the job that is over, if one is.
    pub(super) fn advance(
        &mut self,
        mut pass: Pass,
        seen: &[JobEvidence],
        context: &PodContext<'_>,
    ) -> Option<(JobRun, JobEnd)> {
        self.resume_recovered(context);
        pass.apply_pod_rules(&mut self.containers, None);
        let is_empty = pass.present.is_empty();
        // Only samples count: between two of them, the last records of processes may not have come yet.
        self.empty_passes = match (is_empty, pass.between) {
            (false, _) => 0,
            (true, true) => self.empty_passes,
            (true, false) => self.empty_passes.saturating_add(1),
        };
        if self.began_ticks.is_none() {
            self.begin(&pass, context);
        }
        let current = self.job.as_ref().filter(|job| !job.other);
        let current = current.map(|job| (Rc::clone(&job.run), job.since_ticks));
        let verdict = decide(current.as_ref().map(|(run, since)| (&**run, *since)), &self.over, seen);
        let replaced = match verdict {
            JobChange::New { run, since_ticks } => {
                let renames = seen.iter().all(|one| current.as_ref().is_none_or(|(run, _)| one.run != *run));
                self.replace(pass, run, since_ticks, renames, context)
            }
            JobChange::Same { alive } => {
                self.same(pass, alive, context);
                None
            }
        };
        if let Some(job) = &self.job {
            for container in seen.iter().filter(|one| one.run == job.run).filter_map(|one| one.container) {
                self.containers.runs_the_job(container);
            }
        }
        replaced.map(|job| (job, JobEnd::Replaced)).or_else(|| self.ended(context))
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.job.is_none() && self.empty_passes >= EMPTY_PASSES
    }

    fn resume_recovered(&mut self, context: &PodContext<'_>) {
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
        let publisher = context.publisher(&run, Some((head, lock)));
        let other = self.other_run(context).is_some_and(|other| other == *run);
        let since_ticks = head.began_ticks;
        // A container that is not in the checkpoint began after it, in this pod.
        let cgroups = context.cgroups(true);
        let recorder = RunRecorder::resume(checkpoint, cgroups, context.config.interval, context.now);
        self.began_ticks = Some(since_ticks);
        self.had_job = true;
        self.job = Some(JobRun { other, ..JobRun::new(run, since_ticks, recorder, publisher, context.now) });
    }

    /// Begins with the first pass that has one of its processes.
    fn begin(&mut self, pass: &Pass, context: &PodContext<'_>) {
        let exited = pass.exited.iter().flatten().map(|one| one.key);
        let starts = pass.present.iter().map(|one| one.key).chain(exited).map(|key| key.start_ticks);
        let Some(began_ticks) = starts.min() else { return };
        self.began_ticks = Some(began_ticks);
        // Usage before measuring began is unknown.
        let measured = if self.was_there { began_ticks.max(context.clock.began_ticks) } else { began_ticks };
        self.pending = Some(context.recorder(measured, !self.was_there));
    }

    /// Begins another job, or the first. `renames`: no process is left that names the previous job.
    fn replace(
        &mut self,
        pass: Pass,
        run: Rc<RunIdentity>,
        since_ticks: u64,
        renames: bool,
        context: &PodContext<'_>,
    ) -> Option<JobRun> {
        let mut before = self.job.take();
        // Its first process was a script that set this job's variables and became its program: there was no other job.
        let is_same = |job: &mut JobRun| {
            renames && !job.other && job.since_ticks == since_ticks && !job.publisher.has_begun()
        };
        if let Some(same) = before.take_if(is_same) {
            self.pending = Some(same.recorder);
        }
        let mut publisher = context.publisher(&run, None);
        // It began before measuring did: its usage until then is unknown.
        if since_ticks < context.clock.began_ticks {
            publisher.is_not_whole();
        }
        let (recorder, rest) = if let Some(mut pending) = self.pending.take() {
            pending.add(pass, &self.containers);
            (pending, None)
        } else {
            let (first, second) = pass.split(since_ticks);
            let mut recorder = context.recorder(since_ticks, false);
            recorder.add(second, &self.containers);
            (recorder, Some(first))
        };
        info!(
            repository = run.repository,
            workflow = run.workflow,
            job = run.job,
            run_id = run.run_id,
            pod = self.facts().pod,
            summary_id = publisher.summary_id(),
            "a job begins"
        );
        self.had_job = true;
        self.job = Some(JobRun::new(run, since_ticks, recorder, publisher, context.now));
        let mut before = before?;
        before.recorder.unite_restarts(&self.containers);
        before.recorder.flush();
        before.recorder.leave_containers();
        if let Some(rest) = rest.filter(|_| before.held.is_empty()) {
            before.recorder.add(rest, &self.containers);
            before.recorder.flush();
        }
        if !before.other {
            self.over.push(Rc::clone(&before.run));
            let excess = self.over.len().saturating_sub(MAX_OVER);
            self.over.drain(..excess);
        }
        Some(before)
    }

    fn same(&mut self, pass: Pass, alive: bool, context: &PodContext<'_>) {
        let containers = &self.containers;
        if let Some(job) = &mut self.job {
            if alive || (job.other && !pass.present.is_empty()) {
                job.count_held(containers);
                job.recorder.add(pass, containers);
                (job.alive_at, job.quiet) = (context.now, false);
            } else if !job.quiet {
                // Its last usage is from the time since the previous pass.
                job.quiet = !pass.between;
                job.recorder.add(pass, containers);
            } else {
                match job.held.last_mut() {
                    Some(before) if before.between => before.absorb(pass),
                    _ => job.held.push(pass),
                }
                if job.held.len() >= MAX_HELD {
                    job.count_held(containers);
                }
            }
            return;
        }
        let Some(pending) = &mut self.pending else { return };
        pending.add(pass, containers);
        let age = context.now.saturating_sub(pending.started());
        if self.had_job || age < context.node.job_idle {
            return;
        }
        if let Some(run) = self.other_run(context) {
            let run = Rc::new(run);
            let publisher = context.publisher(&run, None);
            let since_ticks = self.began_ticks.unwrap_or_default();
            if let Some(recorder) = self.pending.take() {
                let job = JobRun::new(run, since_ticks, recorder, publisher, context.now);
                self.job = Some(JobRun { other: true, ..job });
            }
        } else if age > LEAD {
            self.pending = None;
        }
    }

    /// The run of a pod without a CI job, if such pods are reported.
    fn other_run(&self, context: &PodContext<'_>) -> Option<RunIdentity> {
        let template = context.node.report_other.as_ref()?;
        match template.run(self.facts()) {
            Ok(run) => Some(run),
            Err(error) => {
                warn!(pod = self.facts().pod, error = format!("{error:#}"), "a pod cannot be reported");
                None
            }
        }
    }

    fn ended(&mut self, context: &PodContext<'_>) -> Option<(JobRun, JobEnd)> {
        let job = self.job.as_mut()?;
        let gone = self.empty_passes >= EMPTY_PASSES
            && job.recorder.cgroups_are_gone(&self.containers).unwrap_or(true);
        let idle = job.quiet && context.now.saturating_sub(job.alive_at) >= context.node.job_idle;
        if gone {
            job.count_held(&self.containers);
        } else if !idle {
            return None;
        }
        job.recorder.unite_restarts(&self.containers);
        job.recorder.flush();
        let end = if gone { JobEnd::Gone } else { JobEnd::Idle };
        self.job.take().map(|job| (job, end))
    }
}

impl JobRun {
    fn new(
        run: Rc<RunIdentity>,
        since_ticks: u64,
        recorder: RunRecorder,
        publisher: RunPublisher,
        now: Duration,
    ) -> Self {
        let (quiet, held, other) = (false, Vec::new(), false);
        Self { run, since_ticks, recorder, publisher, alive_at: now, quiet, held, other }
    }

    /// Adds the held passes: the job continues, or its pod is over.
    fn count_held(&mut self, containers: &Containers) {
        for pass in std::mem::take(&mut self.held) {
            self.recorder.add(pass, containers);
        }
    }
}
