//! What is written down before it is done, so that `cluster down` finds it after a crash, too.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::root;

/// A cluster, as far as it was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Tells it from other clusters on the machine; names its cgroup and its network device.
    pub(crate) id: String,
    /// The boot that it was made in; no process outlives one.
    pub(crate) boot_id: String,
    /// Its block of addresses, of [`super::network::Network`].
    pub(crate) block: u8,
    /// The process that keeps the node's namespaces.
    pub(crate) keeper: Option<u32>,
    /// Daemons by name.
    pub(crate) daemons: BTreeMap<String, u32>,
    /// Files of /proc/sys that the kubelet sets for the whole machine, and what was in them.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Whether it came up.
    pub(crate) up: bool,
}

impl State {
    /// Where everything of the cluster is.
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

    /// Written whole or not at all.
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
