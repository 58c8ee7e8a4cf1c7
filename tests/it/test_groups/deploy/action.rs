//! The action's script, run as a runner runs it.

use std::process::{Command, Output};

use super::{program, read, yaml};

fn step(script: &str) -> Output {
    let action = &yaml(&read("deploy/action/action.yml"))[0];
    let step = &action["runs"]["steps"][0];
    let input = |name: &str| match name {
        "run" => script.to_owned(),
        "collector" => program("collector").display().to_string(),
        name => action["inputs"][name]["default"].as_str().unwrap().to_owned(),
    };
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]);
    for (name, value) in step["env"].as_object().unwrap() {
        let value = value.as_str().unwrap().strip_prefix("${{ inputs.").unwrap().strip_suffix(" }}").unwrap();
        bash.env(name, input(value));
    }
    bash.output().unwrap()
}

#[test]
fn a_step_is_measured_and_ends_as_it_would_alone() {
    let done = step("x=\"$(echo hello)\"; echo \"$x world\"");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "hello world\n");
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("Commands by CPU"), "{done:?}");
    assert_eq!(step("false; echo not reached").status.code(), Some(1));
    assert_eq!(step("exit 7").status.code(), Some(7));
    // The token is not in the job's environment.
    assert_eq!(String::from_utf8_lossy(&step("echo ${COLLECTOR_PUSH_TOKEN-none}").stdout), "none\n");
}
