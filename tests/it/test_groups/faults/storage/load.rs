//! Overload, and load for longer than usual in a test.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::faults::{Books, Pushers, body, summary_id};
use tests::http::Client;
use tests::receiver::Receiver;

use super::clients::resident;
use super::rounds;

/// The receiver's memory limit under any load, in bytes.
const MEMORY: u64 = 128 << 20;

/// The receiver's highest RSS until this time.
fn watch(receiver: &Receiver, until: Instant) -> u64 {
    let mut highest = 0;
    while Instant::now() < until {
        highest = highest.max(resident(receiver.program().pid()));
        std::thread::sleep(Duration::from_millis(50));
    }
    highest
}

/// Ten seconds, or a minute in the long form.
fn a_while() -> Duration {
    Duration::from_secs(if rounds(0) > 20 { 60 } else { 10 })
}

#[test]
fn overload_is_refused_not_hoarded() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let small = token.clone();
    // Far more pushes at once than the receiver can write, and some large ones beside them.
    let pushers = Pushers::start(&receiver.address, 400, move || small.clone());
    let address = receiver.address.clone();
    let end = Instant::now() + a_while();
    let large: Vec<_> = (0..24)
        .map(|_| {
            let (address, token) = (address.clone(), token.clone());
            std::thread::spawn(move || {
                let mut large: serde_json::Value =
                    serde_json::from_str(&body(&summary_id(), 1, true)).unwrap();
                large["payload"]["padding"] = json!("x".repeat(3 << 20));
                let mut acknowledged = vec![];
                let mut refused = 0;
                while Instant::now() < end {
                    let id = summary_id();
                    large["summary_id"] = json!(id);
                    let answer = Client::connect(&address).and_then(|mut client| {
                        client.send("POST", "/api/v1/metrics", &token, &large.to_string())
                    });
                    match answer
                        .map(|answer| (answer.status, answer.header("retry-after").map(str::to_owned)))
                    {
                        Ok((201, _)) => acknowledged.push(id),
                        Ok((503, after)) => {
                            assert_eq!(after.as_deref(), Some("1"));
                            refused += 1;
                        }
                        Ok(other) => panic!("{other:?}"),
                        // The receiver answers without reading the rest of the body, and closes the connection.
                        Err(_) => refused += 1,
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    let highest = watch(&receiver, end);
    let mut pushed = pushers.stop();
    let mut refused_large = 0;
    for client in large {
        let (acknowledged, refused) = client.join().unwrap();
        pushed.acknowledged.extend(acknowledged);
        refused_large += refused;
    }
    println!(
        "{} acknowledged, {} and {refused_large} refused, at most {} MiB",
        pushed.acknowledged.len(),
        pushed.refused.len(),
        highest >> 20
    );
    assert!(highest < MEMORY, "it had {highest} bytes");
    assert!(pushed.refused.iter().all(|status| *status == 503), "{:?}", pushed.refused);
    assert!(refused_large > 0, "it was not too much");
    let mut books = Books::default();
    books.enter(&database, &pushed.acknowledged, Duration::ZERO);
    assert_eq!((books.lost, books.doubled), (0, 0), "{books:?}");
    // Afterwards the receiver works as before.
    assert_eq!(receiver.push(&token, &body(&summary_id(), 1, true)).status, 201);
}

#[test]
fn f40_memory_and_descriptors_stay_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let pid = receiver.program().pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let token = receiver.job_token();
    let soak = |pushes: usize| {
        let token = token.clone();
        let pushers = Pushers::start(&receiver.address, 16, move || token.clone());
        let mut count = 0;
        // Short connections beside the permanent ones.
        while count < pushes / 40 {
            assert_eq!(receiver.push(&receiver.job_token(), &body(&summary_id(), 1, true)).status, 201);
            assert!(!receiver.runs().is_empty());
            count += 1;
        }
        let mut pushed = pushers.stop();
        assert!(pushed.refused.is_empty(), "{:?}", pushed.refused);
        pushed.acknowledged.drain(..).count() + count
    };
    let pushes = if rounds(0) > 20 { 20_000 } else { 4000 };
    let mut total = soak(pushes);
    let (bytes, open) = (resident(pid), descriptors());
    let mut grown = 0;
    for _ in 0..2 {
        total += soak(pushes);
        grown = resident(pid).saturating_sub(bytes);
        std::thread::sleep(Duration::from_millis(100));
        assert!(descriptors() <= open + 2, "{open} descriptors became {}", descriptors());
    }
    println!("{total} pushes, {} MiB, then {} KiB more", bytes >> 20, grown >> 10);
    assert!(grown < 12 << 20, "{bytes} bytes grew by {grown}");
    assert!(total > 1000, "{total}");
}
