//! A time limit for a client to show which version of HTTP it speaks.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The connection preface: what an HTTP/2 client sends first (RFC 9113).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails if the version stays undecided for too long. The server that tells the versions apart waits as
/// long as the first bytes could be the preface, without a time limit of its own.
#[derive(Debug)]
pub(super) struct PrefaceTimeout<S> {
    stream: S,
    /// The time limit. Set as long as all bytes received are a prefix of the preface.
    deadline: Option<Pin<Box<Sleep>>>,
    seen: usize,
}

impl<S> PrefaceTimeout<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, deadline: Some(Box::pin(tokio::time::sleep(patience))), seen: 0 }
    }

    fn saw(&mut self, bytes: &[u8]) {
        let expected = &PREFACE[self.seen..];
        let compared = bytes.len().min(expected.len());
        self.seen += compared;
        if bytes[..compared] != expected[..compared] || self.seen == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefaceTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "no HTTP request arrived in time")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.deadline.is_some() {
            self.saw(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefaceTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// The outcome for a stream that receives `sent` and then nothing more.
    async fn outcome(sent: &[u8]) -> std::result::Result<Vec<u8>, ErrorKind> {
        let (mut client, server) = duplex(64);
        let mut server = PrefaceTimeout::new(server, Duration::from_secs(10));
        client.write_all(sent).await.unwrap();
        let mut got = vec![];
        let read = async {
            loop {
                match server.read_buf(&mut got).await {
                    Ok(_) => {}
                    Err(error) => break error.kind(),
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_mins(1), read).await;
        ended.map_or(Ok(got), Err)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_could_still_be_either_is_closed() {
        for undecided in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(outcome(undecided).await, Err(ErrorKind::TimedOut), "{undecided:?}");
        }
        for decided in [&b"G"[..], b"PO", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"] {
            assert_eq!(outcome(decided).await.as_deref(), Ok(decided));
        }
    }
}
