//! Faults injected into the shipped programs; the name of each test begins with its number in `docs/faults.md`.

mod delivery;
mod storage;
