//! The thread that files are written on.

use std::sync::mpsc::{Sender, channel};

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// Made before there is much in memory: later, and at the end above all, there may be none left for a thread.
pub(super) struct FileThread(Sender<CapabilitySets>);

impl FileThread {
    /// Begins with the capabilities of who calls; does nothing else before [`FileThread::settle`].
    pub(super) fn start() -> Self {
        let (sender, receiver) = channel::<CapabilitySets>();
        drop(tokio::task::spawn_blocking(move || {
            if let Ok(sets) = receiver.recv()
                && let Err(error) = set_capabilities(None, sets)
            {
                tracing::warn!(%error, "the thread that writes files keeps capabilities that it does not need");
            }
        }));
        Self(sender)
    }

    /// Gives up what the calling thread has given up meanwhile: capabilities are each thread's own (capabilities(7)).
    pub(super) fn settle(self) {
        if let Ok(sets) = capabilities(None) {
            // It waits for just this.
            let _ = self.0.send(sets);
        }
    }
}
