//! Which container a process belongs to, and how much CPU time each container used.

pub mod conserved;
pub mod containers;
pub mod descendants;
pub mod identity;
pub mod jobs;

use serde::{Deserialize, Serialize};

/// One of the run's containers; see [`containers::Containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerIndex(pub u32);
