//! Stores what CI jobs used and answers questions about it.
//!
//! `auth` decides who may, `ingest` and `query` speak HTTP, `validate` decides what a summary is, and only `store`
//! knows SQL; `store` knows no HTTP.

pub mod args;
pub mod config;
pub mod process;

pub mod auth;
pub mod store;
pub mod validate;

pub mod error;
pub mod state;

pub mod compare;
pub mod ingest;
pub mod join;
pub mod metrics;
pub mod mint;
pub mod openapi;
pub mod push_check;
pub mod query;
pub mod retention;
pub mod sizing;
pub mod ui;

pub mod app;
pub mod health;
pub mod reload;
pub mod serve;
pub mod tls;
