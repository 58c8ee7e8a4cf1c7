//! `/proc/[pid]/stat`.
