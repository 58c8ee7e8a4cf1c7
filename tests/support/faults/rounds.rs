//! The rounds of each fault.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Books, Pushers, body, summary_id};
use crate::disk::{Disk, Failing, Small, Syncs};
use crate::http::request;
use crate::receiver::Receiver;

/// Clients in a burst.
const CLIENTS: usize = 8;

/// A number below `bound` that differs between runs.
fn random(bound: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() % bound
}

fn burst(receiver: &Receiver) -> Pushers {
    let token = receiver.job_token();
    Pushers::start(&receiver.address, CLIENTS, move || token.clone())
}

/// Lets a burst run for a moment.
fn a_moment() {
    std::thread::sleep(Duration::from_millis(20 + random(130)));
}

/// The time from `begin` until a push is acknowledged. It is retried until then.
fn recovery(receiver: &Receiver, begin: Instant) -> Duration {
    let token = receiver.job_token();
    let id = summary_id();
    while receiver.push(&token, &body(&id, 1, true)).status != 201 {
        assert!(begin.elapsed() < Duration::from_secs(30), "no push is taken any more");
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.elapsed()
}

/// F1: SIGKILL in a burst of pushes.
pub fn kill(rounds: u32) -> Books {
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("db");
    let mut books = Books::default();
    let mut receiver = Receiver::start(&database);
    for _ in 0..rounds {
        let pushers = burst(&receiver);
        a_moment();
        receiver.program().signal(Signal::KILL);
        let pushed = pushers.join();
        drop(receiver);
        let begin = Instant::now();
        receiver = Receiver::start(&database);
        books.enter(&database, &pushed.acknowledged, recovery(&receiver, begin));
    }
    books
}

/// F2: power fails in a burst of pushes, and all unsynced data is lost.
pub fn power_loss(rounds: u32, syncs: Syncs) -> Books {
    let disk = Disk::new();
    let mut books = Books::default();
    let start = || Receiver::start_as(&disk.database(), &[], |command| disk.under(command, syncs));
    let mut receiver = start();
    for _ in 0..rounds {
        let pushers = burst(&receiver);
        a_moment();
        receiver.program().signal(Signal::KILL);
        let pushed = pushers.join();
        drop(receiver);
        disk.lose_power();
        let begin = Instant::now();
        receiver = start();
        books.enter(&disk.database(), &pushed.acknowledged, recovery(&receiver, begin));
    }
    books
}

/// F3: the disk is full in a burst of pushes, and then has space again.
///
/// # Panics
/// If an answer is neither that the push is stored nor that the disk is full, or if reading fails.
pub fn full_disk(rounds: u32) -> Books {
    // Enough for the runs of all rounds and the log.
    let disk = Small::new(256 << 20);
    let database = disk.path().join("db");
    let receiver = Receiver::start(&database);
    let mut books = Books::default();
    for _ in 0..rounds {
        let pushers = burst(&receiver);
        a_moment();
        let ballast = disk.fill();
        let (token, begin) = (receiver.job_token(), Instant::now());
        // Pushes that still fit into the log are stored.
        loop {
            let answer = receiver.push(&token, &body(&summary_id(), 1, true));
            if answer.status == 503 {
                assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.body);
                assert!(answer.body.contains("full"), "{}", answer.body);
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "the disk does not get full");
        }
        assert!(!receiver.runs().is_empty(), "reading goes on");
        drop(ballast);
        let recovered_in = recovery(&receiver, Instant::now());
        let pushed = pushers.stop();
        assert!(pushed.refused.iter().all(|status| *status == 503), "{:?}", pushed.refused);
        books.enter(&database, &pushed.acknowledged, recovered_in);
    }
    books
}

/// F4: syncs, or writes, fail in a burst of pushes; then power fails.
///
/// # Panics
/// If nothing was refused.
pub fn failing_disk(rounds: u32, what: Failing) -> Books {
    let disk = Disk::new();
    let mut books = Books::default();
    let start = || Receiver::start_as(&disk.database(), &[], |command| disk.under(command, Syncs::AsAsked));
    let mut receiver = start();
    for _ in 0..rounds {
        let pushers = burst(&receiver);
        a_moment();
        disk.fail(what, true);
        a_moment();
        disk.fail(what, false);
        let recovered_in = recovery(&receiver, Instant::now());
        a_moment();
        receiver.program().signal(Signal::KILL);
        let pushed = pushers.join();
        assert!(pushed.refused.contains(&503), "nothing failed");
        drop(receiver);
        disk.lose_power();
        receiver = start();
        books.enter(&disk.database(), &pushed.acknowledged, recovered_in);
    }
    books
}

/// F9: every summary is pushed many times, in parallel and one after another.
///
/// # Panics
/// If the answers of a summary are not one 201 and otherwise 200.
pub fn repeats(rounds: u32) -> Books {
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let mut books = Books::default();
    for _ in 0..rounds {
        let id = summary_id();
        let summary = body(&id, 1, true);
        let address = &receiver.address;
        let push = || request(address, "POST", "/api/v1/metrics", &token, &summary).status;
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let pushes: Vec<_> = (0..50).map(|_| scope.spawn(push)).collect();
            pushes.into_iter().map(|push| push.join().expect("a client")).collect()
        });
        statuses.extend((0..50).map(|_| push()));
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 201].contains(status)), "{statuses:?}");
        books.enter(&database, &[id], Duration::ZERO);
    }
    books
}

/// F37: SIGTERM with many pushes in flight.
///
/// # Panics
/// If the receiver does not end successfully and soon, or leaves its log behind.
pub fn stop(rounds: u32, in_flight: usize) -> Books {
    let directory = tempfile::tempdir().expect("a directory");
    let database = directory.path().join("db");
    let mut books = Books::default();
    for _ in 0..rounds {
        let receiver = Receiver::start(&database);
        let token = receiver.job_token();
        let pushers = Pushers::start(&receiver.address, in_flight, move || token.clone());
        a_moment();
        let begin = Instant::now();
        let ended = receiver.stop();
        let took = begin.elapsed();
        let pushed = pushers.join();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        assert!(pushed.refused.is_empty(), "{:?}", pushed.refused);
        assert!(!log_of(&database).exists(), "the write-ahead log was not emptied");
        books.enter(&database, &pushed.acknowledged, took);
    }
    books
}

/// The write-ahead log of a database.
fn log_of(database: &Path) -> std::path::PathBuf {
    database.with_file_name("db-wal")
}
