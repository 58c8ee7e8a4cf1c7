//! Tests that change the deployed programs or the node, one at a time and without other tests beside them.

mod faults;
mod kept;
mod sampled;
