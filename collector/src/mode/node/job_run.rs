//! The measurement of one job of a node.

use std::rc::Rc;
use std::time::Duration;

use super::membership::JobId;
use crate::attribute::containers::Containers;
use crate::engine::pass::Pass;
use crate::engine::publisher::RunPublisher;
use crate::engine::recorder::RunRecorder;
use crate::run_identity::RunIdentity;

/// How long a pod's usage is kept for a job that may begin in it. A pod that waits longer is a runner for many jobs: its
/// job begins with the job's first process.
pub(super) const LEAD: Duration = Duration::from_mins(10);
/// How many passes are held for a job without a live process.
const MAX_HELD: usize = 4096;

/// A job that is being measured.
#[derive(Debug)]
pub(super) struct JobRun {
    pub(super) id: JobId,
    pub(super) run: Rc<RunIdentity>,
    /// The start of its first process.
    pub(super) since_ticks: u64,
    pub(super) recorder: RunRecorder,
    /// The same without what the pod used before the job began. The pod's start is the job's if the pod is there for this
    /// job alone, which is certain only later.
    pub(super) alone: Option<Box<RunRecorder>>,
    pub(super) publisher: RunPublisher,
    /// When a process of it was last seen alive.
    pub(super) alive_at: Duration,
    /// Whether none of its processes was alive at the last pass.
    pub(super) quiet: bool,
    /// Passes since then, except for the first. They count only if the job continues.
    pub(super) held: Vec<Pass>,
    /// Whether it is not a CI job.
    pub(super) other: bool,
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

impl JobRun {
    pub(super) fn new(
        id: JobId,
        run: Rc<RunIdentity>,
        since_ticks: u64,
        recorder: RunRecorder,
        publisher: RunPublisher,
        now: Duration,
    ) -> Self {
        let (quiet, held, other) = (false, Vec::new(), false);
        let alone = None;
        Self { id, run, since_ticks, alone, recorder, publisher, alive_at: now, quiet, held, other }
    }

    /// Adds the held passes: the job continues, or its pod is over.
    pub(super) fn count_held(&mut self, containers: &Containers) {
        for pass in std::mem::take(&mut self.held) {
            self.add(pass, containers);
        }
    }

    /// Records what is left to record: the job is over.
    pub(super) fn close(&mut self, containers: &Containers) {
        self.recorder.unite_restarts(containers);
        self.recorder.flush();
    }

    /// Other jobs run in its pod at the same time, so that the pod did not start for this one.
    pub(super) fn share_pod(&mut self) {
        if let Some(alone) = self.alone.take() {
            self.recorder = *alone;
        }
    }

    fn add(&mut self, pass: Pass, containers: &Containers) {
        if self.recorder.duration() > LEAD {
            self.alone = None;
        }
        if let Some(alone) = &mut self.alone {
            alone.add(pass.clone(), containers);
        }
        self.recorder.add(pass, containers);
    }

    /// Takes its share of a pass. `alive`: one of its processes was seen.
    pub(super) fn take(&mut self, pass: Pass, alive: bool, containers: &Containers, now: Duration) {
        if alive {
            self.count_held(containers);
            self.add(pass, containers);
            (self.alive_at, self.quiet) = (now, false);
        } else if !self.quiet {
            // Its last usage lies between the previous pass and this one.
            self.quiet = !pass.between;
            self.add(pass, containers);
        } else {
            match self.held.last_mut() {
                Some(before) if before.between => before.absorb(pass),
                _ => self.held.push(pass),
            }
            if self.held.len() >= MAX_HELD {
                self.count_held(containers);
            }
        }
    }
}
