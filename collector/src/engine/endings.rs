//! Wakes the sampler when the first process of a container has ended. The container's cgroup still exists for some
//! milliseconds and then has the final figures of the whole container.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::MaybeUninit;

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::watched_cgroup::EndReader;
use crate::sample::pidfd::HeldProcess;

/// Waits for the ends of processes.
#[derive(Debug)]
pub(crate) struct Endings {
    /// `None` if the kernel or a filter of system calls refuses it. Ends are then seen only at passes.
    epoll: Option<AsyncFd<OwnedFd>>,
    /// The accounts to read when a process ends, by the number of the process.
    readers: RefCell<HashMap<u64, EndReader>>,
    last: Cell<u64>,
    /// Whether a process has ended and the sampler was not woken yet.
    has_ended: Cell<bool>,
}

/// The number of a process whose end is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitedFor(u64);

impl Endings {
    /// Waits for no process yet.
    pub(crate) fn new() -> Self {
        let created = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from);
        let register = |fd: OwnedFd| {
            // SAFETY: an OwnedFd stays open and unchanged until it is dropped.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        };
        let registered = created.and_then(|fd| register(fd).map_err(Into::into));
        if let Err(error) = &registered {
            debug!(%error, "cannot wait for containers to end");
        }
        let (readers, last, has_ended) = (RefCell::default(), Cell::new(0), Cell::new(false));
        Self { epoll: registered.ok(), readers, last, has_ended }
    }

    /// Also waits for the end of this process, until its descriptor is closed.
    pub(super) fn add(&self, process: &HeldProcess) -> WaitedFor {
        let number = self.last.get() + 1;
        self.last.set(number);
        if let Some(epoll) = &self.epoll {
            // One event per process is enough: its holder checks it in the next pass.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
            let added = epoll::add(epoll.get_ref(), process, epoll::EventData::new_u64(number), flags);
            if let Err(error) = added {
                debug!(%error, "cannot wait for a container to end");
            }
        }
        WaitedFor(number)
    }

    /// The account to read at the moment at which this process ends.
    pub(super) fn read_at_end(&self, process: WaitedFor, reader: EndReader) {
        let mut readers = self.readers.borrow_mut();
        readers.retain(|_, reader| !reader.is_unused());
        readers.insert(process.0, reader);
    }

    /// A pass begins, which sees whatever has ended so far.
    pub(super) fn are_seen(&self) {
        self.has_ended.set(false);
    }

    /// Waits until one of the processes has ended, and at least until `after`. Meanwhile it reads the accounts of those that
    /// end. Cancel-safe.
    pub(crate) async fn wait(&self, after: Instant) {
        loop {
            let is_early = Instant::now() < after;
            if self.has_ended.get() && !is_early {
                self.has_ended.set(false);
                return;
            }
            tokio::select! {
                biased;
                () = self.ended() => self.has_ended.set(true),
                () = sleep_until(after), if self.has_ended.get() => {}
            }
        }
    }

    /// Waits until one of the processes has ended, and reads its container's account. Cancel-safe.
    async fn ended(&self) {
        let Some(epoll) = &self.epoll else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = epoll.readable().await else { return std::future::pending().await };
            let mut space = [MaybeUninit::uninit(); 32];
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ended = match epoll::wait(epoll.get_ref(), &mut space, Some(&zero)) {
                Ok((events, _)) => {
                    for event in &*events {
                        let reader = self.readers.borrow_mut().remove(&event.data.u64());
                        reader.iter().for_each(EndReader::read);
                    }
                    events.len()
                }
                Err(Errno::INTR) => continue,
                Err(_) => 0,
            };
            if ended < space.len() {
                ready.clear_ready();
            }
            if ended > 0 {
                return;
            }
        }
    }
}
