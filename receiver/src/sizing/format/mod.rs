//! The forms in which a recommendation can be had.

mod gitlab;
mod kubernetes;
mod markdown;
mod text;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::answer::{ContainerSizing, Sizing, Status};
use crate::error::AppError;

pub use kubernetes::Target;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// To be read.
    Markdown,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Json, Self::Yaml, Self::Patch, Self::Limits, Self::Gitlab, Self::Markdown];

    /// As `format=` gives it.
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

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// What it is sent as.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Limits => "application/json",
            Self::Yaml | Self::Patch | Self::Gitlab => "application/yaml",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }

    /// The media types that ask for it, in `Accept`.
    fn media_types(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["application/json", "application/*", "*/*"],
            Self::Yaml => &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"],
            Self::Patch => &["application/strategic-merge-patch+yaml"],
            Self::Limits | Self::Gitlab => &[],
            Self::Markdown => &["text/markdown", "text/plain", "text/*"],
        }
    }

    /// What `Accept` headers (RFC 9110) prefer; JSON if there are none.
    pub fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Self, AppError> {
        let mut any = false;
        let mut best: Option<(f32, Self)> = None;
        for range in
            headers.flat_map(|header| header.split(',')).map(str::trim).filter(|range| !range.is_empty())
        {
            any = true;
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let format =
                Self::ALL.into_iter().find(|format| format.media_types().contains(&media_type.as_str()));
            if let Some((quality, format)) = quality.zip(format)
                && quality > best.map_or(0.0, |(best, _)| best)
            {
                best = Some((quality, format));
            }
        }
        match best {
            Some((_, format)) => Ok(format),
            None if !any => Ok(Self::Json),
            None => Err(AppError::NotAcceptable(
                "application/json, application/yaml, application/strategic-merge-patch+yaml and text/markdown can be accepted; format= has more",
            )),
        }
    }

    /// Writes it.
    pub fn write(self, sizing: &Sizing, target: &Target) -> Result<String, AppError> {
        let internal = |error: serde_json::Error| AppError::Internal(error.to_string());
        Ok(match self {
            Self::Json => serde_json::to_string(sizing).map_err(internal)?,
            Self::Yaml => kubernetes::resources(sizing),
            Self::Patch => kubernetes::patch(sizing, target),
            Self::Limits => serde_json::to_string(&limits(sizing)).map_err(internal)?,
            Self::Gitlab => gitlab::variables(sizing),
            Self::Markdown => markdown::write(sizing),
        })
    }
}

/// Those that there is a recommendation for.
fn recommended(sizing: &Sizing) -> impl Iterator<Item = &ContainerSizing> {
    sizing.containers.iter().filter(|container| container.status == Status::Recommended)
}

/// What the collector takes as `CGROUP_LIMITS`.
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
