//! The receiver while its process, its disk or its clients fail.

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

/// The number of rounds of a repeated fault: a few, or the value of `FAULT_ROUNDS`.
fn rounds(few: u32) -> u32 {
    std::env::var("FAULT_ROUNDS").map_or(few, |rounds| {
        rounds.parse().unwrap_or_else(|_| panic!("FAULT_ROUNDS is {rounds:?}; a number is accepted"))
    })
}
