//! Which container a process belongs to, and how much CPU time each container used.

pub mod ci_job;
pub mod containers;
pub mod cpu;
pub mod descendants;
pub mod identity;

use serde::{Deserialize, Serialize};

/// One of the run's containers; see [`containers::Containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerIndex(pub u32);
