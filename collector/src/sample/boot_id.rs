//! `/proc/sys/kernel/random/boot_id`: a random name of this boot, the same until the next.

/// Reads it; `None` if that cannot be done.
pub fn read() -> Option<String> {
    let content = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(content.trim().to_owned()).filter(|id| !id.is_empty())
}
