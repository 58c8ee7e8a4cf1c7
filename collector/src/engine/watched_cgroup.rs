//! A container's account that is read at the moment at which its first process ends, not only at looks: its cgroup is gone
//! some milliseconds later, and the next look may be due only after that.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::sample::cgroupfs::{CgroupReader, CgroupReading};

/// The account, shared by its run and by [`Endings`](super::endings::Endings).
#[derive(Debug)]
pub(super) struct WatchedCgroup(Rc<RefCell<WatchedReader>>);

/// What [`Endings`](super::endings::Endings) has of it.
#[derive(Debug)]
pub(crate) struct EndReader(Weak<RefCell<WatchedReader>>);

#[derive(Debug)]
struct WatchedReader {
    reader: CgroupReader,
    /// The reading of when its first process ended, until the next look takes it.
    at_end: Option<CgroupReading>,
}

impl WatchedCgroup {
    pub(super) fn new(reader: CgroupReader) -> Self {
        Self(Rc::new(RefCell::new(WatchedReader { reader, at_end: None })))
    }

    pub(super) fn end_reader(&self) -> EndReader {
        EndReader(Rc::downgrade(&self.0))
    }

    /// Everything that it counts; `None` once the cgroup is gone.
    pub(super) fn read(&self) -> Option<CgroupReading> {
        self.0.borrow_mut().reader.read()
    }

    /// The same at the end of its first process, if that was seen when it came.
    pub(super) fn read_at_end(&self) -> Option<CgroupReading> {
        let mut watched = self.0.borrow_mut();
        let now = watched.reader.read();
        let at_end = watched.at_end.take();
        now.or(at_end)
    }

    pub(super) fn cpu_ns(&self) -> Option<u64> {
        self.0.borrow().reader.cpu_ns()
    }

    pub(super) fn memory_peak(&self) -> Option<u64> {
        self.0.borrow().reader.memory_peak()
    }

    pub(super) fn tells_memory(&self) -> bool {
        self.0.borrow().reader.tells_memory()
    }

    /// See [`CgroupReader::beginning`].
    pub(super) fn beginning(&self, first: &CgroupReading) -> CgroupReading {
        self.0.borrow().reader.beginning(first)
    }
}

impl EndReader {
    /// Reads the account for the next look. The first process of its container has just ended.
    pub(super) fn read(&self) {
        let Some(watched) = self.0.upgrade() else { return };
        let mut watched = watched.borrow_mut();
        watched.at_end = watched.reader.read().or(watched.at_end);
    }

    /// Whether nobody would take the reading any more.
    pub(super) fn is_unused(&self) -> bool {
        self.0.strong_count() == 0
    }
}
