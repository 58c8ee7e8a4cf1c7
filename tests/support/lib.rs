//! Support for tests of the shipped programs.
