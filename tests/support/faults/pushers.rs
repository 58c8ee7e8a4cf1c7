//! Clients that push as fast as they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::http::Client;

/// Makes the name of every run in this process unique.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A new name for a run.
pub fn summary_id() -> String {
    format!("run-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A summary of that run, about 2 KB, for the job that most tests use.
pub fn body(summary_id: &str, seq: u64, is_final: bool) -> String {
    let stats = json!({"peak": 2.007, "p99": 2.0, "p95": 1.99, "p75": 1.9, "p50": 1.8, "avg": 1.5});
    let container = json!({"name": "runner", "cpu_cores": stats, "memory_bytes": stats, "cpu_seconds": 30.1,
        "series": {"step_seconds": 5.0, "cpu_cores": vec![1.25; 100], "memory_bytes": vec![1_048_576; 100]}});
    let body = json!({
        "organization": "my-org", "repository": "my-repo", "workflow": "ci.yml", "job": "build",
        "run_id": summary_id, "summary_id": summary_id, "seq": seq, "final": is_final,
        "payload": {
            "start_time": "2026-02-06T14:30:02.185Z", "end_time": "2026-02-06T14:30:22.190Z",
            "duration_seconds": 20.0, "sample_count": seq, "containers": [container]
        }
    });
    body.to_string()
}

/// Clients that push until they are stopped or get no answer.
#[derive(Debug)]
pub struct Pushers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Pushed>>,
}

/// The answers that clients got.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Runs that were answered with 2xx.
    pub acknowledged: Vec<String>,
    /// Other answers by status.
    pub refused: Vec<u16>,
    /// The time from sending to the answer, of every acknowledged push.
    pub times: Vec<Duration>,
}

impl Pushers {
    /// Starts this many clients. They call `token` before each push.
    pub fn start(address: &str, count: usize, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let token = Arc::new(token);
        let threads = (0..count).map(|_| {
            let (stop, address, token) = (Arc::clone(&stop), address.to_owned(), Arc::clone(&token));
            std::thread::spawn(move || push(&address, &*token, &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Waits until no client gets an answer any more.
    ///
    /// # Panics
    /// If a client panicked.
    pub fn join(self) -> Pushed {
        let mut all = Pushed::default();
        for thread in self.threads {
            let pushed = thread.join().expect("a client");
            all.acknowledged.extend(pushed.acknowledged);
            all.refused.extend(pushed.refused);
            all.times.extend(pushed.times);
        }
        all
    }

    /// Stops the clients after their current pushes.
    pub fn stop(self) -> Pushed {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }
}

fn push(address: &str, token: &(impl Fn() -> String + ?Sized), stop: &AtomicBool) -> Pushed {
    let mut pushed = Pushed::default();
    let Ok(mut client) = Client::connect(address) else { return pushed };
    while !stop.load(Ordering::Relaxed) {
        let id = summary_id();
        let begin = std::time::Instant::now();
        match client.send("POST", "/api/v1/metrics", &token(), &body(&id, 1, true)) {
            Ok(answer) if answer.status == 201 => {
                pushed.acknowledged.push(id);
                pushed.times.push(begin.elapsed());
            }
            Ok(answer) => pushed.refused.push(answer.status),
            Err(_) => break,
        }
    }
    pushed
}
