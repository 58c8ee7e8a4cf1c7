//! Environments that the eBPF program hands over in parts.

use std::collections::HashMap;

use collector_ebpf::EnvironmentRecord;

/// How many are assembled at once. At this limit all are dropped: some may wait for a lost record.
const MOST: usize = 256;

/// Partly received environments, by PID.
#[derive(Default)]
pub(super) struct Environments(HashMap<u32, Parts>);

#[derive(Default)]
struct Parts {
    count: u32,
    bytes: Vec<u8>,
}

impl Environments {
    /// Takes the next part of an environment. The first part starts it anew.
    pub(super) fn add(&mut self, part: &EnvironmentRecord) {
        if self.0.len() >= MOST && !self.0.contains_key(&part.pid) {
            self.0.clear();
        }
        let parts = self.0.entry(part.pid).or_default();
        if part.index == 0 {
            *parts = Parts::default();
        }
        if part.index == parts.count {
            parts.count += 1;
            parts.bytes.extend_from_slice(part.bytes.get(..part.length as usize).unwrap_or_default());
        }
    }

    /// The environment of this process, if all of it arrived.
    pub(super) fn take(&mut self, pid: u32, length: u32) -> Option<Vec<u8>> {
        let parts = self.0.remove(&pid)?;
        (parts.bytes.len() == length as usize).then_some(parts.bytes)
    }
}

#[cfg(test)]
mod tests {
    use collector_ebpf::{ENVIRONMENT_CHUNK, kind};

    use super::*;

    fn part(pid: u32, index: u32, content: &[u8]) -> EnvironmentRecord {
        let mut bytes = [0; ENVIRONMENT_CHUNK];
        bytes[..content.len()].copy_from_slice(content);
        EnvironmentRecord { kind: kind::ENVIRONMENT, pid, index, length: content.len() as u32, bytes }
    }

    #[test]
    fn parts_make_a_whole_or_nothing() {
        let mut environments = Environments::default();
        let long = [b'x'; ENVIRONMENT_CHUNK];
        environments.add(&part(7, 0, &long));
        environments.add(&part(8, 0, b"B=2\0"));
        environments.add(&part(7, 1, b"A=1\0"));
        assert_eq!(environments.take(8, 4).unwrap(), b"B=2\0");
        assert_eq!(environments.take(7, 2_052).unwrap()[2_048..], *b"A=1\0");
        assert_eq!(environments.take(7, 2_052), None, "it was taken");
        environments.add(&part(7, 0, &long));
        environments.add(&part(7, 2, b"A=1\0"));
        assert_eq!(environments.take(7, 4_100), None, "a part was lost");
        environments.add(&part(7, 0, &long));
        environments.add(&part(7, 0, b"A=1\0"));
        assert_eq!(environments.take(7, 4).unwrap(), b"A=1\0", "the process executed another program");
    }

    #[test]
    fn what_is_never_taken_does_not_pile_up() {
        let mut environments = Environments::default();
        for pid in 0..10_000 {
            environments.add(&part(pid, 0, b"A=1\0"));
            assert!(environments.0.len() <= MOST);
        }
    }
}
