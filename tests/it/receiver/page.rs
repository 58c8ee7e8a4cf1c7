//! The page at the level of HTTP; `tests/browser` tests it in a browser.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::http::{Answer, raw};
use tests::receiver::{READ_TOKEN, Receiver};

/// Sends a request as a browser does, with more header lines; a body is a form.
pub(super) fn send(receiver: &Receiver, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let form = if method == "POST" {
        format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n", body.len())
    } else {
        String::new()
    };
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: ci.example\r\n{form}{headers}connection: close\r\n\r\n");
    raw(&receiver.address, format!("{head}{body}").as_bytes())
}

pub(super) fn sign_in(receiver: &Receiver, headers: &str, token: &str) -> Answer {
    send(receiver, "POST", "/sign-in", headers, &format!("token={token}&next=%2Fruns%2F7"))
}

pub(super) fn cookie(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.header("location")), (303, Some("/runs/7")), "{}", answer.body);
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// The redirect target of the overview with this cookie; none if the overview is shown.
fn leads_to(receiver: &Receiver, headers: &str, cookie: &str) -> Option<String> {
    let answer = send(receiver, "GET", "/", &format!("{headers}cookie: other=1; {cookie}\r\n"), "");
    assert!(matches!(answer.status, 200 | 303), "{}", answer.status);
    answer.header("location").map(str::to_owned)
}

#[test]
fn a_withdrawn_read_token_ends_the_sessions_that_it_began() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, "the old token\nthe other token\n").unwrap();
    let receiver = Receiver::start_as(&directory.path().join("db"), &[], |command| {
        command.env_remove("RECEIVER_READ_TOKEN").arg("--read-token-file").arg(&file);
    });
    let old = cookie(&sign_in(&receiver, "", "the+old+token"));
    let other = cookie(&sign_in(&receiver, "", "the+other+token"));
    assert_ne!(old, other);
    assert_eq!((leads_to(&receiver, "", &old), leads_to(&receiver, "", &other)), (None, None));
    std::fs::write(&file, "the other token\na new token\n").unwrap();
    receiver.program().signal(Signal::HUP);
    receiver.program().wait_for("secrets reloaded");
    assert_eq!(leads_to(&receiver, "", &old).as_deref(), Some("/sign-in?ended=1"));
    assert_eq!(leads_to(&receiver, "", &other), None);
    assert_eq!(sign_in(&receiver, "", "the+old+token").status, 403);
}

#[test]
fn a_proxy_is_believed_only_if_that_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let alone = Receiver::start(&directory.path().join("alone"));
    let behind = Receiver::start_with(&directory.path().join("behind"), &["--behind-proxy"]);
    let tls = "x-forwarded-proto: https\r\n";
    let plain = sign_in(&alone, tls, READ_TOKEN);
    assert!(
        cookie(&plain).starts_with("session=") && !plain.header("set-cookie").unwrap().contains("Secure")
    );
    let secure = sign_in(&behind, tls, READ_TOKEN);
    let session = cookie(&secure);
    assert!(session.starts_with("__Host-session="));
    for flag in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(secure.header("set-cookie").unwrap().contains(flag), "{flag}");
    }
    assert_eq!(leads_to(&behind, tls, &session), None);
    assert!(leads_to(&behind, "", &session).is_some(), "not without TLS");
    assert!(
        leads_to(&behind, tls, &session.replace("__Host-", "")).is_some(),
        "not what another host could set"
    );
}

#[test]
fn a_form_that_makes_no_sense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    assert_eq!(send(&receiver, "POST", "/sign-in", "", &"x".repeat(20_000)).status, 400);
    assert_eq!(send(&receiver, "POST", "/sign-in", "", "token=%ff").status, 403);
    assert_eq!(send(&receiver, "POST", "/sign-in", "", "").status, 403);
    assert_eq!(sign_in(&receiver, "origin: https://evil.example\r\n", READ_TOKEN).status, 403);
    assert_eq!(sign_in(&receiver, "sec-fetch-site: cross-site\r\n", READ_TOKEN).status, 403);
    assert_eq!(sign_in(&receiver, "origin: http://ci.example\r\n", READ_TOKEN).status, 303);
}

#[test]
fn wrong_tokens_come_later_and_later_and_a_cookie_opens_no_api() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let session = cookie(&sign_in(&receiver, "", READ_TOKEN));
    for _ in 0..8 {
        assert_eq!(sign_in(&receiver, "", "wrong").status, 403);
    }
    let begin = Instant::now();
    assert_eq!(sign_in(&receiver, "", "wrong").status, 403);
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    let path = "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build";
    assert_eq!(send(&receiver, "GET", path, &format!("cookie: {session}\r\n"), "").status, 401);
}

#[test]
fn every_answer_of_the_page_is_protected() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let html = "accept: text/html\r\n";
    for (path, status) in
        [("/sign-in", 200), ("/", 303), ("/assets/style.css", 200), ("/assets/x", 404), ("/x", 404)]
    {
        let answer = send(&receiver, "GET", path, html, "");
        assert_eq!(answer.status, status, "{path}");
        let policy =
            answer.header("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    let api = send(&receiver, "GET", "/api/v1/nothing", html, "");
    assert_eq!(api.header("content-type"), Some("application/problem+json"));
    assert_eq!(send(&receiver, "GET", "/x", "", "").header("content-type"), Some("application/problem+json"));
}
