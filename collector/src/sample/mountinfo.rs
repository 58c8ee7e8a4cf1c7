//! `/proc/[pid]/mountinfo`.
