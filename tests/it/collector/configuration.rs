//! Configuration errors are reported before anything is measured.

use tests::program::collector;

fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = collector();
    let ci =
        ["GITHUB_REPOSITORY_OWNER", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW", "GITHUB_JOB", "GITHUB_RUN_ID"];
    for name in ci {
        command.env_remove(name);
    }
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn bad_flags_are_named_with_what_would_be_accepted() {
    let cases: [(&[&str], &[(&str, &str)], &[&str]); 14] = [
        (&["--interval=2"], &[], &["\"2\" is not a duration", "1m30s"]),
        (&["--interval=5ms"], &[], &["--interval is 5ms", "10ms"]),
        (&["--proc-path=/nowhere"], &[], &["--proc-path /nowhere"]),
        (&["--proc-path=/usr"], &[], &["--proc-path /usr is not a proc tree"]),
        (&["--cgroup-path=/nowhere"], &[], &["--cgroup-path /nowhere"]),
        (&["--log-level=loud"], &[], &["loud", "debug, info, warn, error"]),
        (&["--top=100000"], &[], &["--top is 100000", "1000"]),
        (&["--shutdown-timeout=0"], &[], &["--shutdown-timeout"]),
        (
            &["--push-endpoint=receiver:8080", "--push-token=x"],
            &[],
            &["receiver:8080", "http://receiver:8080/api/v1/metrics"],
        ),
        (&["--push-endpoint=http://x/"], &[], &["--push-token", "--push-token-file"]),
        (&["--push-token-file=/nowhere", "--push-endpoint=http://x/"], &[], &["/nowhere"]),
        (
            &[],
            &[("CGROUP_LIMITS", r#"{"runner": {"memory": "1GiB"}}"#)],
            &["CGROUP_LIMITS", "\"runner\"", "\"memory\"", "\"1GiB\"", "128Mi"],
        ),
        (
            &[],
            &[("CGROUP_PROCESS_MAP", "node=runner")],
            &["CGROUP_PROCESS_MAP", "line 1", "{\"node\": \"runner\"}"],
        ),
        (&["run"], &[], &["COMMAND"]),
    ];
    for (arguments, environment, expected) in cases {
        let message = refused(arguments, environment);
        for part in expected {
            assert!(message.contains(part), "{arguments:?} {environment:?}: {part} is not in\n{message}");
        }
    }
}

#[test]
fn all_missing_scope_variables_are_named_at_once() {
    let push = ["--push-endpoint=http://127.0.0.1:1/", "--push-token=t0ken"];
    let message = refused(&push, &[("GITHUB_REPOSITORY", "my-org/my-repo")]);
    for part in ["GITHUB_WORKFLOW", "GITHUB_JOB", "GITHUB_RUN_ID"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("GITHUB_REPOSITORY_OWNER"), "the repository tells the owner: {message}");
    assert!(!message.contains("t0ken"));
}
