//! Output formats of a recommendation.

mod gitlab;
mod kubernetes;
mod markdown;
mod text;

#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::recommendation::{ContainerSizing, Sizing, Status};

pub use kubernetes::Target;

/// Format of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Everything.
    Json,
    /// A `resources:` block per container.
    Yaml,
    /// A strategic-merge patch, for kustomize and kubectl.
    Patch,
    /// The collector's `CGROUP_LIMITS`.
    Limits,
    /// Variables of GitLab's Kubernetes executor.
    Gitlab,
    /// For people.
    Markdown,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] =
        [Self::Json, Self::Yaml, Self::Patch, Self::Limits, Self::Gitlab, Self::Markdown];

    /// The name in `format=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Patch => "patch",
            Self::Limits => "limits",
            Self::Gitlab => "gitlab",
            Self::Markdown => "markdown",
        }
    }

    /// The format with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The media type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Limits => "application/json",
            Self::Yaml | Self::Patch | Self::Gitlab => "application/yaml",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    /// Writes a recommendation in this format.
    pub fn write(self, sizing: &Sizing, target: &Target) -> serde_json::Result<String> {
        Ok(match self {
            Self::Json => serde_json::to_string(sizing)?,
            Self::Yaml => kubernetes::resources(sizing),
            Self::Patch => kubernetes::patch(sizing, target),
            Self::Limits => serde_json::to_string(&limits(sizing))?,
            Self::Gitlab => gitlab::variables(sizing),
            Self::Markdown => markdown::write(sizing),
        })
    }
}

/// The containers with a recommendation.
fn recommended(sizing: &Sizing) -> impl Iterator<Item = &ContainerSizing> {
    sizing.containers.iter().filter(|container| container.status == Status::Recommended)
}

/// The value of the collector's `CGROUP_LIMITS`.
fn limits(sizing: &Sizing) -> Value {
    let entries = recommended(sizing).map(|container| {
        let values = [
            ("cpu", &container.cpu.limit),
            ("cpu_request", &container.cpu.request),
            ("memory", &container.memory.request),
            ("memory_request", &container.memory.request),
        ];
        let values =
            values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        (container.name.clone(), Value::Object(values.collect()))
    });
    Value::Object(entries.collect::<Map<_, _>>())
}
