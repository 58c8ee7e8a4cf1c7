//! The documents: their command lines, variables and messages match the programs.

use std::fmt::Write;
use std::path::Path;

use super::{assert_taken, assert_variables, read, root};

const DOCUMENTS: [&str; 10] = [
    "try.md",
    "kubernetes.md",
    "runners.md",
    "sidecar.md",
    "no-privileges.md",
    "keys.md",
    "backup.md",
    "figures.md",
    "images.md",
    "troubleshooting.md",
];

/// The lines of a document's shell blocks, with continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.replace("\\\n", " ").lines() {
        match line.strip_prefix("```") {
            Some(kind) => inside = !inside && kind == "sh",
            None if inside => lines.push(line.split(" #").next().unwrap_or_default().to_owned()),
            None => {}
        }
    }
    lines
}

/// The name and arguments of each of this project's programs in a line of shell.
fn invocations(line: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for command in line.split(['|', ';', '&', '(', ')', '>']) {
        let words: Vec<_> = command.split_whitespace().collect();
        let first = words.iter().position(|word| !word.contains('=') && *word != "sudo");
        let Some(first) = first else { continue };
        let name = Path::new(words[first]).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "collector" || name == "receiver" {
            let words = words[first + 1..].iter().map(|word| word.trim_matches(['"', '\'']).to_owned());
            found.push((name, words.collect()));
        }
    }
    found
}

#[test]
fn the_programs_take_every_command_line_that_is_printed() {
    let mut found = 0;
    for document in DOCUMENTS {
        for line in commands(&read(format!("docs/{document}"))) {
            for (name, words) in invocations(&line) {
                assert_taken(&name, &words, document);
                found += 1;
            }
        }
    }
    assert!(found >= 9, "{found}");
}

#[test]
fn there_is_every_variable_that_is_named() {
    for document in DOCUMENTS {
        assert_variables(&read(format!("docs/{document}")), document);
    }
    assert_variables(&read("deploy/action/action.yml").replace("COLLECTOR:", ""), "action.yml");
    assert_variables(&read("deploy/images/Dockerfile"), "Dockerfile");
    assert_variables(&read("tests/docker/docker-compose-stress.yaml"), "docker-compose-stress.yaml");
}

#[test]
fn there_is_every_file_that_is_linked() {
    for document in
        DOCUMENTS.map(|name| format!("docs/{name}")).into_iter().chain(["deploy/runners/README.md".into()])
    {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let path = root().join(Path::new(&document).parent().unwrap()).join(link);
            assert!(path.exists(), "{document}: {link}");
        }
    }
}

/// All sources of the programs, with continued strings joined.
fn sources() -> String {
    let mut text = String::new();
    let packages = ["collector", "receiver", "collector-ebpf", "program"];
    let mut directories: Vec<_> = packages.iter().map(|package| root().join(package).join("src")).collect();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let _ = writeln!(text, "{}", std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut joined = String::new();
    let mut parts = text.split("\\\n");
    joined.push_str(parts.next().unwrap());
    for part in parts {
        joined.push_str(part.trim_start());
    }
    joined
}

#[test]
fn the_programs_say_every_message_that_is_explained() {
    let sources = sources();
    let in_a_cluster = read("docs/kubernetes.md");
    // The document also explains messages of Kubernetes.
    let (_, ours) = in_a_cluster.split_once("### The collector says").unwrap();
    let (ours, _) = ours.split_once("### No run").unwrap();
    let document = read("docs/troubleshooting.md") + ours;
    let mut found = 0;
    for row in document.lines().filter_map(|line| line.strip_prefix("| `")) {
        let message = row.split('`').next().unwrap();
        // An ellipsis stands for the variable parts of a message.
        for part in message.split('…').map(str::trim).filter(|part| part.len() > 3) {
            assert!(sources.contains(part), "no program says {part:?}");
            found += 1;
        }
    }
    assert!(found >= 30, "{found}");
}
