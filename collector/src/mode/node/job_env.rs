//! The jobs that the environments of processes in pods name, and the steps of these jobs.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::warn;

use crate::accumulate::steps::StepNames;
use crate::attribute::ci_job::{Named, context, identity, step};
use crate::attribute::containers::Place;
use crate::config::node::JobVariables;
use crate::engine::environments::ProcessEnvironments;
use crate::engine::pass::Beginning;
use crate::run_identity::RunIdentity;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// How many jobs that cannot be followed are logged.
const MAX_LOGGED: usize = 100;

/// The jobs that processes say they belong to.
#[derive(Debug)]
pub(super) struct JobEnvironments {
    environments: ProcessEnvironments<Found>,
    names: JobNames,
    /// The runs of processes that began a container since the last pass, as reported by the eBPF program.
    told: FxHashMap<ProcessKey, Told>,
    /// The steps that the processes of this pass name.
    steps: StepNames,
}

/// What an environment says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Found {
    run: Option<Rc<RunIdentity>>,
    step: Option<Rc<str>>,
}

/// Finds runs in environments.
#[derive(Debug)]
struct JobNames {
    variables: Vec<JobVariables>,
    /// The runs that processes name. All processes of a run share one identity.
    runs: FxHashSet<Rc<RunIdentity>>,
    /// Runs that cannot be followed and were logged.
    logged: FxHashSet<String>,
}

/// The eBPF program's report of a process that names a run.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) parent_pid: u32,
    pub(super) place: Place,
    pub(super) run: Rc<RunIdentity>,
}

impl JobEnvironments {
    pub(super) fn new(variables: Vec<JobVariables>) -> Self {
        let names = JobNames { variables, runs: FxHashSet::default(), logged: FxHashSet::default() };
        Self {
            environments: ProcessEnvironments::new(),
            names,
            told: FxHashMap::default(),
            steps: StepNames::default(),
        }
    }

    /// Takes the eBPF program's reports of processes that began a container.
    pub(super) fn hear(&mut self, begun: Vec<Beginning>) {
        for Beginning { key, parent_pid, place, mut environment } in begun {
            let run = self.names.run_named(key, &environment);
            // It holds the job's secrets.
            environment.fill(0);
            // The last program that it executed counts.
            match run {
                Some(run) => self.told.insert(key, Told { parent_pid, place, run }),
                None => self.told.remove(&key),
            };
        }
    }

    /// The processes that named a run when they executed a program, and have ended since.
    pub(super) fn over(&mut self) -> impl Iterator<Item = (ProcessKey, Told)> {
        let environments = &self.environments;
        std::mem::take(&mut self.told).into_iter().filter(move |(key, _)| !environments.is_present(*key))
    }

    /// The run that a process of this pass says it belongs to.
    pub(super) fn run_of(&mut self, process: &Observation, table: &ProcessTable) -> Option<Rc<RunIdentity>> {
        let Self { environments, names, told, steps } = self;
        let told = told.get(&process.key).map(|told| Found { run: Some(Rc::clone(&told.run)), step: None });
        let forbidden = environments.forbidden;
        let found = environments.of(process, table, told, |environment| Found {
            run: names.run_named(process.key, environment),
            step: step(environment).map(Rc::from),
        });
        if forbidden == 0 && environments.forbidden > 0 {
            warn!(
                "the environment of other users' processes cannot be read, so their jobs are not found: CAP_SYS_PTRACE is needed"
            );
        }
        if let Some(step) = found.step {
            steps.insert(process.key, step);
        }
        found.run
    }

    /// How many environments could not be read.
    pub(super) fn forbidden(&self) -> u64 {
        self.environments.forbidden
    }

    /// Forgets the processes that were not in the pass. Returns the steps that the others name.
    pub(super) fn end_pass(&mut self) -> StepNames {
        self.environments.end_pass();
        self.names.runs.retain(|run| Rc::strong_count(run) > 1);
        std::mem::take(&mut self.steps)
    }
}

impl JobNames {
    /// The run that an environment names; logs one that cannot be followed.
    fn run_named(&mut self, key: ProcessKey, environment: &[u8]) -> Option<Rc<RunIdentity>> {
        match identity(environment, &self.variables) {
            Named::Nobody => None,
            Named::Run(mut run) => {
                if let Some(known) = self.runs.get(&*run) {
                    return Some(Rc::clone(known));
                }
                run.ci = context(environment);
                let run: Rc<RunIdentity> = Rc::from(run);
                self.runs.insert(Rc::clone(&run));
                Some(run)
            }
            Named::Unusable { run_id, why } => {
                if self.logged.len() < MAX_LOGGED && self.logged.insert(run_id.clone()) {
                    let pid = key.pid;
                    warn!(run_id, pid, why, "a process belongs to a job that cannot be followed");
                }
                None
            }
        }
    }
}
