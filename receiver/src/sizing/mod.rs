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

mod scope;

pub mod format;
pub mod refresh;

pub use self::recommend::{Ladder, is_short, recommend};
pub use self::scope::sizing;

#[cfg(test)]
mod tests;
