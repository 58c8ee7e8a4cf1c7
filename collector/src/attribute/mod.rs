//! Which container a process belongs to, and how much CPU time each container used.

pub mod conserved;
pub mod identity;
