//! `/proc/[pid]/stat` (proc(5), `fs/proc/array.c`): one line with CPU time, RSS, parent and start time.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `PF_KTHREAD` of `include/linux/sched.h`: the task is a kernel thread.
const PF_KTHREAD: u64 = 0x0020_0000;
/// `PF_EXITING` in `include/linux/sched.h`.
const PF_EXITING: u64 = 0x4;

/// A command name as the kernel keeps it (`TASK_COMM_LEN`): at most 15 bytes, any bytes but NUL.
///
/// Kernel threads may show up to 63 bytes; a longer name is cut.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Comm {
    bytes: [u8; 15],
    len: u8,
}

impl Comm {
    /// The first 15 bytes of `name`, up to a NUL.
    pub fn new(name: &[u8]) -> Self {
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut comm = Self::default();
        let len = name.len().min(comm.bytes.len());
        comm.bytes[..len].copy_from_slice(&name[..len]);
        comm.len = len as u8;
        comm
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether this is the name of a container runtime, which prepares the container from within and then becomes its
    /// program. Until then, its mounts, user and cgroups may not be the container's. runc executes a copy of itself, named
    /// by the number of a descriptor or `exe`.
    pub fn is_runtimes(&self) -> bool {
        let name = self.as_bytes();
        let begins = |own: &&[u8]| name.starts_with(own);
        name == b"exe"
            || name.iter().all(u8::is_ascii_digit)
            || [&b"runc"[..], b"crun", b"youki", b"conmon"].iter().any(begins)
    }
}

impl Serialize for Comm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|name| Self::new(&name))
    }
}

impl std::fmt::Display for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl std::fmt::Debug for Comm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The fields of a `stat` line that the collector uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat {
    /// Field 1.
    pub pid: u32,
    /// Field 2, without its parentheses.
    pub comm: Comm,
    /// Field 3: `R`, `S`, `D`, `Z`, …
    pub state: u8,
    /// Field 4; 0 when the parent is outside the reader's PID namespace.
    pub ppid: u32,
    /// Whether field 9 has `PF_KTHREAD`.
    pub kernel_thread: bool,
    /// Whether field 9 has `PF_EXITING`: it, or its first thread, is about to become a zombie.
    pub exiting: bool,
    /// Field 10: page faults that needed no I/O, by all of its threads, the ended ones included.
    pub minor_faults: u64,
    /// Fields 14 and 15, `utime` + `stime`, in clock ticks: the whole process, exited threads included.
    pub own_ticks: u64,
    /// Fields 16 and 17, `cutime` + `cstime`, in clock ticks: the children that it waited for, and theirs.
    pub reaped_ticks: u64,
    /// Field 20.
    pub threads: u32,
    /// Field 22: when it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Field 24: resident set size in pages; 0 for a zombie or a kernel thread.
    pub rss_pages: u64,
    /// Field 28: the address at which its stack starts. Each exec maps another one (`CONFIG_RANDOMIZE_VA_SPACE`). 0 for a
    /// reader that may not trace the process.
    pub stack_start: u64,
}

/// Why a `stat` line cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PidStatError {
    /// The name's parentheses are missing.
    #[error("no command name in parentheses")]
    NoName,
    /// The line ends before this field.
    #[error("field {0} is missing")]
    Missing(u8),
    /// This field is not a valid number.
    #[error("field {0} is not a number")]
    NotANumber(u8),
}

impl PidStat {
    /// Parses the whole content of the file.
    ///
    /// The name may hold spaces, parentheses and newlines, so it ends at the last `)` of the content.
    pub fn parse(content: &[u8]) -> Result<Self, PidStatError> {
        let open = content.iter().position(|&byte| byte == b'(').ok_or(PidStatError::NoName)?;
        let close = content.iter().rposition(|&byte| byte == b')').ok_or(PidStatError::NoName)?;
        if close < open {
            return Err(PidStatError::NoName);
        }
        let pid = content[..open].trim_ascii();
        let mut fields = Fields { rest: &content[close + 1..], number: 2 };
        let state = *fields.next()?.first().ok_or(PidStatError::Missing(3))?;
        let ppid = fields.unsigned()?;
        fields.skip(4)?;
        let flags = fields.unsigned()?;
        let minor_faults = fields.unsigned()?;
        fields.skip(3)?;
        let own_ticks = fields.unsigned()?.saturating_add(fields.unsigned()?);
        let reaped_ticks = fields.clamped()?.saturating_add(fields.clamped()?);
        fields.skip(2)?;
        let threads = fields.clamped()?;
        fields.skip(1)?;
        let start_ticks = fields.unsigned()?;
        fields.skip(1)?;
        let rss_pages = fields.clamped()?;
        let stack_start = fields.skip(3).and_then(|()| fields.unsigned()).unwrap_or(0);
        Ok(Self {
            pid: narrow(number(pid).ok_or(PidStatError::NotANumber(1))?, 1)?,
            comm: Comm::new(&content[open + 1..close]),
            state,
            ppid: narrow(ppid, 4)?,
            kernel_thread: flags & PF_KTHREAD != 0,
            exiting: flags & PF_EXITING != 0,
            minor_faults,
            own_ticks,
            reaped_ticks,
            threads: narrow(threads, 20)?,
            start_ticks,
            rss_pages,
            stack_start,
        })
    }

    /// Whether the process, or at least its first thread, has ended.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// The space-separated fields after the name.
struct Fields<'a> {
    rest: &'a [u8],
    /// proc(5)'s number of the field taken last.
    number: u8,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], PidStatError> {
        self.number += 1;
        let rest = self.rest.trim_ascii_start();
        if rest.is_empty() {
            return Err(PidStatError::Missing(self.number));
        }
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (field, rest) = rest.split_at(end);
        self.rest = rest;
        Ok(field)
    }

    fn skip(&mut self, count: u8) -> Result<(), PidStatError> {
        (0..count).try_for_each(|_| self.next().map(|_| ()))
    }

    fn unsigned(&mut self) -> Result<u64, PidStatError> {
        let field = self.next()?;
        number(field).ok_or(PidStatError::NotANumber(self.number))
    }

    /// A count that the kernel prints as signed: a negative value counts as 0.
    fn clamped(&mut self) -> Result<u64, PidStatError> {
        let field = self.next()?;
        let value = match field.strip_prefix(b"-") {
            Some(digits) => number(digits).map(|_| 0),
            None => number(field),
        };
        value.ok_or(PidStatError::NotANumber(self.number))
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn narrow(value: u64, field: u8) -> Result<u32, PidStatError> {
    u32::try_from(value).map_err(|_| PidStatError::NotANumber(field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(name: &[u8]) -> Vec<u8> {
        let mut line = b"4321 (".to_vec();
        line.extend(name);
        line.extend(
            b") S 77 4321 4321 0 -1 4194560 1 2 3 4 150 25 1000 -1 20 0 3 0 987654 1000000 2500 18446744073709551615 1 2 140726104813552 4 5\n",
        );
        line
    }

    #[test]
    fn takes_every_field_from_its_place() {
        let stat = PidStat::parse(&line(b"cc1")).unwrap();
        let expected = PidStat {
            pid: 4321,
            comm: Comm::new(b"cc1"),
            state: b'S',
            ppid: 77,
            kernel_thread: false,
            exiting: false,
            minor_faults: 1,
            own_ticks: 175,
            reaped_ticks: 1000,
            threads: 3,
            start_ticks: 987_654,
            rss_pages: 2500,
            stack_start: 140_726_104_813_552,
        };
        assert_eq!(stat, expected);
    }

    #[test]
    fn a_name_may_look_like_the_rest_of_a_line() {
        for name in [b"x) R 1 1\n(y".as_slice(), b"a b", b"", b")", b"(", b"\xff\xfe", b"tmux: server"] {
            let stat = PidStat::parse(&line(name)).unwrap();
            assert_eq!((stat.comm.as_bytes(), stat.ppid, stat.rss_pages), (name, 77, 2500));
        }
    }

    #[test]
    fn what_a_process_is_is_told_by_its_flags() {
        let parse = |flags: &str| {
            let text = format!("2 (kthreadd) S 0 0 0 0 -1 {flags} 0 0 0 0 0 1 0 0 20 0 1 0 3 0 0 0");
            let stat = PidStat::parse(text.as_bytes()).unwrap();
            (stat.kernel_thread, stat.exiting)
        };
        assert_eq!(parse("2129984"), (true, false));
        assert_eq!(parse("4194564"), (false, true));
        assert_eq!(parse("4194560"), (false, false));
    }

    #[test]
    fn a_damaged_line_names_the_field() {
        assert_eq!(PidStat::parse(b"12 cc1 S 1"), Err(PidStatError::NoName));
        assert_eq!(PidStat::parse(b"12 )cc1( S 1"), Err(PidStatError::NoName));
        assert_eq!(PidStat::parse(b"12 (cc1) S 1 2"), Err(PidStatError::Missing(6)));
        assert_eq!(PidStat::parse(b"12 (cc1) S x 2"), Err(PidStatError::NotANumber(4)));
    }

    proptest! {
        #[test]
        fn never_panics(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PidStat::parse(&content);
        }

        #[test]
        fn any_name_and_any_numbers_come_back(
            name in proptest::collection::vec(any::<u8>().prop_filter("NUL ends a name", |byte| *byte != 0), 0..15),
            own in 0u64..1 << 60, reaped in 0u64..1 << 60, start in any::<u64>(), rss in 0u64..1 << 50,
        ) {
            let mut text = b"7 (".to_vec();
            text.extend(&name);
            text.extend(format!(") R 1 0 0 0 0 0 0 0 0 0 {own} 0 {reaped} 0 20 0 1 0 {start} 0 {rss}\n").bytes());
            let stat = PidStat::parse(&text).unwrap();
            prop_assert_eq!(stat.comm.as_bytes(), name.as_slice());
            prop_assert_eq!((stat.own_ticks, stat.reaped_ticks), (own, reaped));
            prop_assert_eq!((stat.start_ticks, stat.rss_pages), (start, rss));
        }
    }
}
