//! Which part of its pod a container is: one that somebody asked for, or the sandbox that the runtime adds to hold the
//! namespaces. No cgroup path tells; what its processes are and what is mounted for them does.

use serde::{Deserialize, Serialize};

use crate::sample::pid_stat::Comm;

/// What is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an observation of its own, and any of them may be made"
)]
pub(super) struct Evidence {
    /// A kubelet mounted something for it, or made a log for it.
    asked_for: bool,
    /// The `resolv.conf` of its pod is kept under its id.
    sandbox: bool,
    /// A process called `pause` was in it.
    pauses: bool,
    /// A process that is neither that nor the runtime's was in it.
    works: bool,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// One of the pod's containers.
    Container,
    /// Its sandbox.
    Sandbox,
    /// It may be either.
    Unknown,
}

impl Evidence {
    pub(super) fn is_asked_for(&mut self) {
        self.asked_for = true;
    }

    pub(super) fn is_sandbox(&mut self) {
        self.sandbox = true;
    }

    /// A process of it is called so; `settled`: it has been for a while.
    pub(super) fn runs(&mut self, comm: Comm, settled: bool) {
        if comm.as_bytes() == b"pause" {
            self.pauses = true;
        } else if settled && !comm.is_runtimes() {
            self.works = true;
        }
    }

    /// A process of it that no pass need have seen ended under this name; the name that it began with, where it has given
    /// itself another, so that what was seen to pause is not taken for anything else.
    pub(super) fn ran(&mut self, comm: Comm) {
        if !self.pauses {
            self.runs(comm, true);
        }
    }

    /// What is mounted decides; what runs does where nothing else is known: a sandbox runs one thing for ever.
    pub(super) fn part(self) -> Part {
        match self {
            Self { asked_for: true, .. } => Part::Container,
            Self { sandbox: true, .. } => Part::Sandbox,
            Self { works: true, .. } => Part::Container,
            Self { pauses: true, .. } => Part::Sandbox,
            _ => Part::Unknown,
        }
    }

    /// Whether nothing can change it any more.
    pub(super) fn is_certain(self) -> bool {
        self.asked_for || self.sandbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(processes: &[(&[u8], bool)]) -> Part {
        let mut evidence = Evidence::default();
        for (name, settled) in processes {
            evidence.runs(Comm::new(name), *settled);
        }
        evidence.part()
    }

    #[test]
    fn what_runs_in_it_tells_where_nothing_else_does() {
        assert_eq!(of(&[]), Part::Unknown);
        assert_eq!(of(&[(b"runc:[2:INIT]", true), (b"6", true), (b"exe", true)]), Part::Unknown);
        assert_eq!(of(&[(b"runc:[2:INIT]", true), (b"pause", false)]), Part::Sandbox);
        assert_eq!(of(&[(b"sh", false)]), Part::Unknown, "it may be about to become something else");
        assert_eq!(of(&[(b"pause", true), (b"sh", true)]), Part::Container);
        let mut evidence = Evidence::default();
        evidence.ran(Comm::new(b"make"));
        assert_eq!(evidence.part(), Part::Container, "no pass saw it");
        let mut evidence = Evidence::default();
        evidence.runs(Comm::new(b"pause"), true);
        evidence.ran(Comm::new(b"infra"));
        assert_eq!(evidence.part(), Part::Sandbox, "it was executed under another name");
    }

    #[test]
    fn what_is_mounted_decides() {
        let mut evidence = Evidence::default();
        evidence.runs(Comm::new(b"pod"), true);
        evidence.is_sandbox();
        assert_eq!(evidence.part(), Part::Sandbox, "whatever its program is called");
        // A container of somebody who likes the image.
        let mut evidence = Evidence::default();
        evidence.runs(Comm::new(b"pause"), true);
        evidence.is_asked_for();
        assert_eq!(evidence.part(), Part::Container);
    }
}
