//! The collector while everything around it is being torn down.
