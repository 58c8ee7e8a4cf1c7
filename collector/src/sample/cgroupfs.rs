//! A container's own cgroup files.
