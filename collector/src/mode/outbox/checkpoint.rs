//! A checkpoint on its way to the disk: a thread writes, and is sent one block after another.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, warn};

use crate::accumulate::Accumulator;
use crate::deliver::checkpoint::{Encoder, Head};
use crate::deliver::spool::AtomicFile;

/// So many blocks may wait for the disk; each is one container, at most about 80 KiB.
const BLOCKS: usize = 16;

/// A checkpoint of the run as it was after so many passes.
#[derive(Debug)]
pub(super) struct Writing {
    passes: u64,
    encoder: Encoder,
    /// Until the last block was sent, or it was given up.
    blocks: Option<Sender<Vec<u8>>>,
    thread: JoinHandle<()>,
    whole: bool,
}

/// How far it is.
pub(super) enum Progress {
    /// There is more to be done.
    More,
    /// It is on disk, or the disk fails.
    Done,
    /// A pass came first: this one was given up.
    Overtaken,
}

impl Writing {
    pub(super) fn begin(head: &Head, accumulator: &Accumulator, path: PathBuf) -> postcard::Result<Self> {
        let (encoder, first) = Encoder::begin(head, accumulator)?;
        let (blocks, receiver) = channel(BLOCKS);
        let thread = spawn_blocking(move || match write(&path, &first, receiver) {
            Ok(Some(bytes)) => debug!(bytes, "the checkpoint is on disk"),
            Ok(None) => debug!("a checkpoint was given up"),
            Err(error) => warn!(%error, "a checkpoint cannot be written"),
        });
        Ok(Self { passes: accumulator.passes(), encoder, blocks: Some(blocks), thread, whole: false })
    }

    /// Makes the next block; there must be [`room`].
    pub(super) fn go_on(&mut self, accumulator: &Accumulator) -> Progress {
        let Some(blocks) = &self.blocks else {
            return if self.whole { Progress::Done } else { Progress::Overtaken };
        };
        if self.passes != accumulator.passes() {
            self.blocks = None;
            return Progress::More;
        }
        let block = match self.encoder.next(accumulator) {
            Ok(Some(block)) => block,
            // An empty block says that it is whole.
            Ok(None) => {
                self.whole = true;
                Vec::new()
            }
            Err(error) => {
                warn!(%error, "a checkpoint cannot be made");
                self.blocks = None;
                return Progress::More;
            }
        };
        if blocks.try_send(block).is_err() {
            // The thread has ended early, and has said why.
            self.whole = true;
        }
        if self.whole {
            self.blocks = None;
        }
        Progress::More
    }

    /// Gives it up, unless it is whole already; what is returned ends when nothing of it is left.
    pub(super) fn abort(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Waits until a block can be sent, or, behind the last one, until the thread has ended; without a checkpoint for
/// ever. Cancelling loses nothing.
pub(super) async fn room(writing: Option<&mut Writing>) {
    match writing {
        Some(Writing { blocks: Some(blocks), .. }) => {
            // Nobody else sends: a permit given back is there a moment later.
            drop(blocks.reserve().await);
            tokio::task::yield_now().await;
        }
        Some(Writing { thread, .. }) => {
            if !thread.is_finished() {
                // A thread that panicked has nothing open any more.
                let _ = thread.await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Writes until the empty block; `None`: it never came.
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
