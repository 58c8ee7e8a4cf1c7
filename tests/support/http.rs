//! HTTP at the level of bytes.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Answer {
    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Connects.
pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// A connection that is used repeatedly.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects.
    pub fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request with a bearer token and a JSON body; both may be empty. An error if the answer is not complete.
    pub fn send(&mut self, method: &str, path: &str, token: &str, body: &str) -> Result<Answer> {
        let request = format!("{}\r\n{body}", head(method, path, token, body));
        self.0.get_mut().write_all(request.as_bytes())?;
        let cut = || Error::new(ErrorKind::UnexpectedEof, "no whole answer");
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(cut)
        };
        let status = line()?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut)?;
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        answer.body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(answer)
    }
}

/// The head of a request, without its last empty line.
fn head(method: &str, path: &str, token: &str, body: &str) -> String {
    let authorization =
        if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    let content = if body.is_empty() {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{authorization}{content}")
}

/// Sends these bytes on a new connection and reads the answer.
pub fn raw(address: &str, request: &[u8]) -> Answer {
    let mut stream = connect(address);
    // A server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    read(&mut stream)
}

/// Reads one answer. The request must have had `connection: close`.
pub fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    // The body may be compressed.
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Answer {
        body: if chunked { unchunked(body) } else { body.to_owned() },
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        headers,
    }
}

/// Decodes a chunked body. The last chunk, which is empty, must be there.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, chunk) = rest.split_once("\r\n").unwrap_or_else(|| panic!("cut off after {body:?}"));
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body.push_str(&chunk[..length]);
        rest = &chunk[length + 2..];
    }
}

/// Sends a request with a bearer token and a JSON body; both may be empty.
pub fn request(address: &str, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let head = head(method, path, token, body);
    raw(address, format!("{head}connection: close\r\n\r\n{body}").as_bytes())
}
