//! Which CI job a pod runs, according to the environments of its processes. Each pass decides. Pure.

use wire::{CiContext, normal_name};

use crate::args::STEP_VARIABLE;
use crate::ci_context;
use crate::config::node::JobVariables;
use crate::run_identity::RunIdentity;
use crate::sample::environ::variable;

/// The job that the environment of a process names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// No job.
    Nobody,
    /// A job of this run.
    Run(Box<RunIdentity>),
    /// A job whose run cannot be identified.
    Unusable {
        /// The run's identifier.
        run_id: String,
        /// What is missing, or is not a valid name.
        why: String,
    },
}

/// What an environment says about its run. It takes more than [`identity`] does: once for each run is enough.
pub fn context(environ: &[u8]) -> CiContext {
    ci_context::context(|name| variable(environ, name).map(ToOwned::to_owned))
}

/// The variables that name a step of a job: those of `collector step`, of GitHub, Forgejo and Gitea, and of Woodpecker.
const STEP_VARIABLES: [&str; 3] = [STEP_VARIABLE, "GITHUB_ACTION", "CI_STEP_NAME"];

/// The step of its job that an environment names.
pub fn step(environ: &[u8]) -> Option<String> {
    let name = STEP_VARIABLES
        .iter()
        .find_map(|name| variable(environ, name).map(normal_name).filter(|step| !step.is_empty()))?;
    // GitHub's name of the second step with `run:` that has no id of its own.
    let unnamed = name.strip_prefix("__run").map(|number| number.trim_start_matches('_').to_owned());
    Some(match unnamed {
        Some(number) if number.is_empty() => "run 1".to_owned(),
        Some(number) => format!("run {number}"),
        // Gitea's and Forgejo's number of a step without an id.
        None if name.bytes().all(|byte| byte.is_ascii_digit()) => format!("step {name}"),
        None => name,
    })
}

/// Reads the job of a process from its environment; of the run's context only the variant.
pub fn identity(environ: &[u8], variables: &[JobVariables]) -> Named {
    let mut unusable = Named::Nobody;
    for names in variables {
        let value = |name: &str| variable(environ, name).filter(|value| !value.is_empty());
        let Some(run_id) = value(&names.run_id) else { continue };
        let why = match run_of(names, run_id, value) {
            Ok(mut run) => {
                run.ci.variant = ci_context::variant(|name| value(name).map(ToOwned::to_owned));
                return Named::Run(Box::new(run));
            }
            Err(why) => why,
        };
        if unusable == Named::Nobody {
            unusable = Named::Unusable { run_id: normal_name(run_id), why };
        }
    }
    unusable
}

fn run_of<'a>(
    names: &JobVariables,
    run_id: &str,
    value: impl Fn(&str) -> Option<&'a str>,
) -> Result<RunIdentity, String> {
    let needed = |name: &str| value(name).ok_or_else(|| format!("{name} is not set, or empty"));
    let organization = names.organization.as_deref().and_then(&value);
    let attempt = names.run_attempt.as_deref().and_then(&value).and_then(|text| text.trim().parse().ok());
    let (repository, workflow, job) =
        (needed(&names.repository)?, needed(&names.workflow)?, needed(&names.job)?);
    let run = RunIdentity::new(organization, repository, workflow, job, run_id, attempt);
    run.map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_named_by_whoever_is_nearest_to_it() {
        for (environ, expected) in [
            (&b"GITHUB_ACTION=build\0"[..], Some("build")),
            (b"GITHUB_ACTION=__run\0", Some("run 1")),
            (b"GITHUB_ACTION=__run_4\0", Some("run 4")),
            (b"GITHUB_ACTION=2\0", Some("step 2")),
            (b"GITHUB_ACTION=build\0COLLECTOR_STEP=link\nall\0", Some("link all")),
            (b"COLLECTOR_STEP=\0CI_STEP_NAME=test\0", Some("test")),
            (b"GITHUB_ACTIONS=true\0", None),
        ] {
            assert_eq!(step(environ).as_deref(), expected);
        }
    }

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

    #[test]
    fn a_job_is_told_by_all_that_names_it() {
        let environ =
            b"PATH=/bin\0A_RUN=7\0A_REPOSITORY=my-org/my-repo\0A_WORKFLOW=ci\0A_JOB=build\0A_ATTEMPT=2\0";
        let run = |environ: &[u8]| match identity(environ, &variables()) {
            Named::Run(run) => *run,
            other => panic!("{other:?}"),
        };
        let found = run(environ);
        assert_eq!((found.organization.as_str(), found.repository.as_str()), ("my-org", "my-org/my-repo"));
        assert_eq!((found.run_id.as_str(), found.run_attempt), ("7", Some(2)));
        let other = run(b"A_RUN=7\0B_RUN=8\0B_REPOSITORY=g/s/p\0B_WORKFLOW=w\0B_JOB=j\0");
        assert_eq!((other.organization.as_str(), other.repository.as_str()), ("g", "g/s/p"));
        let cleaned = run(b"A_RUN=7\n\0A_REPOSITORY=o/r\0A_WORKFLOW=ci: Build\n\0A_JOB=b\nc\0A_ATTEMPT=x\0");
        assert_eq!((cleaned.workflow.as_str(), cleaned.job.as_str()), ("ci: Build", "b c"));
        assert_eq!((cleaned.run_id.as_str(), cleaned.run_attempt), ("7", None));
        for (incomplete, expected) in [
            (b"A_RUN=7\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0".as_slice(), "A_JOB is not set, or empty"),
            (b"A_RUN=7\0A_REPOSITORY=r\0A_WORKFLOW=ci\0A_JOB=b\0", "organization: is empty"),
            (b"A_RUN=7\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0A_JOB= \n\0", "job: is empty"),
        ] {
            let unusable = Named::Unusable { run_id: "7".to_owned(), why: expected.to_owned() };
            assert_eq!(identity(incomplete, &variables()), unusable);
        }
        for nothing in [b"A_RUN=\0A_REPOSITORY=o/r\0A_WORKFLOW=ci\0A_JOB=b\0".as_slice(), b"", b"PATH=/bin\0"]
        {
            assert_eq!(identity(nothing, &variables()), Named::Nobody);
        }
    }
}
