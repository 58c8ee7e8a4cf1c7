use super::*;

fn run(seq: Option<u64>, is_final: bool, body: &str) -> NewRun {
    NewRun {
        scope: Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap(),
        run_id: "1".to_owned(),
        run_attempt: None,
        summary: seq.map(|seq| SummaryKey { summary_id: "s".to_owned(), seq }),
        is_final,
        complete: None,
        start_time: Timestamp::UNIX_EPOCH,
        end_time: Timestamp::UNIX_EPOCH,
        duration_seconds: 0.0,
        cpu_seconds: None,
        ci: None,
        received_at: Timestamp::UNIX_EPOCH,
        digest: <sha2::Sha256 as sha2::Digest>::digest(body).into(),
        payload: body.to_owned(),
        containers: vec![ContainerSummary { name: body.to_owned(), ..ContainerSummary::default() }],
        sources: vec![],
        places: vec![],
    }
}

#[test]
fn every_order_of_summaries_ends_with_the_right_one() {
    use Outcome::{Conflict, Created, Repeated, Replaced, Superseded};
    let directory = tempfile::tempdir().unwrap();
    let mut connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    let steps = [
        (run(Some(2), false, "two"), Created(1)),
        (run(Some(2), false, "two"), Repeated(1)),
        (run(Some(2), false, "other"), Conflict),
        (run(Some(1), false, "one"), Superseded(1)),
        (run(Some(3), false, "three"), Replaced(1)),
        (run(Some(5), true, "final"), Replaced(1)),
        (run(Some(4), false, "four"), Superseded(1)),
        (run(Some(6), false, "late interim"), Superseded(1)),
        (run(Some(5), true, "final"), Repeated(1)),
        (run(Some(7), true, "recovered"), Replaced(1)),
        (run(None, true, "alone"), Created(2)),
        (run(None, true, "alone"), Created(3)),
    ];
    for (step, (run, expected)) in steps.into_iter().enumerate() {
        let outcome = write::execute(&mut connection, vec![run]).remove(0).unwrap();
        assert_eq!(outcome, expected, "step {step}");
    }
    let kept: (String, String) = connection
        .query_row("SELECT payload, name FROM runs JOIN containers ON run = id WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(kept, ("recovered".to_owned(), "recovered".to_owned()));
}

#[test]
fn a_batch_is_one_transaction_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    let batch = vec![
        run(Some(1), false, "one"),
        run(None, true, "x"),
        run(Some(2), true, "two"),
        run(Some(1), false, "one"),
    ];
    let outcomes: Vec<_> = write::execute(&mut connection, batch).into_iter().map(Result::unwrap).collect();
    assert_eq!(
        outcomes,
        [Outcome::Created(1), Outcome::Created(2), Outcome::Replaced(1), Outcome::Superseded(1)]
    );
}

#[test]
fn the_query_of_a_job_is_served_by_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    for (sql, index) in [(runs::RUNS, "runs_of_job"), (runs::RUNS_WITH_ID, "runs_by_run_id")] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>().unwrap();
        let plan = plan.join("\n");
        assert!(plan.starts_with(&format!("SEARCH runs USING INDEX {index} (")), "{plan}");
        assert!(plan.contains("id<?") && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
    }
}

#[test]
fn a_database_that_is_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE notes (text)").unwrap();
    assert!(matches!(schema::open_for_writing(&path), Err(OpenError::Foreign)));
    let mode: String = other.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");

    let path = directory.path().join("newer.db");
    schema::open_for_writing(&path).unwrap().execute_batch("PRAGMA user_version = 999").unwrap();
    assert!(matches!(schema::open_for_writing(&path), Err(OpenError::Newer { found: 999, .. })));

    let path = directory.path().join("text.db");
    std::fs::write(&path, "this is no database, and it is long enough to be told from one").unwrap();
    let error = schema::open_for_writing(&path).unwrap_err().to_string();
    assert!(error.contains("is not a SQLite database"), "{error}");
}

#[test]
fn a_full_disk_is_told_as_one_and_takes_nothing_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    write::execute(&mut connection, vec![run(None, true, "before")]).remove(0).unwrap();
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    // SQLite reports the same error for a database that may not grow as for a full disk.
    connection.pragma_update(None, "max_page_count", pages).unwrap();
    let large = "x".repeat(1 << 20);
    let batch = vec![run(None, true, "small"), run(None, true, &large), run(None, true, "small too")];
    let outcomes = write::try_execute(&mut connection, batch);
    assert!(matches!(outcomes, Err(StoreError::Unusable { cause: Cause::Full, .. })), "{outcomes:?}");
    let count = |connection: &rusqlite::Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&connection), 1, "nothing of the batch was acknowledged, so nothing of it is stored");
    connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    assert_eq!(
        write::execute(&mut connection, vec![run(None, true, &large)]).remove(0).unwrap(),
        Outcome::Created(2)
    );
    assert_eq!(count(&connection), 2);
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_keeps_its_turn_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _closer) = Store::open(&directory.path().join("db")).unwrap();
    let mut ends = vec![];
    for _ in 0..READERS {
        let (began, has_begun) = oneshot::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let asked = store.clone();
        let asking = tokio::spawn(async move {
            let slow = asked.read(move |_| {
                let _ = began.send(());
                let _ = may_end.recv();
                Ok(())
            });
            slow.await
        });
        has_begun.await.unwrap();
        asking.abort();
        ends.push(end);
    }
    let mut next = std::pin::pin!(store.check());
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut next).await;
    assert!(waited.is_err(), "it did not wait for a connection: {waited:?}");
    drop(ends);
    next.await.unwrap();
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended_and_leaves_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _closer) = Store::open(&directory.path().join("db")).unwrap();
    Arc::get_mut(&mut store.readers).unwrap().time = Duration::from_millis(100);
    let endless = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    for _ in 0..2 * READERS {
        let ended =
            store.read(|connection| connection.query_row(endless, [], |row| row.get::<_, i64>(0))).await;
        assert!(matches!(ended, Err(StoreError::TooSlow)), "{ended:?}");
    }
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_failed_connection_is_replaced_and_the_log_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let mut connection = schema::open_for_writing(&path).unwrap();
    write::execute(&mut connection, vec![run(None, true, "before")]).remove(0).unwrap();
    let log = directory.path().join("db-wal");
    assert!(log.metadata().unwrap().len() > 0);
    // An open reader keeps the log: otherwise closing the last connection would empty it.
    let reader = schema::open_for_reading(&path).unwrap();
    let count = || reader.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    drop(connection);
    assert!(log.metadata().unwrap().len() > 0);
    let mut connection = schema::reopen_for_writing(&path).unwrap();
    assert_eq!(log.metadata().unwrap().len(), 0, "all of it is in the database");
    write::execute(&mut connection, vec![run(None, true, "after")]).remove(0).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 2);
    // The reader's snapshot is in the log, so the log cannot be reset and nothing may be written.
    assert!(matches!(schema::reopen_for_writing(&path), Err(StoreError::Busy)));
}
