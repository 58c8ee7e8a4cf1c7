//! Measures what a CI job uses, container by container, and pushes one summary at the end.
//!
//! `args, host, run_identity → sample → config → attribute → accumulate → summarise → deliver, output → engine → mode → commands`:
//! a module imports only from its left. Only `sample` opens files of the kernel, only `deliver` talks to the network, only
//! `args` reads the environment.

pub mod args;
pub mod ci_context;
pub mod config;
pub mod hardening;
pub mod host;
pub mod inherited;
pub mod logging;
pub mod run_identity;
pub mod sample;

pub mod attribute;

pub mod accumulate;
pub mod summarise;

pub mod deliver;
pub mod output;

pub(crate) mod engine;

pub mod mode;

pub mod commands;
