//! The report.

pub mod markdown;
pub mod prometheus;
pub(crate) mod report;
mod shown;
mod summary_file;
pub mod text;
