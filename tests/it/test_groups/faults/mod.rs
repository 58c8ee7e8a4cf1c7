//! Faults injected into the shipped programs. Each test's name begins with the fault's number in `docs/faults.md`.

mod delivery;
mod storage;
