//! The shipped programs, tested from outside.

mod collector;
#[cfg(feature = "kernel")]
mod kernel;
mod receiver;
mod together;
