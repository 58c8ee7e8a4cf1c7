//! The conserved sum.
