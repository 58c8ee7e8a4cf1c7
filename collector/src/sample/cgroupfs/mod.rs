//! A container's own cgroup files, where they can be read: v2 (Documentation/admin-guide/cgroup-v2.rst), v1
//! (Documentation/admin-guide/cgroup-v1/) or, on a hybrid host, some of each.

mod directory;
mod hierarchies;
mod levels;
mod reader;
mod through;
mod throttling;

pub use hierarchies::Hierarchies;
pub use through::{Closed, through};
pub use reader::{Bounds, CgroupReader, CgroupReading, Periods};

#[cfg(test)]
mod tests;
