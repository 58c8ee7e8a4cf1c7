//! Writes a checkpoint: a thread receives one block after another and writes the file.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, warn};

use crate::accumulate::Accumulator;
use crate::deliver::checkpoint::{Encoder, Head};
use crate::deliver::spool::AtomicFile;

/// How many blocks may wait for the disk; each is one container, at most about 80 KiB.
const BLOCKS: usize = 16;

/// A checkpoint of the run as it was after `passes` passes.
#[derive(Debug)]
pub(super) struct CheckpointWriter {
    passes: u64,
    encoder: Encoder,
    state: WriterState,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum WriterState {
    /// Blocks are still to be made.
    Sending(Sender<Vec<u8>>),
    /// The last block was sent, or the thread has ended early and logged why.
    Finishing,
    /// The checkpoint was given up.
    Overtaken,
}

/// The result of a step.
pub(super) enum Progress {
    /// More steps follow.
    More,
    /// The checkpoint is on disk, or the disk fails.
    Done,
    /// A pass came first, so this checkpoint was given up.
    Overtaken,
}

impl CheckpointWriter {
    pub(super) fn begin(head: &Head, accumulator: &Accumulator, path: PathBuf) -> postcard::Result<Self> {
        let (encoder, first) = Encoder::begin(head, accumulator)?;
        let (blocks, receiver) = channel(BLOCKS);
        let thread = spawn_blocking(move || match write(&path, &first, receiver) {
            Ok(Some(bytes)) => debug!(bytes, "the checkpoint is on disk"),
            Ok(None) => debug!("a checkpoint was given up"),
            Err(error) => warn!(%error, "a checkpoint cannot be written"),
        });
        Ok(Self { passes: accumulator.passes(), encoder, state: WriterState::Sending(blocks), thread })
    }

    /// Makes the next block, for which [`CheckpointWriter::ready`] has waited.
    pub(super) fn step(&mut self, accumulator: &Accumulator) -> Progress {
        let blocks = match &self.state {
            WriterState::Sending(blocks) => blocks,
            WriterState::Finishing => return Progress::Done,
            WriterState::Overtaken => return Progress::Overtaken,
        };
        if self.passes != accumulator.passes() {
            self.state = WriterState::Overtaken;
            return Progress::More;
        }
        let (block, is_last) = match self.encoder.next(accumulator) {
            Ok(Some(block)) => (block, false),
            // An empty block commits the file.
            Ok(None) => (Vec::new(), true),
            Err(error) => {
                warn!(%error, "a checkpoint cannot be made");
                self.state = WriterState::Overtaken;
                return Progress::More;
            }
        };
        if blocks.try_send(block).is_err() || is_last {
            self.state = WriterState::Finishing;
        }
        Progress::More
    }

    /// Waits until a block can be sent or, after the last one, until the thread has ended. Cancel-safe.
    pub(super) async fn ready(&mut self) {
        if let WriterState::Sending(blocks) = &self.state {
            // There is no other sender, so the permit returned here is still free a moment later.
            drop(blocks.reserve().await);
            tokio::task::yield_now().await;
        } else if !self.thread.is_finished() {
            // A thread that panicked has no file open any more.
            let _ = (&mut self.thread).await;
        }
    }

    /// Gives the checkpoint up unless its last block was sent. The handle ends when no file is open any more.
    pub(super) fn abort(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Writes until the empty block. Returns the file's size, or `None` if that block never came.
fn write(path: &Path, first: &[u8], mut blocks: Receiver<Vec<u8>>) -> io::Result<Option<u64>> {
    let mut file = AtomicFile::create(path)?;
    let mut bytes = first.len() as u64;
    file.append(first)?;
    while let Some(block) = blocks.blocking_recv() {
        if block.is_empty() {
            file.finish()?;
            return Ok(Some(bytes));
        }
        bytes += block.len() as u64;
        file.append(&block)?;
    }
    Ok(None)
}
