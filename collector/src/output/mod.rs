//! The report.

pub mod prometheus;
pub mod text;
