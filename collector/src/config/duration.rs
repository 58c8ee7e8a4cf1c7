//! Durations as Go writes them.
