//! Measuring does not harm the command: it runs and ends as it does alone.

mod addresses;
mod inheritance;
mod names;
mod reports;
mod streams;
mod variables;
