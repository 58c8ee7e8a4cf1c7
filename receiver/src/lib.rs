//! Stores what CI jobs used and answers questions about it.
//!
//! Modules are listed in the order in which they may import each other. `ARCHITECTURE.md` documents this order, and
//! `cargo xtask test --group lint` checks it. Only `store` knows SQL, and only `api` and `ui` speak HTTP.

pub mod args;
pub mod auth;
pub mod join;
pub mod store;

pub mod compare;
pub mod metrics;
pub mod retention;
pub mod sizing;
pub mod validate;

pub mod config;

pub mod api;
pub mod ui;

pub mod hardening;
pub mod health;
pub mod serve;
pub mod tls;

pub mod app;
pub mod reload;
pub mod service;

pub mod commands;
