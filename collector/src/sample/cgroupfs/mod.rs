//! A container's own cgroup files, if they can be read: v2 (Documentation/admin-guide/cgroup-v2.rst), v1
//! (Documentation/admin-guide/cgroup-v1/) or, on a hybrid host, some of each.

mod directory;
mod files;
mod hierarchies;
mod levels;
mod need;
mod reader;
mod throttling;
mod through;
mod waits;

pub use hierarchies::Hierarchies;
pub use need::{MemoryLook, MemoryNeed};
pub use reader::{Bounds, CgroupReader, CgroupReading, SavedReadings};
pub use throttling::Periods;
pub use through::{Closed, is_settled, through};
pub use waits::Waits;

#[cfg(test)]
mod tests;
