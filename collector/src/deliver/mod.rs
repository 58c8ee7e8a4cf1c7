//! Getting the summary to the receiver.

pub mod checkpoint;
pub mod push;
