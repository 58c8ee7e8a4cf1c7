//! The thread that writes files.

use std::sync::mpsc::{Sender, channel};

use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

/// Started early: later, above all at the end, there may be no memory left to start a thread.
pub(crate) struct WriterThread(Sender<CapabilitySets>);

impl WriterThread {
    /// Starts with the capabilities of the calling thread and waits for [`WriterThread::settle`].
    pub(crate) fn start() -> Self {
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

    /// Drops the capabilities that the calling thread has dropped meanwhile: each thread has its own (capabilities(7)).
    pub(crate) fn settle(self) {
        if let Ok(sets) = capabilities(None) {
            // The thread waits for this message.
            let _ = self.0.send(sets);
        }
    }
}
