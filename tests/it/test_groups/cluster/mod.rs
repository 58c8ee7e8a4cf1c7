//! What is shipped, in a real cluster that `cargo xtask test` brought up, against the kernel's own account of each container.

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
