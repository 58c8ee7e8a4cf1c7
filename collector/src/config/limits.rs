//! `CGROUP_LIMITS`: `{"runner": {"cpu": "2", "memory": "1Gi"}, …}`.

use std::collections::BTreeMap;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use program::quantity::{cpu_cores, memory_bytes};

/// One container's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU limit in cores.
    pub cpu_cores: Option<f64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Requests.
    pub requests: Requests,
}

/// One container's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// CPU request in cores.
    pub cpu_cores: Option<f64>,
    /// Memory request in bytes.
    pub memory_bytes: Option<u64>,
}

/// Why a text is not valid `CGROUP_LIMITS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LimitsError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    cpu: Option<Text>,
    memory: Option<Text>,
    cpu_request: Option<Text>,
    memory_request: Option<Text>,
}

/// A quantity as a string, or as a plain number, which is common in YAML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    String(String),
    Number(serde_json::Number),
}

impl Text {
    fn into_string(self) -> String {
        match self {
            Self::String(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Parses the whole text. An error names the container and the field.
pub fn parse(text: &str) -> Result<BTreeMap<String, Limits>, LimitsError> {
    let entries: Entries<Raw> = serde_json::from_str(text).map_err(|error| {
        LimitsError(format!(
            "{error}; write a JSON object such as {{\"runner\": {{\"cpu\": \"2\", \"memory\": \"1Gi\"}}}}"
        ))
    })?;
    let mut limits = BTreeMap::new();
    for (container, raw) in entries.0 {
        let error = |field: &str, error: &dyn std::fmt::Display| {
            LimitsError(format!("container {container:?}, field {field:?}: {error}"))
        };
        let texts = [raw.cpu, raw.cpu_request, raw.memory, raw.memory_request];
        let [cpu, cpu_request, memory, memory_request] = texts.map(|text| text.map(Text::into_string));
        let cores = |field, text: &Option<String>| {
            text.as_deref().map(cpu_cores).transpose().map_err(|wrong| error(field, &wrong))
        };
        let bytes = |field, text: &Option<String>| {
            text.as_deref().map(memory_bytes).transpose().map_err(|wrong| error(field, &wrong))
        };
        let parsed = Limits {
            cpu_cores: cores("cpu", &cpu)?,
            memory_bytes: bytes("memory", &memory)?,
            requests: Requests {
                cpu_cores: cores("cpu_request", &cpu_request)?,
                memory_bytes: bytes("memory_request", &memory_request)?,
            },
        };
        let above = |field, request: Option<String>, limit: Option<String>| {
            let (request, limit) = (request.unwrap_or_default(), limit.unwrap_or_default());
            error(
                field,
                &format!("{request:?} is more than the limit, {limit:?}; a request cannot exceed it"),
            )
        };
        if parsed.requests.cpu_cores.zip(parsed.cpu_cores).is_some_and(|(request, limit)| request > limit) {
            return Err(above("cpu_request", cpu_request, cpu));
        }
        if parsed
            .requests
            .memory_bytes
            .zip(parsed.memory_bytes)
            .is_some_and(|(request, limit)| request > limit)
        {
            return Err(above("memory_request", memory_request, memory));
        }
        if container.is_empty() {
            return Err(LimitsError("a container's name is empty".to_owned()));
        }
        if limits.contains_key(&container) {
            return Err(LimitsError(format!("container {container:?} is given twice")));
        }
        limits.insert(container, parsed);
    }
    Ok(limits)
}

/// The entries of a JSON object as written, so that a repeated key does not silently replace the first.
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example() {
        let text = r#"{"runner": {"cpu": "2", "memory": "1Gi"}, "sidecar": {"cpu": "500m", "memory": "256Mi"}, "x": {"cpu": 1.5}}"#;
        let limits = parse(text).unwrap();
        let of = |cpu_cores, memory_bytes| Limits { cpu_cores, memory_bytes, ..Limits::default() };
        assert_eq!(limits["runner"], of(Some(2.0), Some(1 << 30)));
        assert_eq!(limits["sidecar"], of(Some(0.5), Some(256 << 20)));
        assert_eq!(limits["x"], of(Some(1.5), None));
        assert!(parse("{}").unwrap().is_empty());
    }

    #[test]
    fn requests_stand_beside_limits_or_alone() {
        let text = r#"{"a": {"cpu": "2", "cpu_request": "2000m", "memory_request": "1Gi"}, "b": {"cpu_request": 0.25, "memory": "1G", "memory_request": "512Mi"}}"#;
        let limits = parse(text).unwrap();
        let requests = |cpu_cores, memory_bytes| Requests { cpu_cores, memory_bytes };
        assert_eq!(limits["a"].requests, requests(Some(2.0), Some(1 << 30)));
        assert_eq!((limits["a"].cpu_cores, limits["a"].memory_bytes), (Some(2.0), None));
        assert_eq!(limits["b"].requests, requests(Some(0.25), Some(512 << 20)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (
                r#"{"runner": {"memory": "1GiB"}}"#,
                r#"container "runner", field "memory": "1GiB" has an unknown suffix; write bytes"#,
            ),
            (
                r#"{"runner": {"cpu": "-2"}}"#,
                r#"container "runner", field "cpu": "-2" is negative; write cores as 2, 0.5 or 500m"#,
            ),
            (
                r#"{"runner": {"disk": "1Gi"}}"#,
                "unknown field `disk`, expected one of `cpu`, `memory`, `cpu_request`, `memory_request` at line 1",
            ),
            (
                r#"{"runner": {"cpu": "500m", "cpu_request": "1"}}"#,
                r#"container "runner", field "cpu_request": "1" is more than the limit, "500m"; a request"#,
            ),
            (
                r#"{"runner": {"memory": "1G", "memory_request": "1Gi"}}"#,
                r#"container "runner", field "memory_request": "1Gi" is more than the limit, "1G"; a request"#,
            ),
            (r#"{"runner": {"cpu_request": "one"}}"#, r#"container "runner", field "cpu_request": "one" "#),
            (r#"{"a": {"cpu": "1"}, "a": {"cpu": "2"}}"#, r#"container "a" is given twice"#),
            (r#"{"": {}}"#, "name is empty"),
            (r#"{"runner": "#, "line 1 column"),
            ("[]", "expected a JSON object"),
        ];
        for (text, expected) in cases {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
