//! Which CI job a pod runs: told by the environment of its processes, and decided from one pass to the next. Pure.

use std::rc::Rc;

use crate::config::RunIdentity;
use crate::config::node::JobVariables;
use crate::sample::environ::variable;

/// Whose a process is by its environment; `None`: it says nothing of a job, or nothing that can be.
pub fn identity(environ: &[u8], variables: &[JobVariables]) -> Option<RunIdentity> {
    variables.iter().find_map(|names| {
        let value = |name: &str| variable(environ, name).filter(|value| !value.is_empty());
        let run_id = value(&names.run_id)?;
        let organization = names.organization.as_deref().and_then(value);
        let attempt = names.run_attempt.as_deref().and_then(value).and_then(|text| text.parse().ok());
        let (repository, workflow, job) =
            (value(&names.repository)?, value(&names.workflow)?, value(&names.job)?);
        RunIdentity::new(organization, repository, workflow, job, run_id, attempt).ok()
    })
}

/// A process of a pod that says whose it is.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Whose.
    pub run: Rc<RunIdentity>,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Whether it descends from a process of the run that the pod has now: a job that plays at being another one.
    pub within: bool,
}

/// What a pass shows of a pod's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The job is the same as before, or there is still none; `alive`: something of it lives.
    Same {
        /// Whether a process that says so was seen.
        alive: bool,
    },
    /// There is another job.
    New {
        /// Whose.
        run: Rc<RunIdentity>,
        /// The start of its first process, in clock ticks since boot.
        since_ticks: u64,
    },
}

/// Decides which job a pod runs. `current`: the one it ran, and the start of its first process; `over`: jobs that others
/// took the place of, which do not come back, though something of them may live on.
pub fn decide(current: Option<(&RunIdentity, u64)>, over: &[Rc<RunIdentity>], seen: &[Sighting]) -> Verdict {
    let is_current = |run: &RunIdentity| current.is_some_and(|(current, _)| current == run);
    let alive = seen.iter().any(|one| is_current(&one.run));
    let began = current.map_or(0, |(_, since)| since);
    let latest = seen
        .iter()
        .filter(|one| !is_current(&one.run) && !one.within && one.start_ticks >= began)
        .filter(|one| !over.contains(&one.run))
        .max_by_key(|one| one.start_ticks);
    let Some(latest) = latest else { return Verdict::Same { alive } };
    let of_it = seen.iter().filter(|one| one.run == latest.run && !one.within);
    let since_ticks = of_it.map(|one| one.start_ticks).min().unwrap_or(latest.start_ticks);
    Verdict::New { run: Rc::clone(&latest.run), since_ticks: since_ticks.max(began) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<JobVariables> {
        let names = |prefix: &str, organization: Option<&str>, attempt: Option<&str>| JobVariables {
            organization: organization.map(ToOwned::to_owned),
            repository: format!("{prefix}REPOSITORY"),
            workflow: format!("{prefix}WORKFLOW"),
            job: format!("{prefix}JOB"),
            run_id: format!("{prefix}RUN"),
            run_attempt: attempt.map(ToOwned::to_owned),
        };
        vec![names("A_", Some("A_OWNER"), Some("A_ATTEMPT")), names("B_", None, None)]
    }

    fn run(id: &str) -> Rc<RunIdentity> {
        Rc::new(RunIdentity::new(Some("o"), "r", "w", "j", id, None).unwrap())
    }

    fn seen(id: &str, start_ticks: u64) -> Sighting {
        Sighting { run: run(id), start_ticks, within: false }
    }

    #[test]
    fn a_job_is_told_by_all_that_names_it() {
        let environ =
            b"PATH=/bin\0A_RUN=7\0A_REPOSITORY=my-org/my-repo\0A_WORKFLOW=ci\0A_JOB=build\0A_ATTEMPT=2\0";
        let found = identity(environ, &variables()).unwrap();
        assert_eq!((found.organization.as_str(), found.repository.as_str()), ("my-org", "my-org/my-repo"));
        assert_eq!((found.run_id.as_str(), found.run_attempt), ("7", Some(2)));
        let other =
            identity(b"A_RUN=7\0B_RUN=8\0B_REPOSITORY=g/s/p\0B_WORKFLOW=w\0B_JOB=j\0", &variables()).unwrap();
        assert_eq!((other.organization.as_str(), other.repository.as_str()), ("g", "g/s/p"));
        for incomplete in [
            b"A_RUN=7\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0".as_slice(),
            b"A_RUN=\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0A_JOB=b\0",
            b"A_RUN=7\0A_REPOSITORY=r\0A_WORKFLOW=ci\0A_JOB=b\0",
            b"A_RUN=7\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0A_JOB=b\nc\0",
            b"",
        ] {
            assert_eq!(identity(incomplete, &variables()), None);
        }
    }

    #[test]
    fn the_job_that_began_last_is_the_pods() {
        let new = |id: &str, since_ticks| Verdict::New { run: run(id), since_ticks };
        assert_eq!(decide(None, &[], &[]), Verdict::Same { alive: false });
        assert_eq!(decide(None, &[], &[seen("1", 10), seen("2", 30), seen("2", 20)]), new("2", 20));
        let first = run("1");
        let current = Some((&*first, 10));
        assert_eq!(decide(current, &[], &[seen("1", 50)]), Verdict::Same { alive: true });
        assert_eq!(decide(current, &[], &[seen("1", 50), seen("2", 40)]), new("2", 40));
        assert_eq!(decide(current, &[], &[seen("0", 5)]), Verdict::Same { alive: false }, "it was before");
    }

    #[test]
    fn a_job_that_is_over_does_not_come_back() {
        let second = run("2");
        let left = [seen("2", 20), seen("1", 90)];
        assert_eq!(decide(Some((&*second, 20)), &[run("1")], &left), Verdict::Same { alive: true });
    }

    #[test]
    fn a_job_within_a_job_is_part_of_it() {
        let outer = run("1");
        let inner = Sighting { within: true, ..seen("2", 90) };
        assert_eq!(decide(Some((&*outer, 10)), &[], &[seen("1", 10), inner]), Verdict::Same { alive: true });
    }
}
