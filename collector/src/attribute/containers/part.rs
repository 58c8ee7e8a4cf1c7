//! Which part of its pod a container is: one that the user asked for, or the sandbox that the runtime adds to hold the
//! namespaces. Cgroup paths do not show it, but its processes and their mounts do.

use serde::{Deserialize, Serialize};

use crate::sample::pid_stat::Comm;

/// The evidence about a container.
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
    /// A process that is neither `pause` nor the runtime's was in it.
    works: bool,
}

/// The part that follows from the evidence.
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

    /// Notes the name of one of its processes. `settled`: the process has had it for a while.
    pub(super) fn runs(&mut self, comm: Comm, settled: bool) {
        if comm.as_bytes() == b"pause" {
            self.pauses = true;
        } else if settled && !comm.is_runtimes() {
            self.works = true;
        }
    }

    /// Notes the name of an ended process, which passes may have missed. It is the name that the process began with, even
    /// if it renamed itself, so it does not count once a `pause` was seen.
    pub(super) fn ran(&mut self, comm: Comm) {
        if !self.pauses {
            self.runs(comm, true);
        }
    }

    /// Mounts decide. Processes decide only if nothing else is known, because a sandbox runs one program forever.
    pub(super) fn part(self) -> Part {
        match self {
            Self { asked_for: true, .. } => Part::Container,
            Self { sandbox: true, .. } => Part::Sandbox,
            Self { works: true, .. } => Part::Container,
            Self { pauses: true, .. } => Part::Sandbox,
            _ => Part::Unknown,
        }
    }

    /// Whether the part can no longer change.
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
        // A container of a user who likes the image.
        let mut evidence = Evidence::default();
        evidence.runs(Comm::new(b"pause"), true);
        evidence.is_asked_for();
        assert_eq!(evidence.part(), Part::Container);
    }
}
