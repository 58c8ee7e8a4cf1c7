//! What a job should request, from what its runs used: see `docs/sizing.md`.
//!
//! From the runs that the store returns to `answer` all is pure; `scope` asks the store, and `refresh` keeps `jobs.figures`.

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
