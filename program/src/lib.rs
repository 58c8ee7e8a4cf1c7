//! What both programs have in common as programs: how they are told things, and how they say them.
//!
//! Nothing here can end a process: a standard stream that is full, closed or read by nobody costs what was written to it,
//! and no more.

pub mod arguments;
pub mod duration;
pub mod log;
pub mod quantity;
pub mod stream;
