//! The shipped programs, tested from outside.
