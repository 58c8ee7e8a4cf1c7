//! One pod, or one container in no pod: the jobs that it runs, from pass to pass.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tracing::{info, warn};

use super::job_run::{JobEnd, JobRun, LEAD};
use super::membership::{JobId, KnownJobs, Member, Membership, NewJob, Signs};
use super::shares::{JobShare, Sharing};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::Containers;
use crate::config::node::PodFacts;
use crate::config::{Config, NodeConfig};
use crate::deliver::checkpoint::Head;
use crate::deliver::push::Pusher;
use crate::deliver::recover::Recovered;
use crate::deliver::spool::{RunLock, Spool};
use crate::engine::cgroup_stats::{CgroupAccess, CgroupStats};
use crate::engine::clock::Clock;
use crate::engine::pass::{Cost, Pass};
use crate::engine::publisher::RunPublisher;
use crate::engine::recorder::{RunContext, RunRecorder, RunSnapshot};
use crate::run_identity::RunIdentity;
use crate::sample::pod_logs::PodName;

/// A pod is over after this many passes without a process: the exit records of its processes come after they are gone.
const EMPTY_PASSES: u32 = 2;
/// How many ended jobs each pod remembers.
const MAX_OVER: usize = 64;
/// How many jobs of a pod are followed at most, those included that may be over.
const MAX_JOBS: usize = 256;

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
    /// The runs to continue.
    recovered: Vec<Recovered>,
    /// The start of the first process that was seen in it.
    began_ticks: Option<u64>,
    empty_passes: u32,
    /// Its usage since its beginning, until its job is known.
    pending: Option<RunRecorder>,
    had_job: bool,
    pub(super) jobs: Vec<JobRun>,
    membership: Membership,
    /// The jobs that ran in the last pass; the others wait for their next process, or are over.
    running: Vec<JobId>,
    /// Where the use of what belongs to no job is reported, once jobs have run in the pod at the same time.
    shared: Option<ContainerIndex>,
    over: Vec<Rc<RunIdentity>>,
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
        recovered: Vec<Recovered>,
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
            jobs: Vec::new(),
            membership: Membership::default(),
            running: Vec::new(),
            shared: None,
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

    pub(super) fn job_mut(&mut self, id: JobId) -> Option<&mut JobRun> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// Takes a pass. Returns the jobs that are over.
    pub(super) fn advance(
        &mut self,
        mut pass: Pass,
        members: &[Member],
        context: &PodContext<'_>,
    ) -> Vec<(JobRun, JobEnd)> {
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
        let Self { jobs, membership, over, .. } = self;
        let running = jobs.iter().filter(|job| !job.other).map(|job| (job.id, &*job.run)).collect();
        let mut signs = membership.assign(members, &KnownJobs { running, over });
        let begun = std::mem::take(&mut signs.begun);
        let has_begun = !begun.is_empty();
        let since_ticks = self.begin_jobs(begun, &signs, context);
        if self.jobs.is_empty() {
            self.wait_for_job(pass, context);
            return Vec::new();
        }
        self.share(pass, &signs, since_ticks, context);
        for (job, container) in signs.at_home.drain(..) {
            if self.jobs.iter().any(|one| one.id == job) {
                self.containers.runs_the_job(container);
            }
        }
        let mut ended = self.ended(&signs, context);
        if has_begun {
            ended.extend(self.replaced());
        }
        if !ended.is_empty() {
            let ids: FxHashSet<JobId> = ended.iter().map(|(job, _)| job.id).collect();
            self.membership.forget(&ids);
            self.running.retain(|id| !ids.contains(id));
        }
        ended
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.empty_passes >= EMPTY_PASSES
    }

    fn resume_recovered(&mut self, context: &PodContext<'_>) {
        for recovered in std::mem::take(&mut self.recovered) {
            self.resume(recovered, context);
        }
    }

    fn resume(&mut self, recovered: Recovered, context: &PodContext<'_>) {
        let Recovered { checkpoint, lock } = recovered;
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
        self.began_ticks = Some(self.began_ticks.map_or(since_ticks, |began| began.min(since_ticks)));
        self.had_job = true;
        let id = self.membership.next_id();
        self.jobs
            .push(JobRun { other, ..JobRun::new(id, run, since_ticks, recorder, publisher, context.now) });
        self.running.push(id);
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

    /// Begins the jobs that were found. Returns the start of the first of them, if its usage is counted from there.
    fn begin_jobs(&mut self, begun: Vec<NewJob>, signs: &Signs, context: &PodContext<'_>) -> Option<u64> {
        let mut since = None;
        for NewJob { id, run, since_ticks } in begun {
            // Its first process was a script that set other variables and then became its program: it is the same job.
            let is_same = |job: &JobRun| {
                !job.other
                    && job.since_ticks == since_ticks
                    && !signs.alive.contains_key(&job.id)
                    && !job.publisher.has_begun()
            };
            let same = self.jobs.iter().position(is_same).map(|at| self.jobs.swap_remove(at));
            let mut alone = None;
            let recorder = if let Some(same) = same {
                self.membership.rename(same.id, id);
                self.running.retain(|running| *running != same.id);
                self.running.push(id);
                alone = same.alone;
                same.recorder
            } else if let Some(pending) = self.pending.take() {
                let mut since_then = context.recorder(since_ticks, false);
                since_then.leave_containers();
                alone = Some(Box::new(since_then));
                pending
            } else {
                since = Some(since.map_or(since_ticks, |since: u64| since.min(since_ticks)));
                context.recorder(since_ticks, false)
            };
            let mut publisher = context.publisher(&run, None);
            // It began before measuring did: its usage until then is unknown.
            if since_ticks < context.clock.began_ticks {
                publisher.is_not_whole();
            }
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
            let job = JobRun::new(id, run, since_ticks, recorder, publisher, context.now);
            self.jobs.push(JobRun { alone, ..job });
        }
        since
    }

    /// Gives each job its share of a pass. `since_ticks`: the start of a job that began in this pass.
    fn share(&mut self, pass: Pass, signs: &Signs, since_ticks: Option<u64>, context: &PodContext<'_>) {
        let is_active = |job: &JobRun| signs.alive.get(&job.id) == Some(&true);
        let mut running: Vec<JobId> =
            self.jobs.iter().filter(|job| is_active(job)).map(|job| job.id).collect();
        if running.is_empty() {
            // Whatever the pod does now belongs to its latest job.
            running.extend(self.jobs.iter().max_by_key(|job| (job.alive_at, job.id)).map(|job| job.id));
        }
        if self.shared.is_none() && (running.len() > 1 || self.containers.is_shared()) {
            self.shared = Some(self.containers.shared());
        }
        let is_occupied = !pass.present.is_empty();
        let empty = pass.without_processes(Cost::default());
        let ids: Vec<JobId> = self.jobs.iter().map(|job| job.id).collect();
        let mut shares = if let ([only], None, None) = (&ids[..], since_ticks, self.shared) {
            BTreeMap::from([(*only, JobShare { pass, ..JobShare::default() })])
        } else {
            let before = (&self.running[..], since_ticks.unwrap_or_default());
            let membership = &self.membership;
            Sharing { membership, jobs: &ids, running: &running, overhead: self.shared, before }
                .share_out(pass, self.containers.len())
        };
        for job in &mut self.jobs {
            let share = shares.remove(&job.id);
            let JobShare { pass, not_its_own } = share.unwrap_or_else(|| JobShare {
                pass: empty.without_processes(Cost::default()),
                ..JobShare::default()
            });
            let runs = running.contains(&job.id);
            if runs && running.len() > 1 {
                job.share_pod();
            }
            if runs {
                job.recorder.return_to_containers(&self.containers);
            } else {
                job.recorder.leave_containers();
            }
            job.recorder.disown(&not_its_own, &self.containers);
            let is_alive = signs.alive.contains_key(&job.id) || (job.other && is_occupied);
            job.take(pass, runs && is_alive, &self.containers, context.now);
        }
        self.running = running;
    }

    /// Ends what was reported for want of a job, now that there is one.
    fn replaced(&mut self) -> Vec<(JobRun, JobEnd)> {
        let others: Vec<JobRun> = self.jobs.extract_if(.., |job| job.other).collect();
        let close = |mut job: JobRun| {
            job.close(&self.containers);
            (job, JobEnd::Replaced)
        };
        others.into_iter().map(close).collect()
    }

    /// Keeps a pass of a pod without a job.
    fn wait_for_job(&mut self, pass: Pass, context: &PodContext<'_>) {
        let containers = &self.containers;
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
                let id = self.membership.next_id();
                let job = JobRun::new(id, run, since_ticks, recorder, publisher, context.now);
                self.jobs.push(JobRun { other: true, ..job });
                self.running = vec![id];
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

    fn ended(&mut self, signs: &Signs, context: &PodContext<'_>) -> Vec<(JobRun, JobEnd)> {
        let Self { jobs, containers, running, .. } = self;
        let gone = self.empty_passes >= EMPTY_PASSES
            && jobs.iter_mut().all(|job| job.recorder.cgroups_are_gone(containers).unwrap_or(true));
        let idle =
            |job: &JobRun| job.quiet && context.now.saturating_sub(job.alive_at) >= context.node.job_idle;
        let mut ended: Vec<JobRun> = jobs.extract_if(.., |job| gone || idle(job)).collect();
        // The ones that ended first, where there are too many.
        while jobs.len() > MAX_JOBS {
            let first = (0..jobs.len()).min_by_key(|at| (jobs[*at].alive_at, jobs[*at].id));
            ended.extend(first.map(|at| jobs.swap_remove(at)));
        }
        for job in &mut ended {
            if gone && running.contains(&job.id) {
                job.count_held(containers);
            }
            job.close(containers);
            if signs.alive.contains_key(&job.id) {
                self.over.push(Rc::clone(&job.run));
            }
        }
        let excess = self.over.len().saturating_sub(MAX_OVER);
        self.over.drain(..excess);
        let end = if gone { JobEnd::Gone } else { JobEnd::Idle };
        ended.into_iter().map(|job| (job, end)).collect()
    }
}
