//! The environments of processes. Each is read when the process is new and whenever it has executed a program, and only what
//! a mode looks for is kept.

use std::io::ErrorKind;

use rustc_hash::FxHashMap;

use crate::sample::environ::MAX_BYTES;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// How often an environment without anything in it is read again: in the middle of exec it looks like that.
const EMPTY_LOOKS: u8 = 10;

/// What was found in the environment of each process.
#[derive(Debug)]
pub(crate) struct ProcessEnvironments<T> {
    known: FxHashMap<ProcessKey, ReadEnvironment<T>>,
    space: Vec<u8>,
    pass: u64,
    /// How many environments could not be read, for lack of a permission.
    pub(crate) forbidden: u64,
}

#[derive(Debug)]
struct ReadEnvironment<T> {
    /// The program that it ran when its environment was read last.
    program: ExecutedProgram,
    /// How often the environment of this program was empty.
    empty: u8,
    /// Whether the environment of this program has been read.
    is_read: bool,
    pass: u64,
    found: T,
}

/// Tells the programs apart that a process executes one after another, also those of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExecutedProgram {
    comm: Comm,
    stack_start: u64,
}

impl<T: Clone + Default + PartialEq> ProcessEnvironments<T> {
    /// Knows no process yet.
    pub(crate) fn new() -> Self {
        Self { known: FxHashMap::default(), space: vec![0; MAX_BYTES], pass: 0, forbidden: 0 }
    }

    /// Whether a process was there in this pass.
    pub(crate) fn is_present(&self, key: ProcessKey) -> bool {
        self.known.get(&key).is_some_and(|known| known.pass == self.pass)
    }

    /// What `find` finds in the environment of a process of this pass; what was found before if it cannot be read, and
    /// `told` if nothing was.
    pub(crate) fn of(
        &mut self,
        process: &Observation,
        table: &ProcessTable,
        told: Option<T>,
        find: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let program = ExecutedProgram { comm: process.comm, stack_start: process.stack_start };
        let known = self.known.get_mut(&process.key);
        // A zombie has no environment any more.
        let is_known =
            |known: &ReadEnvironment<T>| process.zombie || (known.program == program && known.is_read);
        if let Some(known) = known.filter(|known| is_known(known)) {
            known.pass = self.pass;
            return known.found.clone();
        }
        let known = self.known.get(&process.key);
        let before = known.map(|known| known.found.clone()).filter(|found| *found != T::default());
        let before = before.or(told).unwrap_or_default();
        let empty = known.filter(|known| known.program == program).map_or(0, |known| known.empty);
        let mut known = ReadEnvironment { program, empty, is_read: false, pass: self.pass, found: before };
        if !process.zombie {
            match table.read_beginning(process.key, "environ", &mut self.space) {
                // There may be something in a moment.
                Ok(0) => {
                    known.empty += 1;
                    known.is_read = known.empty >= EMPTY_LOOKS;
                }
                Ok(length) => {
                    known.found = find(&self.space[..length]);
                    // It holds the job's secrets.
                    self.space[..length].fill(0);
                    known.is_read = true;
                }
                Err(error) => {
                    self.forbidden += u64::from(error.kind() == ErrorKind::PermissionDenied);
                    known.is_read = true;
                }
            }
        }
        let found = known.found.clone();
        self.known.insert(process.key, known);
        found
    }

    /// Forgets the processes that were not in the pass.
    pub(crate) fn end_pass(&mut self) {
        let pass = self.pass;
        self.known.retain(|_, known| known.pass == pass);
        self.pass += 1;
    }
}
