//! Configuration of `node`: which variables name a job, when a job is over, what else is reported.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::limits::Entries;
use crate::args::{CiArg, NodeArgs, Options};
use crate::run_identity::RunIdentity;

/// The configuration that only `node` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The variables that name a job, one set for each CI system.
    pub variables: Vec<JobVariables>,
    /// A job is over when nothing of it has been alive for this long.
    pub job_idle: Duration,
    /// The scope of pods that are not CI jobs, if they are reported.
    pub report_other: Option<ScopeTemplate>,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where the kubelet keeps the logs of pods.
    pub pod_logs_path: PathBuf,
}

/// Names of the variables that identify a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobVariables {
    /// Organization; by default the part of the repository before its first slash.
    pub organization: Option<String>,
    /// Repository, with or without its organization.
    pub repository: String,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// Identifier of the run.
    pub run_id: String,
    /// Attempt of the run.
    pub run_attempt: Option<String>,
}

impl JobVariables {
    fn of(ci: CiArg) -> Self {
        let [organization, repository, workflow, job, run_id] = match ci {
            CiArg::Github => [
                "GITHUB_REPOSITORY_OWNER",
                "GITHUB_REPOSITORY",
                "GITHUB_WORKFLOW",
                "GITHUB_JOB",
                "GITHUB_RUN_ID",
            ],
            CiArg::Gitlab => [
                "CI_PROJECT_ROOT_NAMESPACE",
                "CI_PROJECT_PATH",
                "CI_CONFIG_PATH",
                "CI_JOB_NAME",
                "CI_PIPELINE_ID",
            ],
        }
        .map(ToOwned::to_owned);
        let run_attempt = (ci == CiArg::Github).then(|| "GITHUB_RUN_ATTEMPT".to_owned());
        Self { organization: Some(organization), repository, workflow, job, run_id, run_attempt }
    }

    fn parse(text: &str) -> Result<Self> {
        let example = "{\"repository\": \"MY_REPOSITORY\", \"workflow\": \"MY_WORKFLOW\", \"job\": \"MY_JOB\", \"run_id\": \"MY_RUN\"}";
        let entries: Entries<String> = serde_json::from_str(text)
            .with_context(|| format!("{text:?} is not a JSON object of strings such as {example}"))?;
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (field, name) in entries.0 {
            if name.is_empty() || name.contains(['=', '\0']) {
                bail!("{field:?}: {name:?} is not a variable name");
            }
            names.insert(field, name);
        }
        let mut optional = |field: &str| names.remove(field);
        let (organization, run_attempt) = (optional("organization"), optional("run_attempt"));
        let mut needed = |field: &str| {
            names
                .remove(field)
                .with_context(|| format!("{field:?} is missing; all fields of {example} are required"))
        };
        let (repository, workflow, job, run_id) =
            (needed("repository")?, needed("workflow")?, needed("job")?, needed("run_id")?);
        if let Some(field) = names.keys().next() {
            bail!("{field:?} is not one of organization, repository, workflow, job, run_id and run_attempt");
        }
        Ok(Self { organization, repository, workflow, job, run_id, run_attempt })
    }

    /// All names of variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let needed = [&self.repository, &self.workflow, &self.job, &self.run_id];
        let names = needed.into_iter().chain(&self.organization).chain(&self.run_attempt);
        names.map(String::as_str)
    }
}

/// The scope of a pod that is not a CI job, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeTemplate([String; 4]);

/// The values of the placeholders of a [`ScopeTemplate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodFacts<'a> {
    /// Namespace of the pod, or `unknown`.
    pub namespace: &'a str,
    /// Name of the pod, or its UID if the name is unknown.
    pub pod: &'a str,
    /// UID of the pod, or the id of a container that is in no pod.
    pub uid: &'a str,
}

impl ScopeTemplate {
    fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let Ok([organization, repository, workflow, job]) = <[&str; 4]>::try_from(parts) else {
            bail!("{text:?} does not have four parts such as platform/{{namespace}}/pods/{{pod}}");
        };
        let template = Self([organization, repository, workflow, job].map(ToOwned::to_owned));
        let facts = PodFacts { namespace: "n", pod: "p", uid: "u" };
        if let Some(left) = template.fill(facts).iter().find(|part| part.contains(['{', '}'])) {
            bail!("{text:?}: {left:?} has braces; {{namespace}}, {{pod}} and {{uid}} are accepted");
        }
        template.run(facts)?;
        Ok(template)
    }

    fn fill(&self, facts: PodFacts<'_>) -> [String; 4] {
        self.0.clone().map(|part| {
            let part = part.replace("{namespace}", facts.namespace).replace("{pod}", facts.pod);
            part.replace("{uid}", facts.uid)
        })
    }

    /// The run that such a pod is reported as.
    pub fn run(&self, facts: PodFacts<'_>) -> Result<RunIdentity> {
        let [organization, repository, workflow, job] = self.fill(facts);
        RunIdentity::new(Some(&organization), &repository, &workflow, &job, facts.uid, None)
    }
}

impl NodeConfig {
    pub(super) fn new(args: &NodeArgs, options: &Options) -> Result<Self> {
        let identity = [
            ("--organization", &options.organization),
            ("--repository", &options.repository),
            ("--workflow", &options.workflow),
            ("--job", &options.job),
            ("--run-id", &options.run_id),
            ("--run-attempt", &options.run_attempt),
            ("--variant", &options.variant),
        ];
        if let Some((flag, _)) = identity.iter().find(|(_, value)| super::given(value.as_ref()).is_some()) {
            bail!("{flag} identifies one run; node identifies each job by its environment");
        }
        if options.output_file.is_some() {
            bail!("--output-file holds one report; node writes one for each job, to standard output");
        }
        if args.job_idle.is_zero() {
            bail!("--job-idle is 0; give a job time between two of its processes, such as 60s");
        }
        let variables = match super::given(args.job_variables.as_ref()) {
            Some(text) => vec![JobVariables::parse(text).context("--job-variables")?],
            None => args.ci.iter().copied().map(JobVariables::of).collect(),
        };
        let report_other = super::given(args.report_other.as_ref());
        let metrics = match args.metrics_addr.as_str() {
            "none" | "" => None,
            text => Some(text.parse().ok().with_context(|| {
                format!("--metrics-addr {text:?} is neither none nor an address such as 127.0.0.1:9101")
            })?),
        };
        Ok(Self {
            variables,
            job_idle: args.job_idle,
            report_other: report_other.map(ScopeTemplate::parse).transpose().context("--report-other")?,
            metrics,
            pod_logs_path: args.pod_logs_path.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_of_a_ci_system_or_ones_own() {
        let github = JobVariables::of(CiArg::Github);
        assert_eq!(github.names().count(), 6);
        assert_eq!(JobVariables::of(CiArg::Gitlab).run_attempt, None);
        let own = r#"{"repository": "R", "workflow": "W", "job": "J", "run_id": "I"}"#;
        let own = JobVariables::parse(own).unwrap();
        assert_eq!((own.run_id.as_str(), &own.organization), ("I", &None));
        for (text, expected) in [
            (r#"{"repository": "R"}"#, "\"workflow\" is missing"),
            (
                r#"{"repository": "R", "workflow": "W", "job": "J", "run_id": "I", "x": "Y"}"#,
                "\"x\" is not one of",
            ),
            (r#"{"repository": "A=B", "workflow": "W", "job": "J", "run_id": "I"}"#, "not a variable name"),
            ("R", "MY_REPOSITORY"),
        ] {
            let message = format!("{:#}", JobVariables::parse(text).unwrap_err());
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_template_names_a_pods_run() {
        let template = ScopeTemplate::parse("platform/{namespace}/pods/{pod}-x").unwrap();
        let run = template.run(PodFacts { namespace: "ci", pod: "web-0", uid: "1234" }).unwrap();
        assert_eq!((run.repository.as_str(), run.job.as_str()), ("platform/ci", "web-0-x"));
        assert_eq!(run.run_id, "1234");
        for text in ["a/b/c", "a/b/c/d/e", "a//c/d", "a/b/c/{node}", ""] {
            assert!(ScopeTemplate::parse(text).is_err(), "{text}");
        }
    }
}
