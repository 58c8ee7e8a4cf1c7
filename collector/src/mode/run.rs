//! In front of a command.
