//! The first process of a container: its end is the container's, and tells how that went.

use std::path::Path;

use rustix::io::Errno;
use tracing::debug;

use super::endings::{Endings, WaitedFor};
use crate::sample::pidfd::{Ending, HeldProcess};
use crate::sample::process_table::ProcessKey;

/// How many looks wait for the kernel to report how a process ended. It does so once the parent has waited for it.
const MAX_LOOKS: u8 = 20;

/// The first process of one container, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct FirstProcess {
    held: Option<HeldProcess>,
    /// Its number among the processes whose end is waited for.
    waited_for: Option<WaitedFor>,
    /// The last process that was held. It may be in `/proc` for a while after its end.
    last_held: Option<ProcessKey>,
    /// The held process that ended, with the number of looks since.
    finished: Option<(HeldProcess, u8)>,
    /// Whether it could not be held. It is not tried again.
    is_refused: bool,
    ending: Option<Ending>,
}

impl FirstProcess {
    /// Whether this process could be the one to hold.
    pub(super) fn wants(&self, key: ProcessKey) -> bool {
        self.held.is_none() && !self.is_refused && self.last_held != Some(key)
    }

    /// Holds a process, whose end wakes the sampler.
    pub(super) fn hold(&mut self, key: ProcessKey, proc_path: &Path, endings: &Endings) {
        match HeldProcess::hold(proc_path, key) {
            Ok(held) => {
                self.waited_for = Some(endings.add(&held));
                (self.held, self.last_held) = (Some(held), Some(key));
            }
            // It has ended. There may be another one at the next look.
            Err(Errno::SRCH) => {}
            Err(error) => {
                debug!(%error, "the first process of a container cannot be held");
                self.is_refused = true;
            }
        }
    }

    /// The number of the held process among those whose end is waited for.
    pub(super) fn waited_for(&self) -> Option<WaitedFor> {
        self.waited_for.filter(|_| self.held.is_some())
    }

    /// Looks at it. Returns whether it has ended since the last look.
    pub(super) fn look(&mut self) -> bool {
        let ended = self.held.take_if(|held| held.has_ended());
        let has_ended = ended.is_some();
        if let Some(ended) = ended {
            self.finished = Some((ended, 0));
        }
        if let Some((process, looks)) = &mut self.finished {
            let ending = process.ending();
            *looks += 1;
            let is_over = ending.is_some() || *looks >= MAX_LOOKS;
            self.ending = ending.or(self.ending);
            if is_over {
                self.finished = None;
            }
        }
        has_ended
    }

    /// The container has another first process from now on.
    pub(super) fn begin_again(&mut self) {
        (self.held, self.is_refused) = (None, false);
    }

    /// How the last one that ended did so, if the kernel reported it.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }
}
