//! The cluster's state. It is written before each step, so that `cluster down` finds everything, even after a crash.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::root;

/// A cluster, possibly only partly made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Distinguishes the cluster from others on the machine; names its cgroup and its network device.
    pub(crate) id: String,
    /// The boot in which it was made. After another boot none of its processes is left.
    pub(crate) boot_id: String,
    /// Its block of addresses in [`super::network::Network`].
    pub(crate) block: u8,
    /// The process that keeps the node's namespaces.
    pub(crate) keeper: Option<u32>,
    /// Daemons by name.
    pub(crate) daemons: BTreeMap<String, u32>,
    /// Files of /proc/sys that the kubelet sets for the whole machine, and their previous values.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Whether it came up completely.
    pub(crate) up: bool,
}

impl State {
    /// The directory of all the cluster's files.
    pub(crate) fn directory() -> PathBuf {
        root().join("target/cluster")
    }

    fn path() -> PathBuf {
        Self::directory().join("state.json")
    }

    /// The cluster's cgroup, in each hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("rrc-cluster-{}", self.id)
    }

    pub(crate) fn read() -> Result<Option<Self>> {
        let path = Self::path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(path.display().to_string()),
        }
    }

    /// Writes the state atomically.
    pub(crate) fn write(&self) -> Result<()> {
        let (path, new) = (Self::path(), Self::path().with_extension("new"));
        fs::create_dir_all(Self::directory())?;
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    pub(crate) fn remove() -> Result<()> {
        let path = Self::path();
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }
}
