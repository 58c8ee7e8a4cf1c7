//! The shipped programs, tested from outside.

#![expect(clippy::unwrap_used, clippy::type_complexity, reason = "a test says what it found by failing")]

#[cfg(any(feature = "bpf", feature = "kernel"))]
mod beside;
#[cfg(feature = "bpf")]
mod bpf;
#[cfg(feature = "browser")]
mod browser;
mod collector;
#[cfg(feature = "deploy")]
mod deploy;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "faults")]
mod faults;
#[cfg(feature = "kernel")]
mod kernel;
#[cfg(feature = "node")]
mod node;
mod receiver;
mod together;
