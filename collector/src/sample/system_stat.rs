//! `/proc/stat`.
