//! The PID table, read cheaply.
