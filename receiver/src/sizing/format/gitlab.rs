//! Variables of GitLab's Kubernetes executor, which names a job's containers `build`, `helper` and `svc-0`, `svc-1` …

use std::fmt::Write as _;

use super::super::recommendation::{ContainerSizing, Sizing, Status};
use super::recommended;
use super::text::{comment, quoted, subject, window};

/// The variables for `.gitlab-ci.yml`.
pub(super) fn variables(sizing: &Sizing) -> String {
    let mut text = comment("", &format!("{}: {}", subject(sizing), window(&sizing.window)));
    text += &comment(
        "",
        "The runner must allow them: cpu_request_overwrite_max_allowed and the like in its config.toml.",
    );
    let mut of: [(&str, Vec<&ContainerSizing>); 3] =
        [("", vec![]), ("HELPER_", vec![]), ("SERVICE_", vec![])];
    for container in &sizing.containers {
        let place = match container.name.as_str() {
            "build" => 0,
            "helper" => 1,
            name if is_service(name) => 2,
            name => {
                text += &comment("", &format!("GitLab has no container called {name}"));
                continue;
            }
        };
        if container.status == Status::InsufficientData {
            text += &comment(
                "",
                &format!("{}: insufficient data, {}", container.name, container.memory.reasons.join("; ")),
            );
        } else {
            of[place].1.push(container);
        }
    }
    let mut lines = String::new();
    for (infix, containers) in &of {
        // All services share one setting.
        let cpu = containers.iter().max_by(|a, b| cores(a).total_cmp(&cores(b)));
        let memory = containers.iter().max_by_key(|one| one.memory.request_bytes);
        let limit = containers.iter().max_by(|a, b| limit(a).total_cmp(&limit(b)));
        for (name, value) in [
            ("CPU_REQUEST", cpu.and_then(|one| one.cpu.request.as_ref())),
            ("CPU_LIMIT", limit.and_then(|one| one.cpu.limit.as_ref())),
            ("MEMORY_REQUEST", memory.and_then(|one| one.memory.request.as_ref())),
            ("MEMORY_LIMIT", memory.and_then(|one| one.memory.request.as_ref())),
        ] {
            if let Some(value) = value {
                let _ = writeln!(lines, "  KUBERNETES_{infix}{name}: {}", quoted(value));
            }
        }
        for container in containers {
            for reason in container.cpu.reasons.iter().chain(&container.memory.reasons) {
                text += &comment("", &format!("{}: {reason}", container.name));
            }
        }
    }
    if lines.is_empty() {
        let names: Vec<_> = recommended(sizing).map(|one| one.name.as_str()).collect();
        if !names.is_empty() {
            text += &comment("", "nothing to set: GitLab's containers are called build, helper and svc-0");
        }
        return text + "variables: {}\n";
    }
    text + "variables:\n" + &lines
}

fn is_service(name: &str) -> bool {
    name.strip_prefix("svc-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn cores(container: &ContainerSizing) -> f64 {
    container.cpu.request_cores.unwrap_or(0.0)
}

fn limit(container: &ContainerSizing) -> f64 {
    container.cpu.limit_cores.unwrap_or(0.0)
}
