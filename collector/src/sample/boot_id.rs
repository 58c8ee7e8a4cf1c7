//! `/proc/sys/kernel/random/boot_id`: a random ID that stays the same until the next boot.

/// Reads it; `None` if it cannot be read.
pub fn read() -> Option<String> {
    let content = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(content.trim().to_owned()).filter(|id| !id.is_empty())
}
