//! The report.

pub mod markdown;
pub mod prometheus;
mod shown;
pub mod text;
