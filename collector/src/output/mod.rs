//! The report.

pub mod markdown;
mod shown;
pub mod text;
