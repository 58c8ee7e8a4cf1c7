//! What the variables of a CI system say about a run. Pure.
//!
//! The variables are those of the documentation of GitHub, Forgejo, Gitea, GitLab and Woodpecker. Forgejo and Gitea set
//! GitHub's variables, too, so their own come first.

use serde::Deserialize;
use wire::{CiContext, normal_name, normal_variant, url_fault};

/// The variable that names the leg of a matrix: no CI system but GitLab says it.
pub const VARIANT: &str = "COLLECTOR_VARIANT";

/// Reads the context of a run. `variable` returns the value of a variable.
pub fn context(variable: impl Fn(&str) -> Option<String>) -> CiContext {
    let value =
        |name: &str| variable(name).map(|value| normal_name(&value)).filter(|value| !value.is_empty());
    let first = |names: &[&str]| names.iter().find_map(|name| value(name));
    let is_true = |name: &str| value(name).is_some_and(|value| value == "true");
    let system = if is_true("FORGEJO_ACTIONS") {
        Some("forgejo".to_owned())
    } else if is_true("GITEA_ACTIONS") {
        Some("gitea".to_owned())
    } else if is_true("GITLAB_CI") {
        Some("gitlab".to_owned())
    } else if is_true("GITHUB_ACTIONS") {
        Some("github".to_owned())
    } else {
        // Woodpecker and others name themselves.
        value("CI_SYSTEM_NAME")
    };
    let event =
        first(&["FORGEJO_EVENT_NAME", "GITHUB_EVENT_NAME", "CI_PIPELINE_SOURCE", "CI_PIPELINE_EVENT"]);
    CiContext {
        variant: variant(&variable),
        git_ref: first(&["FORGEJO_REF", "GITHUB_REF", "CI_COMMIT_REF", "CI_COMMIT_REF_NAME"]),
        sha: first(&["FORGEJO_SHA", "GITHUB_SHA", "CI_COMMIT_SHA"]),
        fork: is_fork(event.as_deref(), value),
        url: url(system.as_deref(), &variable),
        runner_name: first(&["RUNNER_NAME", "CI_RUNNER_DESCRIPTION", "CI_MACHINE"]),
        runner_labels: first(&["RUNNER_LABELS", "CI_RUNNER_TAGS"]),
        result: None,
        system,
        event,
    }
}

/// The variant alone: with the names of a job, it identifies a run.
pub fn variant(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    // GitLab's `parallel`: which of several equal jobs this is.
    let parallel = || {
        let value =
            |name: &str| variable(name).map(|value| normal_name(&value)).filter(|value| !value.is_empty());
        let (index, total) = (value("CI_NODE_INDEX")?, value("CI_NODE_TOTAL")?);
        (total != "1").then(|| format!("{index}/{total}"))
    };
    variable(VARIANT).and_then(|text| normal_variant(&text)).or_else(parallel)
}

/// Whether the code is a fork's, as far as variables say it.
fn is_fork(event: Option<&str>, value: impl Fn(&str) -> Option<String>) -> Option<bool> {
    if let (Some(from), Some(to)) =
        (value("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH"), value("CI_MERGE_REQUEST_PROJECT_PATH"))
    {
        return Some(from != to);
    }
    // Only a request to merge brings other people's code.
    let may_be =
        |event: &str| event.contains("request") || event.starts_with("issue") || event == "workflow_run";
    event.filter(|event| !may_be(event)).map(|_| false)
}

/// The page of the run. Forgejo and Gitea number the runs of a repository, GitHub has the id in its address.
fn url(system: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    let made = || {
        let (server, repository) = (value("GITHUB_SERVER_URL")?, value("GITHUB_REPOSITORY")?);
        let run = match system {
            Some("forgejo" | "gitea") => value("GITHUB_RUN_NUMBER")?,
            _ => value("GITHUB_RUN_ID")?,
        };
        Some(format!("{}/{repository}/actions/runs/{run}", server.trim_end_matches('/')))
    };
    let named = ["CI_JOB_URL", "CI_STEP_URL", "CI_PIPELINE_URL"].into_iter().find_map(value);
    named.or_else(made).filter(|url| url_fault(url).is_none())
}

/// The part of a pull request's event that says where its code is from.
#[derive(Debug, Deserialize)]
struct PullRequestEvent {
    pull_request: Option<PullRequest>,
}

#[derive(Debug, Deserialize)]
struct PullRequest {
    head: Option<Side>,
    base: Option<Side>,
}

#[derive(Debug, Deserialize)]
struct Side {
    repo: Option<Repository>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: Option<String>,
}

/// Whether a pull request is a fork's, by the event that the CI system wrote to a file (`GITHUB_EVENT_PATH`).
pub fn is_fork_by_event(event: &[u8]) -> Option<bool> {
    let request = serde_json::from_slice::<PullRequestEvent>(event).ok()?.pull_request?;
    // The repository of a deleted fork is null.
    let name =
        |side: Option<Side>| side.and_then(|side| side.repo).and_then(|repository| repository.full_name);
    let base = name(request.base)?;
    Some(name(request.head).is_none_or(|head| head != base))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> CiContext {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        context(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    fn texts(context: &CiContext) -> Vec<String> {
        let texts = context.texts().into_iter().filter_map(|(name, text)| Some(format!("{name}={}", text?)));
        texts.chain(context.url.clone()).chain(context.fork.map(|fork| format!("fork={fork}"))).collect()
    }

    #[test]
    fn each_system_is_recognised_by_what_it_sets() {
        let common = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://ci.example/"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_RUN_ID", "1234"),
            ("GITHUB_RUN_NUMBER", "7"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_SHA", "abc"),
            ("GITHUB_EVENT_NAME", "push"),
            ("RUNNER_NAME", "r1"),
        ];
        let github = of(&common);
        let shown = "system=github ref=refs/heads/main sha=abc event=push runner_name=r1 https://ci.example/o/r/actions/runs/1234 fork=false";
        assert_eq!(texts(&github).join(" "), shown);
        let forgejo =
            of(&[&common[..], &[("FORGEJO_ACTIONS", "true"), ("FORGEJO_REF", "refs/tags/v1")]].concat());
        assert_eq!(
            (forgejo.system.as_deref(), forgejo.git_ref.as_deref()),
            (Some("forgejo"), Some("refs/tags/v1"))
        );
        assert_eq!(forgejo.url.as_deref(), Some("https://ci.example/o/r/actions/runs/7"));
        assert_eq!(
            of(&[&common[..], &[("GITEA_ACTIONS", "true")]].concat()).system.as_deref(),
            Some("gitea")
        );
        let gitlab = of(&[
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_REF_NAME", "main"),
            ("CI_COMMIT_SHA", "abc"),
            ("CI_PIPELINE_SOURCE", "merge_request_event"),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", "fork/r"),
            ("CI_MERGE_REQUEST_PROJECT_PATH", "o/r"),
            ("CI_JOB_URL", "https://gitlab.example/o/r/-/jobs/9"),
            ("CI_NODE_INDEX", "2"),
            ("CI_NODE_TOTAL", "3"),
            ("CI_RUNNER_TAGS", "[\"big\"]"),
        ]);
        let shown = "system=gitlab variant=2/3 ref=main sha=abc event=merge_request_event runner_labels=[\"big\"] https://gitlab.example/o/r/-/jobs/9 fork=true";
        assert_eq!(texts(&gitlab).join(" "), shown);
        let woodpecker = of(&[
            ("CI_SYSTEM_NAME", "woodpecker"),
            ("CI_PIPELINE_EVENT", "push"),
            ("CI_NODE_INDEX", "1"),
            ("CI_NODE_TOTAL", "1"),
        ]);
        assert_eq!(texts(&woodpecker).join(" "), "system=woodpecker event=push fork=false");
        assert!(of(&[]).is_empty() && of(&[("GITHUB_REF", " "), (VARIANT, "null")]).is_empty());
        assert_eq!(of(&[(VARIANT, "{\"b\": 1, \"a\": 2}")]).variant.as_deref(), Some("{\"a\":2,\"b\":1}"));
        assert_eq!(of(&[("CI_JOB_URL", "javascript:alert(1)")]).url, None);
    }

    #[test]
    fn a_pull_request_is_a_forks_if_its_code_is_from_another_repository() {
        let event = |head: &str| {
            format!(
                "{{\"pull_request\":{{\"head\":{{\"repo\":{head}}},\"base\":{{\"repo\":{{\"full_name\":\"o/r\"}}}}}}}}"
            )
        };
        assert_eq!(is_fork_by_event(event("{\"full_name\":\"o/r\"}").as_bytes()), Some(false));
        assert_eq!(is_fork_by_event(event("{\"full_name\":\"x/r\"}").as_bytes()), Some(true));
        assert_eq!(is_fork_by_event(event("null").as_bytes()), Some(true));
        for nothing in ["{}", "", "[]", "{\"pull_request\":null}"] {
            assert_eq!(is_fork_by_event(nothing.as_bytes()), None, "{nothing}");
        }
        assert_eq!(of(&[("GITHUB_EVENT_NAME", "pull_request")]).fork, None);
    }
}
