//! Work for the writing thread that can wait: figures of jobs, deletion of old runs.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;

/// A piece of work, done in a transaction of its own between batches of pushes. It should take a few milliseconds.
pub(super) struct Deferred(Box<dyn Work>);

trait Work: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
    fn is_abandoned(&self) -> bool;
}

struct Task<F, T> {
    work: Option<F>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl Deferred {
    /// Returns the work, and the receiver that gets its result once it is on disk.
    pub(super) fn new<T: Send + 'static>(
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self(Box::new(Task { work: Some(work), done: None, reply })), answer)
    }

    /// Does the work in the caller's transaction.
    pub(super) fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.0.run(connection)
    }

    /// Sends the result to the caller that waits for it.
    pub(super) fn answer(self, result: Result<(), StoreError>) {
        self.0.answer(result);
    }

    /// Whether nobody waits for the result any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }
}

impl<F, T> Work for Task<F, T>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.done = Some(work(connection)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { done, reply, .. } = *self;
        let undone = || StoreError::Failed("background work failed".to_owned());
        // The caller may be gone. The work is done nevertheless.
        let _ = reply.send(result.and_then(|()| done.ok_or_else(undone)));
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}
