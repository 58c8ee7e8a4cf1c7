//! Formats for a pod's specification.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, de};
use utoipa::{IntoParams, ToSchema};

use super::super::recommendation::{ContainerSizing, Sizing, Status};
use super::recommended;
use super::text::{comment, quoted, subject, window};

/// The longest name of a container (RFC 1123 label).
const MAX_LABEL: usize = 63;
/// The longest name of an object (RFC 1123 subdomain).
const MAX_NAME: usize = 253;

/// The object that a patch is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Target {
    /// Name of the object that a patch is for; by default the job's, without what Kubernetes does not accept.
    #[serde(deserialize_with = "object_name")]
    #[param(max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    name: Option<String>,
    /// Its kind; `Deployment` by default.
    #[param(inline)]
    kind: Kind,
}

/// Kinds that hold a pod's specification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
enum Kind {
    CronJob,
    DaemonSet,
    #[default]
    Deployment,
    Job,
    Pod,
    ReplicaSet,
    StatefulSet,
}

impl Kind {
    fn api_version(self) -> &'static str {
        match self {
            Self::Pod => "v1",
            Self::CronJob | Self::Job => "batch/v1",
            Self::DaemonSet | Self::Deployment | Self::ReplicaSet | Self::StatefulSet => "apps/v1",
        }
    }

    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Pod => &["spec"],
            Self::CronJob => &["spec", "jobTemplate", "spec", "template", "spec"],
            _ => &["spec", "template", "spec"],
        }
    }
}

fn object_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_name(&name) {
        return Ok(Some(name));
    }
    let accepted = "the name of a Kubernetes object (at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends)";
    Err(de::Error::custom(format!("is {name:?}; {accepted} is accepted")))
}

/// A `resources:` block per container.
pub(super) fn resources(sizing: &Sizing) -> String {
    head(sizing) + &containers(sizing, "")
}

/// A strategic-merge patch, which merges lists of containers by name.
pub(super) fn patch(sizing: &Sizing, target: &Target) -> String {
    let kind = target.kind;
    let name = target.name.clone().unwrap_or_else(|| name_of(sizing));
    let mut patch = head(sizing);
    let _ = writeln!(
        patch,
        "apiVersion: {}\nkind: {:?}\nmetadata:\n  name: {}",
        kind.api_version(),
        kind,
        quoted(&name)
    );
    let mut indent = String::new();
    for key in kind.path() {
        let _ = writeln!(patch, "{indent}{key}:");
        indent += "  ";
    }
    patch + &containers(sizing, &indent)
}

fn head(sizing: &Sizing) -> String {
    comment("", &format!("{}: {}", subject(sizing), window(&sizing.window)))
}

fn containers(sizing: &Sizing, indent: &str) -> String {
    let mut text = String::new();
    for container in &sizing.containers {
        let name = &container.name;
        if container.status == Status::InsufficientData {
            let why = container.memory.reasons.join("; ");
            text += &comment(indent, &format!("{name}: insufficient data, {why}"));
        } else if !is_label(name) {
            text += &comment(
                indent,
                &format!("left out, because Kubernetes does not allow this container name: {name}"),
            );
        }
    }
    let mut those = recommended(sizing).filter(|container| is_label(&container.name)).peekable();
    if those.peek().is_none() {
        return text + &format!("{indent}containers: []\n");
    }
    let _ = writeln!(text, "{indent}containers:");
    those.fold(text, |text, one| text + &container(one, indent))
}

fn container(container: &ContainerSizing, indent: &str) -> String {
    let ContainerSizing { name, cpu, memory, .. } = container;
    let mut text = format!("{indent}  - name: {}\n", quoted(name));
    for reason in cpu.reasons.iter().chain(&memory.reasons) {
        text += &comment(&format!("{indent}    "), reason);
    }
    let section = |name: &str, values: [(&str, &Option<String>); 2]| {
        let given = values.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let lines = given.map(|(name, value)| format!("{indent}        {name}: {}\n", quoted(value)));
        let lines: String = lines.collect();
        if lines.is_empty() { lines } else { format!("{indent}      {name}:\n{lines}") }
    };
    let _ = writeln!(text, "{indent}    resources:");
    text += &section("requests", [("cpu", &cpu.request), ("memory", &memory.request)]);
    text + &section("limits", [("cpu", &cpu.limit), ("memory", &memory.request)])
}

/// The innermost part of the scope as a name that Kubernetes accepts.
fn name_of(sizing: &Sizing) -> String {
    let repository = sizing.repository.rsplit('/').next();
    let innermost = sizing.job.as_deref().or(sizing.workflow.as_deref()).or(repository).unwrap_or_default();
    let lower = innermost.to_lowercase();
    let mut name = String::new();
    for c in lower.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.ends_with('-') && !name.is_empty() && name.len() < MAX_LABEL {
            name.push('-');
        }
        if name.len() == MAX_LABEL {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "runner".to_owned() } else { name.to_owned() }
}

fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.contains('.') && is_name(text)
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= MAX_NAME && text.split('.').all(part)
}
