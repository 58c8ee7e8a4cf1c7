//! The measuring engine that all modes share.
//!
//! The [`sampler`] reads the machine once each interval and accounts for the CPU time used. A [`locator`] decides which
//! processes count and which container each one is in. A [`recorder`] keeps the figures of one run. A [`publisher`] sends
//! and saves them. A mode is a loop over these four. [`single_run`] ties them together for the modes that measure one run.

pub(crate) mod bpf_events;
pub(crate) mod cgroup_stats;
pub(crate) mod clock;
pub(crate) mod endings;
pub(crate) mod environments;
mod first_process;
pub(crate) mod locator;
mod memory_follower;
pub(crate) mod pass;
pub(crate) mod publisher;
pub(crate) mod reading;
pub(crate) mod recorder;
pub(crate) mod sampler;
pub(crate) mod single_run;
pub(crate) mod ticker;
mod watched_cgroup;
pub(crate) mod writer_thread;
