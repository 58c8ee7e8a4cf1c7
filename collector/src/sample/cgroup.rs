//! `/proc/[pid]/cgroup`.
