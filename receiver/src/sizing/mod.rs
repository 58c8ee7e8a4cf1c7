//! What a job should request, from what its runs used: see `docs/sizing.md`.
//!
//! `history` is what is looked at and `answer` what is said; what lies between reads no clock and no database.

pub mod answer;
pub mod figures;
pub mod history;
pub mod parameters;
pub mod quantity;

mod bounds;
mod ceiling;
mod cpu;
mod memory;
mod observe;
mod rails;
mod recommend;

pub mod format;
pub mod query;
pub mod refresh;

pub use recommend::{Ladder, is_short, recommend};

#[cfg(test)]
mod tests;
