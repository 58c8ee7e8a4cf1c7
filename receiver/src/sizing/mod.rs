//! Recommends requests for a job from the use of its runs; see `docs/sizing.md`.
//!
//! Only `scope`, which queries the store, and `background`, which keeps `jobs.figures` up to date, are not pure.

pub mod job_figures;
pub mod parameters;
pub mod quantity;
pub mod recommendation;

mod bounds;
mod ceiling;
mod cpu;
mod guard_rails;
mod memory;
mod observation;
mod recommend;

mod scope;

pub mod background;
pub mod format;

pub use self::recommend::{Fallbacks, is_short, recommend};
pub use self::scope::sizing;

#[cfg(test)]
mod tests;
