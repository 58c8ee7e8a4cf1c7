//! `deploy/` and the documents, checked against Kubernetes' schemas, systemd and the shipped programs.

mod action;
mod documents;
mod manifests;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::program::path;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path of a shipped program.
fn program(name: &str) -> PathBuf {
    path(&format!("{}_BIN", name.to_uppercase()), name)
}

/// The path of a program in the virtual environment that the group `deploy` of `cargo xtask test` makes.
fn tool(name: &str) -> PathBuf {
    let directory =
        std::env::var_os("DEPLOY_TOOLS").expect("the group deploy of `cargo xtask test` sets DEPLOY_TOOLS");
    Path::new(&directory).join(name)
}

/// All documents of a YAML text.
fn yaml(text: &str) -> Vec<Value> {
    let script =
        "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.argv[1]) if d], sys.stdout)";
    let output =
        Command::new(tool("python")).args(["-c", script, text]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Has a shipped program parse these words as its command line, up to `--`: the words after it belong to another program.
#[track_caller]
fn assert_taken(name: &str, words: &[String], from: &str) {
    let own: Vec<_> = words.iter().take_while(|word| *word != "--").collect();
    let mut command = Command::new(program(name));
    command.args(&own).arg("--help").env_clear();
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{from}: {name} {own:?}: {told}");
}

/// The help texts of a program and its commands.
fn help(name: &str, commands: &[&str]) -> String {
    let ask = |command: &[&str]| {
        let output = Command::new(program(name)).args(command).arg("--help").env_clear().output().unwrap();
        assert!(output.status.success(), "{name} {command:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut text = ask(&[]);
    for command in commands {
        text.push_str(&ask(&[command]));
    }
    text
}

/// The names of this project's variables in a text.
fn variables(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let ours = ["COLLECTOR_", "RECEIVER_", "CGROUP_"];
    let found =
        words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len()));
    found.filter(|word| !word.ends_with('_')).collect()
}

#[track_caller]
fn assert_variables(text: &str, from: &str) {
    let known = help("collector", &["node"]) + &help("receiver", &["health", "backup", "token"]);
    // `collector step` sets it.
    for name in variables(text).into_iter().filter(|name| *name != "COLLECTOR_STEP") {
        assert!(known.contains(&format!("[env: {name}")), "{from}: neither program has {name}");
    }
}
