use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

use super::*;
use crate::config::Secret;
use crate::config::tokens::TokenTable;

/// A receiver that answers each connection with the next of `answers`, and forever with the last one; an empty answer is
/// never sent.
struct Stub {
    endpoint: Url,
    requests: Arc<AtomicUsize>,
}

async fn stub(answers: &'static [&'static str]) -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/api/v1/metrics", listener.local_addr().unwrap()).parse().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let index = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answers[index.min(answers.len() - 1)];
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..length]).contains("authorization: Bearer t0ken"));
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    Stub { endpoint, requests }
}

macro_rules! answer {
    ($status:literal, $headers:literal, $body:literal) => {
        concat!("HTTP/1.1 ", $status, "\r\nconnection: close\r\n", $headers, "\r\n", $body)
    };
}

const STORED: &str = answer!("201 Created", "", r#"{"id": 7}"#);
const BUSY: &str = answer!("503 Service Unavailable", "", "");

async fn push_to(stub: &Stub, budget: Duration) -> Result<Stored, PushError> {
    let target = PushTarget {
        endpoint: stub.endpoint.clone(),
        token: Some(Secret::new("t0ken".to_owned())),
        token_file: None,
        tokens: TokenTable::default(),
        tokens_file: None,
        ca_certificates: None,
        token_is_argument: false,
    };
    Pusher::new(&target).push(Bytes::from_static(b"{}"), Instant::now() + budget).await
}

const PLENTY: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    const FIRST: [&str; 5] = [
        BUSY,
        answer!("500 Internal Server Error", "", "oops"),
        answer!("429 Too Many Requests", "", ""),
        answer!("408 Request Timeout", "", ""),
        // A connection that is cut before it is answered.
        "HTTP/1.1 ",
    ];
    for first in FIRST {
        let answers: &'static [&'static str] = Box::leak(vec![first, first, STORED].into_boxed_slice());
        let stub = stub(answers).await;
        assert_eq!(push_to(&stub, PLENTY).await.unwrap().id, 7, "{first}");
        assert_eq!(stub.requests.load(Ordering::SeqCst), 3, "{first}");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_sent_again() {
    let cases: [(&'static [&'static str], &str); 6] = [
        (&[answer!("401 Unauthorized", "", "")], "401 Unauthorized"),
        (
            &[answer!(
                "403 Forbidden",
                "",
                r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"not yours"}"#
            )],
            "not yours",
        ),
        (&[answer!("400 Bad Request", "", "what?")], "what?"),
        (&[answer!("413 Content Too Large", "", "")], "413"),
        (&[answer!("301 Moved Permanently", "location: http://127.0.0.1:1/\r\n", "")], "301"),
        (&[answer!("200 OK", "", "<html>a proxy</html>")], "a proxy"),
    ];
    for (answers, expected) in cases {
        let stub = stub(answers).await;
        let error = push_to(&stub, PLENTY).await.unwrap_err();
        assert!(matches!(&error, PushError::Refused { reason, .. } if reason.contains(expected)), "{error}");
        assert!(!error.to_string().contains("t0ken"));
        assert_eq!(stub.requests.load(Ordering::SeqCst), 1, "{expected}");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let stub = stub(&[answer!("503 Service Unavailable", "retry-after: 1\r\n", ""), STORED]).await;
    let begin = Instant::now();
    assert_eq!(push_to(&stub, PLENTY).await.unwrap().id, 7);
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_retry_after_beyond_the_budget_ends_at_once() {
    let stub = stub(&[answer!("503 Service Unavailable", "retry-after: 3600\r\n", ""), STORED]).await;
    let begin = Instant::now();
    let error = push_to(&stub, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, PushError::OutOfTime { attempts: 1, .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn the_budget_holds() {
    let silent = stub(&[""]).await;
    let closed = Stub { endpoint: "http://127.0.0.1:1/".parse().unwrap(), requests: Arc::default() };
    let busy = stub(&[BUSY]).await;
    for stub in [silent, closed, busy] {
        let begin = Instant::now();
        let error = push_to(&stub, Duration::from_millis(700)).await.unwrap_err();
        assert!(matches!(error, PushError::OutOfTime { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}
