//! What was typed: flags and environment variables, unchecked.
