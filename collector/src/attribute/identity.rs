//! Container identity from a cgroup path.
