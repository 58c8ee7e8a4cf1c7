//! What is measured is none the worse for it: the command runs, and ends as it does alone.

mod addresses;
mod inheritance;
mod names;
mod reports;
mod streams;
mod variables;
