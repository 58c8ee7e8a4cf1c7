//! The environments of processes in pods. Each is read when the process is new and whenever it has executed a program. Only
//! the names of its job are kept.

use std::io::ErrorKind;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::warn;

use crate::attribute::ci_job::{Named, context, identity};
use crate::attribute::containers::Place;
use crate::config::node::JobVariables;
use crate::engine::pass::Beginning;
use crate::run_identity::RunIdentity;
use crate::sample::environ::MAX_BYTES;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// How often an environment without anything in it is read again: in the middle of exec it looks like that.
const EMPTY_LOOKS: u8 = 10;
/// How many jobs that cannot be followed are logged.
const MAX_LOGGED: usize = 100;

/// The jobs that processes say they belong to.
#[derive(Debug)]
pub(super) struct JobEnvironments {
    variables: Vec<JobVariables>,
    known: FxHashMap<ProcessKey, KnownProcess>,
    /// The runs that processes name. All processes of a run share one identity.
    runs: FxHashSet<Rc<RunIdentity>>,
    /// The runs of processes that began a container since the last pass, as reported by the eBPF program.
    told: FxHashMap<ProcessKey, Told>,
    space: Vec<u8>,
    pass: u64,
    /// Runs that cannot be followed and were logged.
    logged: FxHashSet<String>,
    /// How many environments could not be read.
    pub(super) forbidden: u64,
}

/// The eBPF program's report of a process that names a run.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) parent_pid: u32,
    pub(super) place: Place,
    pub(super) run: Rc<RunIdentity>,
}

#[derive(Debug)]
struct KnownProcess {
    /// The program that it ran when its environment was read last.
    program: ExecutedProgram,
    /// How often the environment of this program was empty.
    empty: u8,
    /// Whether the environment of this program has been read.
    is_read: bool,
    pass: u64,
    run: Option<Rc<RunIdentity>>,
}

/// Tells the programs apart that a process executes one after another, also those of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExecutedProgram {
    comm: Comm,
    stack_start: u64,
}

/// An environment as it was read.
struct EnvironmentRead {
    run: Option<Rc<RunIdentity>>,
    is_empty: bool,
}

impl JobEnvironments {
    pub(super) fn new(variables: Vec<JobVariables>) -> Self {
        let (known, runs, space) = (FxHashMap::default(), FxHashSet::default(), vec![0; MAX_BYTES]);
        let (told, logged) = (FxHashMap::default(), FxHashSet::default());
        Self { variables, known, runs, told, space, pass: 0, logged, forbidden: 0 }
    }

    /// Takes the eBPF program's reports of processes that began a container.
    pub(super) fn hear(&mut self, begun: Vec<Beginning>) {
        for Beginning { key, parent_pid, place, mut environment } in begun {
            let run = self.run_named(key, &environment);
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
        let (known, pass) = (&self.known, self.pass);
        let is_over = move |key: &ProcessKey| known.get(key).is_none_or(|known| known.pass != pass);
        std::mem::take(&mut self.told).into_iter().filter(move |(key, _)| is_over(key))
    }

    /// The run that a process of this pass says it belongs to.
    pub(super) fn run_of(&mut self, process: &Observation, table: &ProcessTable) -> Option<Rc<RunIdentity>> {
        let program = ExecutedProgram { comm: process.comm, stack_start: process.stack_start };
        let known = self.known.get_mut(&process.key);
        // A zombie has no environment any more.
        let is_known = |known: &KnownProcess| process.zombie || (known.program == program && known.is_read);
        if let Some(known) = known.filter(|known| is_known(known)) {
            known.pass = self.pass;
            return known.run.clone();
        }
        let known = self.known.get(&process.key);
        let told = || self.told.get(&process.key).map(|told| Rc::clone(&told.run));
        let before = known.and_then(|known| known.run.clone()).or_else(told);
        let empty = known.filter(|known| known.program == program).map_or(0, |known| known.empty);
        let mut known = KnownProcess { program, empty, is_read: false, pass: self.pass, run: before };
        if !process.zombie {
            let read = self.read(process.key, table, known.run.take());
            known.empty += u8::from(read.is_empty);
            known.is_read = !read.is_empty || known.empty >= EMPTY_LOOKS;
            known.run = read.run;
        }
        let run = known.run.clone();
        self.known.insert(process.key, known);
        run
    }

    fn read(
        &mut self,
        key: ProcessKey,
        table: &ProcessTable,
        before: Option<Rc<RunIdentity>>,
    ) -> EnvironmentRead {
        match table.read_beginning(key, "environ", &mut self.space) {
            // It may name its run in a moment.
            Ok(0) => EnvironmentRead { run: before, is_empty: true },
            Ok(length) => {
                let mut space = std::mem::take(&mut self.space);
                let run = self.run_named(key, &space[..length]);
                // It holds the job's secrets.
                space[..length].fill(0);
                self.space = space;
                EnvironmentRead { run, is_empty: false }
            }
            Err(error) => {
                if error.kind() == ErrorKind::PermissionDenied {
                    if self.forbidden == 0 {
                        warn!(
                            "the environment of other users' processes cannot be read, so their jobs are not found: CAP_SYS_PTRACE is needed"
                        );
                    }
                    self.forbidden += 1;
                }
                EnvironmentRead { run: before, is_empty: false }
            }
        }
    }

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

    /// Forgets the processes that were not in the pass.
    pub(super) fn end_pass(&mut self) {
        let pass = self.pass;
        self.known.retain(|_, known| known.pass == pass);
        self.runs.retain(|run| Rc::strong_count(run) > 1);
        self.pass += 1;
    }
}
