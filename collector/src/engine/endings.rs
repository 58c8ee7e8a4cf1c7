//! Wakes the sampler when the first process of a container has ended. The container's cgroup still exists for some
//! milliseconds and then has the final figures of the whole container.

use std::mem::MaybeUninit;

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

use crate::sample::pidfd::HeldProcess;

/// Waits for the ends of processes.
#[derive(Debug)]
pub(crate) struct Endings {
    /// `None` if the kernel or a filter of system calls refuses it. Ends are then seen only at passes.
    epoll: Option<AsyncFd<OwnedFd>>,
}

impl Endings {
    /// Waits for no process yet.
    pub(crate) fn new() -> Self {
        let created = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from);
        let register = |fd: OwnedFd| {
            // SAFETY: an OwnedFd stays open and unchanged until it is dropped.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
        };
        let registered = created.and_then(|fd| register(fd).map_err(Into::into));
        match registered {
            Ok(epoll) => Self { epoll: Some(epoll) },
            Err(error) => {
                debug!(%error, "cannot wait for containers to end");
                Self { epoll: None }
            }
        }
    }

    /// Also waits for the end of this process, until its descriptor is closed.
    pub(crate) fn add(&self, process: &HeldProcess) {
        let Some(epoll) = &self.epoll else { return };
        // One event per process is enough: its holder checks it in the next pass.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        if let Err(error) = epoll::add(epoll.get_ref(), process, epoll::EventData::new_u64(0), flags) {
            debug!(%error, "cannot wait for a container to end");
        }
    }

    /// Waits until one of the processes has ended. Cancel-safe.
    pub(crate) async fn wait(&self) {
        let Some(epoll) = &self.epoll else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = epoll.readable().await else { return std::future::pending().await };
            let mut space = [MaybeUninit::uninit(); 32];
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ended = match epoll::wait(epoll.get_ref(), &mut space, Some(&zero)) {
                Ok((events, _)) => events.len(),
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
