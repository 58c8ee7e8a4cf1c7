//! A receiver that misbehaves on request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The time at which it was complete.
    pub at: Instant,
    /// Request line and headers.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

/// Listens on loopback until this process ends.
#[derive(Debug)]
pub struct Stub {
    /// Its address.
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Calls `answer` with each request and its number, from 0, and then closes the connection.
    pub fn start(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    /// Answers each request with the next of these, and with the last one forever.
    pub fn answering(answers: Vec<String>) -> Self {
        Self::start(move |number, _, stream| {
            let answer = &answers[number.min(answers.len() - 1)];
            // The client may have closed the connection.
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    /// The endpoint for pushes.
    pub fn endpoint(&self) -> String {
        format!("http://{}/api/v1/metrics", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("the list").clone()
    }

    /// Waits until this many requests have come in.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let end = Instant::now() + crate::program::PATIENCE;
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < end, "only {} requests came in", requests.len());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An answer with a body.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// A receiver's answer when it has stored a summary.
pub fn stored() -> String {
    answer("201 Created", "", r#"{"id": 7}"#)
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(usize, &Request, &mut TcpStream) + Send + Sync),
) {
    let Some((head, body)) = read(&mut stream) else { return };
    // The check before a command starts is answered as by a receiver, and does not count as a push.
    if head.starts_with("GET ") && head.contains("/api/v1/push-check?") {
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        return;
    }
    let request = Request { at: Instant::now(), head, body };
    let number = {
        let mut seen = seen.lock().expect("the list");
        seen.push(request.clone());
        seen.len() - 1
    };
    answer(number, &request, &mut stream);
}

fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |text| text.trim().parse().expect("a length"));
        if bytes.len() >= end + 4 + length {
            return Some((head, bytes[end + 4..end + 4 + length].to_vec()));
        }
    }
}
