//! From what was accumulated to the summary on the wire.
