//! What a CI system says about a run, beyond the names that identify its job.

use serde::{Deserialize, Serialize};

use crate::names::{cut, spaced};

/// The longest accepted URL, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// What the CI system says about a run. A field is absent if the system does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CiContext {
    /// `forgejo`, `gitea`, `github`, `gitlab`, `woodpecker`, or the name of another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Which leg of a matrix the run is, from `--variant`: a JSON object without blanks and with sorted keys, such as
    /// `{"go":"1.26","os":"linux"}`, or any other text. Two runs of different variants are never joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The branch or tag, such as `refs/heads/main`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// What started the run, such as `push` or `pull_request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whether a fork's code ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<bool>,
    /// The CI system's page of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_name: Option<String>,
    /// Labels of the runner, as the CI system writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_labels: Option<String>,
    /// How the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunResult {
    /// With exit status 0.
    Success,
    /// With another exit status, or by a signal.
    Failure,
    /// Somebody cancelled it.
    Cancelled,
    /// A result of a newer collector.
    #[serde(other)]
    Unknown,
}

impl RunResult {
    /// The value on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

impl CiContext {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Its texts with their field names, except for the URL.
    pub fn texts(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("system", self.system.as_deref()),
            ("variant", self.variant.as_deref()),
            ("ref", self.git_ref.as_deref()),
            ("sha", self.sha.as_deref()),
            ("event", self.event.as_deref()),
            ("runner_name", self.runner_name.as_deref()),
            ("runner_labels", self.runner_labels.as_deref()),
        ]
    }

    /// Takes what it lacks from another source of the same run.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let text = |one: Option<String>, other: &Option<String>| one.or_else(|| other.clone());
        Self {
            system: text(self.system, &other.system),
            variant: text(self.variant, &other.variant),
            git_ref: text(self.git_ref, &other.git_ref),
            sha: text(self.sha, &other.sha),
            event: text(self.event, &other.event),
            fork: self.fork.or(other.fork),
            url: text(self.url, &other.url),
            runner_name: text(self.runner_name, &other.runner_name),
            runner_labels: text(self.runner_labels, &other.runner_labels),
            result: self.result.or(other.result),
        }
    }
}

/// What is wrong with the address of a run; `None` if it may become a link.
pub fn url_fault(url: &str) -> Option<String> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if is_web && url.bytes().all(|byte| byte.is_ascii_graphic()) && url.len() <= MAX_URL_BYTES {
        return None;
    }
    Some(format!("is not an http:// or https:// URL of at most {MAX_URL_BYTES} printable ASCII characters"))
}

/// Normalises the name of a variant. JSON objects and lists lose the blanks between their values, and keys are sorted, so that
/// the same leg of a matrix is the same text in each run. `None` if there is no variant: an empty text, an empty object, or the
/// `null` that stands for the matrix of a job without one.
pub fn normal_variant(text: &str) -> Option<String> {
    let text = match serde_json::from_str(text) {
        Ok(serde_json::Value::Null) => return None,
        Ok(serde_json::Value::Object(object)) if object.is_empty() => return None,
        Ok(serde_json::Value::Array(list)) if list.is_empty() => return None,
        Ok(mut value @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => {
            value.sort_all_objects();
            value.to_string()
        }
        _ => spaced(text),
    };
    Some(cut(text)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_NAME_CHARS;

    #[test]
    fn one_leg_is_one_variant() {
        for (text, variant) in [
            ("{\"os\": \"linux\",\n \"go\": 1.26}", Some("{\"go\":1.26,\"os\":\"linux\"}")),
            ("{\"go\":1.26,\"os\":\"linux\"}", Some("{\"go\":1.26,\"os\":\"linux\"}")),
            ("[2, 1]", Some("[2,1]")),
            (" 3/4\n", Some("3/4")),
            ("1.10", Some("1.10")),
            ("linux  arm64", Some("linux arm64")),
            ("null", None),
            ("{ }", None),
            ("[]", None),
            (" ", None),
        ] {
            assert_eq!(normal_variant(text).as_deref(), variant, "{text:?}");
        }
        let long = |end| normal_variant(&format!("{{\"a\":\"{}{end}\"}}", "x".repeat(600))).unwrap();
        assert_eq!(long("1").chars().count(), MAX_NAME_CHARS);
        assert_ne!(long("1"), long("2"));
    }

    #[test]
    fn only_a_web_address_becomes_a_link() {
        for url in ["https://ci.example/o/r/actions/runs/7", "http://[::1]:3000/"] {
            assert_eq!(url_fault(url), None, "{url}");
        }
        let long = format!("https://{}", "x".repeat(MAX_URL_BYTES));
        for url in
            ["javascript:alert(1)", "", "//x", "https://x y", "https://x\n", "https://ü", "HTTPS://x", &long]
        {
            assert!(url_fault(url).is_some(), "{url}");
        }
    }
}
