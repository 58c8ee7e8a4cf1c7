//! `/proc/[pid]/environ` (`proc_pid_environ(5)`): the environment that a process was executed with, as `NAME=value` entries
//! that each end with a NUL.
//!
//! It holds a job's secrets: the collector searches the content for a few names and wipes it.

/// At most this much of it is read. The kernel allows more, but the variables that name a job do not begin after it.
pub const MAX_BYTES: usize = 256 * 1024;

/// The value of the first variable with this name, as `getenv(3)` returns it; `None` also if it is not UTF-8.
pub fn variable<'a>(content: &'a [u8], name: &str) -> Option<&'a str> {
    let found = content.split(|&byte| byte == 0).find_map(|entry| {
        let rest = entry.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    std::str::from_utf8(found?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts_and_names_are_whole() {
        let content = b"A=1\0GITHUB_RUN_ID2=9\0GITHUB_RUN_ID=42\0GITHUB_RUN_ID=43\0E=\0x\0\xff=\xfe\0F=a=b";
        assert_eq!(variable(content, "GITHUB_RUN_ID"), Some("42"));
        assert_eq!((variable(content, "E"), variable(content, "F")), (Some(""), Some("a=b")));
        assert_eq!(
            (variable(content, "x"), variable(content, "RUN_ID"), variable(b"", "A")),
            (None, None, None)
        );
        assert_eq!(variable(b"A=\xff\0", "A"), None);
    }
}
