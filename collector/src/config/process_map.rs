//! `CGROUP_PROCESS_MAP`: `{"node": "runner", …}`, process name → container name.

use std::collections::BTreeMap;

use super::limits::Entries;
use crate::sample::pid_stat::Comm;

/// Container names by process name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessMap(BTreeMap<Comm, String>);

/// Why a text is not a valid process map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProcessMapError(String);

impl ProcessMap {
    /// Parses a JSON object of strings.
    ///
    /// The kernel keeps 15 bytes of a process's name, so a longer name in the map stands for its first 15.
    pub fn parse(text: &str) -> Result<Self, ProcessMapError> {
        let entries: Entries<String> = serde_json::from_str(text).map_err(|error| {
            ProcessMapError(format!("{error}; write a JSON object such as {{\"node\": \"runner\"}}"))
        })?;
        let mut map = BTreeMap::new();
        for (process, container) in entries.0 {
            if process.is_empty() || container.is_empty() {
                let error = format!("{process:?}: {container:?} has an empty name");
                return Err(ProcessMapError(error));
            }
            let comm = Comm::new(process.as_bytes());
            if let Some(other) = map.insert(comm, container.clone())
                && other != container
            {
                let error = format!(
                    "{process:?} is given as {container:?} and, in the 15 bytes that the kernel keeps, as {other:?}"
                );
                return Err(ProcessMapError(error));
            }
        }
        Ok(Self(map))
    }

    /// The container name for a process name.
    pub fn container_for(&self, comm: Comm) -> Option<&str> {
        self.0.get(&comm).map(String::as_str)
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_kernel_keeps_them() {
        let map = ProcessMap::parse(r#"{"node": "runner", "postgres-exporter-v2": "db"}"#).unwrap();
        assert_eq!(map.container_for(Comm::new(b"node")), Some("runner"));
        assert_eq!(map.container_for(Comm::new(b"postgres-export")), Some("db"));
        assert_eq!(map.container_for(Comm::new(b"nod")), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"node": 5}"#, "expected a string"),
            (r#"["node"]"#, "expected a JSON object"),
            (r#"{"node": ""}"#, "empty name"),
            (r#"{"a": "x", "a": "y"}"#, r#""a" is given as "y""#),
            ("node=runner", "line 1 column 2"),
        ];
        for (text, expected) in cases {
            let message = ProcessMap::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
