//! What changes the programs that are deployed, or what they run on: one at a time, with no other test beside it.

mod faults;
mod kept;
mod sampled;
