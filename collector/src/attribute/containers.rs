//! The containers of a run.
