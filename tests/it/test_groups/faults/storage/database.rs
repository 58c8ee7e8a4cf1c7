//! Databases that are locked, pinned, damaged, newer or copied.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::disk::{Disk, Syncs};
use tests::faults::{self, Books, Pushers, body, summary_id};
use tests::receiver::{Receiver, command};

use super::rounds;

/// The receiver's error when it cannot start with this database, as this user.
fn refusal(database: &Path, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = command();
    command.arg("--addr=127.0.0.1:0").arg("--db").arg(database);
    prepare(&mut command);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&*database.to_string_lossy()), "the database is not named: {stderr}");
    stderr
}

/// A database with this many runs. If the receiver is killed, the log is not empty.
fn filled(database: &Path, runs: usize, kill: bool) -> Vec<String> {
    let receiver = Receiver::start(database);
    let token = receiver.job_token();
    let ids: Vec<_> = (0..runs).map(|_| summary_id()).collect();
    for id in &ids {
        assert_eq!(receiver.push(&token, &body(id, 1, true)).status, 201);
    }
    if kill {
        receiver.program().signal(Signal::KILL);
    } else {
        assert_eq!(receiver.stop().status.code(), Some(0));
    }
    ids
}

fn overwrite(file: &Path, at: u64, change: impl FnOnce(&mut [u8; 64])) {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = [0; 64];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    change(&mut bytes);
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&bytes).unwrap();
}

#[test]
fn f5_a_lock_of_another_process_is_waited_for_and_then_told() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let other = faults::open(&database);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = Instant::now();
    let answer = receiver.push(&token, &body(&summary_id(), 1, true));
    let waited = begin.elapsed().as_secs_f64();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
    assert!((4.0..10.0).contains(&waited), "it waited for {waited} s");
    assert!(receiver.runs().is_empty(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(receiver.push(&token, &body(&summary_id(), 1, true)).status, 201);
}

#[test]
fn f6_a_reader_that_pins_the_log_is_told_of_and_survived() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let log_bytes = || std::fs::metadata(directory.path().join("db-wal")).unwrap().len();
    // Large, so that the log grows quickly.
    let push = || {
        let mut large: serde_json::Value = serde_json::from_str(&body(&summary_id(), 1, true)).unwrap();
        large["payload"]["padding"] = json!("x".repeat(3 << 20));
        assert_eq!(receiver.push(&token, &large.to_string()).status, 201);
    };
    push();
    let pinning = faults::open(&database);
    pinning.execute_batch("BEGIN; SELECT count(*) FROM runs").unwrap();
    while log_bytes() < 150 << 20 {
        push();
    }
    receiver
        .program()
        .wait_for("the write-ahead log grows because another process keeps reading the database");
    pinning.execute_batch("ROLLBACK").unwrap();
    for _ in 0..10 {
        push();
    }
    receiver.program().wait_for("the write-ahead log was copied into the database again");
    let bytes = log_bytes();
    assert!(bytes <= 64 << 20, "the log still has {bytes} bytes");
}

#[test]
fn f7_a_damaged_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let runs = filled(&database, 50, false).len();
    let sound = std::fs::read(&database).unwrap();
    let pages = sound.len() as u64 / 4096;
    // Each page but the first is damaged, one at a time. The receiver must not serve such a file.
    let mut refused = 0;
    for page in 1..pages {
        std::fs::write(&database, &sound).unwrap();
        overwrite(&database, page * 4096, |bytes| bytes.fill(0xff));
        assert!(refusal(&database, |_| {}).contains("the database is corrupt"));
        refused += 1;
        if refused == 20 {
            break;
        }
    }
    assert!(refused >= 10, "{pages} pages");
    std::fs::write(&database, &sound[..sound.len() / 2 / 4096 * 4096]).unwrap();
    assert!(refusal(&database, |_| {}).contains("corrupt"));
    std::fs::write(
        &database,
        "plain text, and long enough to be taken for a header of something ".repeat(99),
    )
    .unwrap();
    assert!(refusal(&database, |_| {}).contains("not a SQLite database"));
    std::fs::write(&database, &sound).unwrap();
    assert_eq!(Receiver::start(&database).runs().len(), runs);
}

#[test]
fn f7_a_damaged_log_is_refused_and_a_torn_one_is_recovered_from() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let log = directory.path().join("db-wal");
    let ids = filled(&database, 30, true);
    let (sound_database, sound_log) = (std::fs::read(&database).unwrap(), std::fs::read(&log).unwrap());
    let restore = || {
        std::fs::write(&database, &sound_database).unwrap();
        std::fs::write(&log, &sound_log).unwrap();
        let _ = std::fs::remove_file(directory.path().join("db-shm"));
    };
    let frames = (sound_log.len() as u64 - 32) / 4120;
    assert!(frames > 60, "{frames} frames");
    for at in [0, 18, 32 + 10 * 4120 + 9, 32 + 10 * 4120 + 1000, 32 + frames / 2 * 4120 + 17] {
        restore();
        overwrite(&log, at, |bytes| bytes[0] ^= 1);
        assert!(refusal(&database, |_| {}).contains("the write-ahead log is damaged"), "byte {at}");
        assert_eq!(std::fs::read(&log).unwrap().len(), sound_log.len(), "it was left as it is");
    }
    // The end of the last transaction is missing from the disk. Later: no shared memory, and whole pages of zeros.
    restore();
    std::fs::write(&log, &sound_log[..sound_log.len() - 100]).unwrap();
    let receiver = Receiver::start(&database);
    let runs = receiver.runs();
    assert_eq!(runs.len(), ids.len() - 1, "all but the last");
    drop(receiver);
    restore();
    std::fs::write(&log, [sound_log.as_slice(), &[0; 8240]].concat()).unwrap();
    assert_eq!(Receiver::start(&database).runs().len(), ids.len());
}

#[test]
fn f7_what_cannot_be_written_or_locked_is_refused() {
    let disk = Disk::new();
    filled(&disk.database(), 1, false);
    let told = refusal(&disk.database(), |command| {
        disk.under(command, Syncs::AsAsked);
        command.env("DISK_NO_LOCKS", "1");
    });
    assert!(told.contains("cannot lock files (No locks available"), "{told}");

    // As the user nobody, in root's directory.
    let directory = tempfile::Builder::new().prefix("readable").tempdir().unwrap();
    let database = directory.path().join("db");
    filled(&database, 1, false);
    open_to_all(directory.path(), 0o755);
    open_to_all(&database, 0o644);
    let program = directory.path().join("receiver");
    std::fs::copy(command().get_program(), &program).unwrap();
    let output = as_nobody(&program).arg("--addr=127.0.0.1:0").arg("--db").arg(&database).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("the database is read-only; the file and its directory must be writable"),
        "{told}"
    );
}

/// This program as the user nobody, with the secrets of the tests.
pub(super) fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.env("RECEIVER_READ_TOKEN", tests::receiver::READ_TOKEN);
    command.env("RECEIVER_HMAC_KEY", tests::receiver::HMAC_KEY);
    command
}

pub(super) fn open_to_all(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn f8_a_newer_database_is_refused_and_a_migration_is_all_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer");
    filled(&newer, 1, false);
    faults::open(&newer).execute_batch("PRAGMA user_version = 99").unwrap();
    let told = refusal(&newer, |_| {});
    assert!(told.contains("version 99, newer than this program supports"), "{told}");

    let database = directory.path().join("db");
    for round in 0..rounds(20) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.path().join(format!("db{suffix}")));
        }
        // Kill the first start at different moments.
        let mut command = command();
        command.args(["--addr=127.0.0.1:0"]).arg("--db").arg(&database).stderr(std::process::Stdio::null());
        let mut first = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(round % 40)));
        first.kill().unwrap();
        first.wait().unwrap();
        let receiver = Receiver::start(&database);
        assert_eq!(receiver.push(&receiver.job_token(), &body(&summary_id(), 1, true)).status, 201);
        let tables: i64 = faults::open(&database)
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name IN ('runs', 'containers')", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(tables, 2);
    }
}

#[test]
fn f10_the_same_number_with_another_body_is_a_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let id = summary_id();
    let mut other: serde_json::Value = serde_json::from_str(&body(&id, 1, true)).unwrap();
    other["payload"]["duration_seconds"] = json!(21.0);
    assert_eq!(receiver.push(&token, &body(&id, 1, true)).status, 201);
    for _ in 0..3 {
        assert_eq!(receiver.push(&token, &other.to_string()).status, 409);
    }
    let runs = receiver.runs();
    assert_eq!((runs.len(), &runs[0]["payload"]["duration_seconds"]), (1, &json!(20.0)), "the first is kept");
}

#[test]
fn f11_summaries_in_any_order_end_with_the_right_one() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let id = summary_id();
    let steps = [
        (3, false, false),
        (1, false, true),
        (2, false, true),
        (4, true, false),
        (2, false, true),
        (9, false, true),
    ];
    for (seq, is_final, superseded) in steps {
        let answer = receiver.push(&token, &body(&id, seq, is_final));
        assert!([200, 201].contains(&answer.status), "{}", answer.body);
        assert_eq!(answer.json()["superseded"] == true, superseded, "{seq}: {}", answer.body);
    }
    let runs = receiver.runs();
    assert_eq!((runs.len(), &runs[0]["payload"]["sample_count"]), (1, &json!(4)));
}

#[test]
fn f38_a_backup_while_writing_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let before: Vec<_> = (0..20).map(|_| summary_id()).collect();
    for id in &before {
        assert_eq!(receiver.push(&token, &body(id, 1, true)).status, 201);
    }
    let pushers = Pushers::start(&receiver.address, 4, move || token.clone());
    let backup = |file: &Path| command().arg("backup").arg("--db").arg(&database).arg(file).output().unwrap();
    let check = |file: &Path| command().arg("check").arg(file).output().unwrap();
    for round in 0..5 {
        let file = directory.path().join(format!("copy {round}"));
        let output = backup(&file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut books = Books::default();
        books.enter(&file, &before, Duration::ZERO);
        assert_eq!((books.lost, books.doubled), (0, 0), "{books:?}");
        assert!(check(&file).status.success());
    }
    let pushed = pushers.stop();
    assert!(
        pushed.acknowledged.len() > 20 && pushed.refused.is_empty(),
        "it went on meanwhile: {:?}",
        pushed.refused
    );
    let copy = directory.path().join("copy 0");
    let told = |output: std::process::Output| String::from_utf8(output.stderr).unwrap();
    assert!(told(backup(&copy)).contains("exists; name a file that does not"));
    assert!(Receiver::start(&copy).runs().len() >= before.len(), "it can be served");

    let damaged = directory.path().join("copy 1");
    overwrite(&damaged, 3 * 4096, |bytes| bytes.fill(0xff));
    let output = check(&damaged);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(output).contains("corrupt"));
    let nowhere = directory.path().join("nowhere");
    assert!(told(check(&nowhere)).contains("nowhere"));
    assert!(!nowhere.exists());
}
