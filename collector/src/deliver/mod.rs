//! Delivers the summary to the receiver.

pub mod backlog;
pub mod checkpoint;
mod holds;
mod jitter;
pub mod push;
pub mod recover;
pub mod spool;
mod tokens;
