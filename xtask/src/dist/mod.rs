//! `cargo xtask dist` and `cargo xtask images`: what its users run.

mod cross;
pub(crate) mod images;
mod statics;
