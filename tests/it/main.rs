//! Tests of the shipped programs from outside.

#![expect(clippy::unwrap_used, clippy::type_complexity, reason = "a test says what it found by failing")]

#[cfg(any(feature = "bpf", feature = "kernel"))]
mod beside;
mod collector;
mod receiver;
mod test_groups;
mod together;
