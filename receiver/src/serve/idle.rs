//! Idle connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use http_body_util::BodyExt;
use tokio::time::Instant;

/// The requests in flight on one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    last: Instant,
}

/// A request whose answer has not been sent completely.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { requests: 0, last: Instant::now() })))
    }

    /// Counts a request that has arrived.
    pub(super) fn request(&self) -> InFlight {
        self.with(|state| state.requests += 1);
        InFlight(self.clone())
    }

    /// Returns once the connection has been idle for `patience`. HTTP/2 has no limit of its own: a client that answers
    /// pings could keep its connection, or a request that it never finishes sending, open forever.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let since = self.with(|state| (state.requests == 0).then_some(state.last));
            let until = since.unwrap_or_else(Instant::now) + patience;
            if since.is_some() && until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl InFlight {
    /// Keeps the request in flight until the body has been sent.
    pub(super) fn until_sent(self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(body.map_frame(move |frame| {
            let _in_flight = &self;
            frame
        }))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests -= 1;
            state.last = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_answer() {
        let begin = Instant::now();
        let activity = Activity::new();
        let request = activity.request();
        let ends = async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            drop(request.until_sent(Body::from("answer")));
        };
        tokio::join!(activity.idle(Duration::from_secs(10)), ends);
        assert_eq!(begin.elapsed().as_secs(), 35);
    }
}
