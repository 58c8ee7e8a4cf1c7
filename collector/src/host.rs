//! Facts about the machine, read once.
