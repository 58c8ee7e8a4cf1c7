//! Getting the summary to the receiver.

pub mod push;
