//! The signals that end a measurement.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::inherited;

/// SIGINT and SIGTERM.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    pub(super) fn listen() -> io::Result<Self> {
        let listening =
            Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
        inherited::accept_end_signals();
        Ok(listening)
    }

    /// Waits for one of them and returns its name. Cancel-safe.
    pub(super) async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
