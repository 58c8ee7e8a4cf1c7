//! Tests that need more than a toolchain, each in the group of `cargo xtask test` that its module is called by.

#[cfg(feature = "bpf")]
mod bpf;
#[cfg(feature = "browser")]
mod browser;
#[cfg(feature = "cluster")]
mod cluster;
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
