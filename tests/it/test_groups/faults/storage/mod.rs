//! The receiver while its process, its disk and its clients fail.

mod bare;
mod clients;
mod database;
mod export;
mod load;
mod model;
mod process;
mod secrets;
mod tls;
mod unusable;

/// Rounds of a fault that is injected again and again: a few, or as many as `FAULT_ROUNDS` says.
fn rounds(few: u32) -> u32 {
    std::env::var("FAULT_ROUNDS").map_or(few, |rounds| {
        rounds.parse().unwrap_or_else(|_| panic!("FAULT_ROUNDS is {rounds:?}; a number is accepted"))
    })
}
