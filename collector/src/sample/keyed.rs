//! Files of the kernel with a name and a value in each line, such as `memory.stat` and `/proc/vmstat`.

/// The value after `name ` at the start of a line.
pub(super) fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
