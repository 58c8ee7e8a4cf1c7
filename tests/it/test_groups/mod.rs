//! Tests that need more than a toolchain. Each module is named after its group of `cargo xtask test`.

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
