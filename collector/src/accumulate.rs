//! Samples over the run, in bounded memory.
