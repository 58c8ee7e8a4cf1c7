//! What both programs share: how they read arguments and files, and how they write logs and output.
//!
//! A standard stream that is full, closed or without a reader never ends a process. It only loses what was written to it.

pub mod arguments;
pub mod duration;
pub mod given_file;
pub mod log;
pub mod quantity;
pub mod stream;
