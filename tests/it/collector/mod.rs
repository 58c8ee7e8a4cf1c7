//! The collector over scenes of /proc, and in front of commands.

mod configuration;
mod harm;
mod node;
mod run_mode;
mod scenes;
mod size;
mod spool;
mod summary_file;
