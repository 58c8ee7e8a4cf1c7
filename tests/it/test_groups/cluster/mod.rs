//! The shipped programs in a real cluster that `cargo xtask test` brought up, compared with the kernel's own account of each
//! container.

mod account;
mod advice;
mod alone;
mod asked;
mod documents;
mod kinds;
mod known;
mod measured;
mod node;
mod runners;
mod sidecar;
mod ways;
