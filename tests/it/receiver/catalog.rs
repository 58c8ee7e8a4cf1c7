//! Organizations, repositories, workflows and jobs.

use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

/// A receiver with some jobs; the last one is pushed last.
fn receiver(directory: &tempfile::TempDir) -> Receiver {
    let receiver = Receiver::start(&directory.path().join("db"));
    for (organization, repository, workflow, job, runs) in [
        ("my-org", "my-repo", "ci.yml", "build", 2),
        ("my-org", "my-repo", "ci.yml", "Prüfung", 1),
        ("my-org", "my-repo", "nightly.yml", "build", 1),
        ("my-org", "100%_other", "ci.yml", "build", 1),
        ("zz", "a/b", "ci.yml", "<script>", 3),
    ] {
        let token = receiver.token(&json!({"organization": organization}));
        let mut body = submission();
        for (field, value) in
            [("organization", organization), ("repository", repository), ("workflow", workflow), ("job", job)]
        {
            body[field] = json!(value);
        }
        for _ in 0..runs {
            assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
        }
    }
    receiver
}

fn get(receiver: &Receiver, path: &str) -> Vec<Value> {
    let answer = receiver.request("GET", path, READ_TOKEN, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json().as_array().unwrap().clone()
}

fn jobs(receiver: &Receiver, query: &str) -> Vec<String> {
    let jobs = get(receiver, &format!("/api/v1/jobs?{query}"));
    let name = |job: &Value| {
        format!(
            "{}/{}/{}",
            job["repository"].as_str().unwrap(),
            job["workflow"].as_str().unwrap(),
            job["job"].as_str().unwrap()
        )
    };
    jobs.iter().map(name).collect()
}

#[test]
fn groups_are_told_with_what_is_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = receiver(&directory);
    let organizations = get(&receiver, "/api/v1/organizations");
    let told: Vec<_> = organizations
        .iter()
        .map(|group| (group["organization"].as_str().unwrap(), &group["job_count"], &group["run_count"]))
        .collect();
    assert_eq!(told, [("my-org", &json!(4), &json!(5)), ("zz", &json!(1), &json!(3))]);
    assert!(organizations[0]["last_received_at"].as_str().unwrap().ends_with('Z'));
    assert!(organizations[0].get("repository").is_none());
    let repositories = get(&receiver, "/api/v1/repositories?organization=zz");
    assert_eq!(repositories[0]["repository"], "zz/a/b");
    assert_eq!(get(&receiver, "/api/v1/repositories?search=OTHER").len(), 1);
    let workflows = get(&receiver, "/api/v1/workflows?organization=my-org&repository=my-org%2Fmy-repo");
    let names: Vec<_> = workflows.iter().map(|group| group["workflow"].as_str().unwrap()).collect();
    assert_eq!(names, ["ci.yml", "nightly.yml"]);
    // Reading page by page gives the same entries.
    for (path, count) in [("organizations", 2), ("repositories", 3), ("workflows", 4), ("jobs", 5)] {
        let mut path = format!("/api/v1/{path}?limit=1");
        let mut pages = 0;
        loop {
            let answer = receiver.request("GET", &path, READ_TOKEN, "");
            assert_eq!(answer.json().as_array().unwrap().len(), 1, "{path}");
            pages += 1;
            let Some(link) = answer.header("link") else { break };
            path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        }
        assert_eq!(pages, count, "{path}");
    }
}

#[test]
fn jobs_are_sorted_searched_and_filtered() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = receiver(&directory);
    let by_name = [
        "my-org/100%_other/ci.yml/build",
        "my-org/my-repo/ci.yml/Prüfung",
        "my-org/my-repo/ci.yml/build",
        "my-org/my-repo/nightly.yml/build",
        "zz/a/b/ci.yml/<script>",
    ];
    assert_eq!(jobs(&receiver, "sort=name"), by_name);
    assert_eq!(jobs(&receiver, "sort=last_run")[0], "zz/a/b/ci.yml/<script>");
    assert_eq!(jobs(&receiver, "sort=waste").len(), 5);
    assert_eq!(jobs(&receiver, "sort=risk").len(), 5);
    assert_eq!(jobs(&receiver, "search=PR%C3%9CFUNG"), ["my-org/my-repo/ci.yml/Prüfung"]);
    assert_eq!(jobs(&receiver, "search=%25_"), ["my-org/100%_other/ci.yml/build"]);
    assert_eq!(jobs(&receiver, "search=%25").len(), 1);
    assert_eq!(jobs(&receiver, "search=my-repo/nightly").len(), 1);
    assert!(jobs(&receiver, "search=%27%20OR%201=1").is_empty());
    assert_eq!(jobs(&receiver, "repository=zz/a/b").len(), 1);
    assert_eq!(jobs(&receiver, "organization=my-org&repository=my-repo&workflow=ci.yml").len(), 2);
    assert_eq!(jobs(&receiver, "workflow=ci.yml").len(), 4);
    assert_eq!(jobs(&receiver, "since=2000-01-01T00:00:00Z").len(), 5);
    assert!(jobs(&receiver, "since=2100-01-01T00:00:00Z").is_empty());
    let answer = receiver.request("GET", "/api/v1/jobs/my-org/my-repo/ci.yml/build", READ_TOKEN, "");
    let job = answer.json();
    assert_eq!((&job["run_count"], &job["last_run"]), (&json!(2), &json!(2)));
    assert_eq!(
        receiver.request("GET", "/api/v1/jobs/my-org/my-repo/ci.yml/none", READ_TOKEN, "").status,
        404
    );
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_told_without_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = receiver(&directory);
    for (path, field) in [
        ("/api/v1/jobs?sort=size", "sort"),
        ("/api/v1/jobs?sort=Waste", "sort"),
        ("/api/v1/jobs?limit=0", "limit"),
        ("/api/v1/jobs?limit=1001", "limit"),
        ("/api/v1/jobs?after=x", "after"),
        ("/api/v1/jobs?sort=name&after=a/b", "after"),
        ("/api/v1/jobs?since=yesterday", "since"),
        ("/api/v1/jobs?organization=", "organization"),
        ("/api/v1/jobs?search=a&search=b", "search"),
        ("/api/v1/jobs?order=name", "order"),
        ("/api/v1/organizations?organization=a", "organization"),
        ("/api/v1/repositories?repository=a", "repository"),
        ("/api/v1/jobs/my-org/my-repo/ci.yml/build?limit=1", "limit"),
        ("/api/v1/runs/x", "id"),
        ("/api/v1/runs/-1", "id"),
        ("/api/v1/runs/9223372036854775808", "id"),
        ("/api/v1/compare?a=1", "b"),
        ("/api/v1/compare?a=1&b=0", "b"),
        ("/api/v1/export?format=xml", "format"),
        ("/api/v1/export?limit=1", "limit"),
    ] {
        let answer = receiver.request("GET", path, READ_TOKEN, "");
        assert_eq!((answer.status, &answer.json()["field"]), (422, &json!(field)), "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        assert_eq!(receiver.request("GET", path, "", "").status, 401, "{path}");
        assert_eq!(receiver.request("GET", path, &receiver.job_token(), "").status, 401, "{path}");
        assert_eq!(receiver.request("DELETE", path, READ_TOKEN, "").status, 405, "{path}");
    }
    assert_eq!(receiver.request("GET", "/api/v1/jobs?search=%ff", READ_TOKEN, "").status, 400);
}
