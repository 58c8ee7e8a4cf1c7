//! What is valid: everything that can be wrong with the arguments is found here, before measuring begins.

pub mod duration;
pub mod limits;
pub mod process_map;
pub mod quantity;
