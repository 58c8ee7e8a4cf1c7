//! The report as a person likes to read it.
