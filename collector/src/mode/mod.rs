//! What the collector is attached to.

pub mod run;
pub mod sidecar;
