use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use wire::Scope;

use super::super::{schema, write};
use super::*;

const POD: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";

/// Summary `seq` of a collector that watched a pod from one second to the other.
fn summary(
    mode: &str,
    summary_id: &str,
    seq: u64,
    run_id: &str,
    (from, to): (i64, i64),
    is_final: bool,
) -> NewRun {
    let source = if mode == "node" { "ebpf" } else { "proc" };
    let time = |second: i64| jiff::Timestamp::from_second(1_770_000_000 + second).unwrap();
    let stats = json!({"peak": to - from, "avg": 1.0});
    let payload = json!({
        "start_time": time(from), "end_time": time(to), "duration_seconds": to - from, "sample_count": seq,
        "containers": [{
            "name": "build", "id": "b1b1b1b1", "pod_uid": POD, "cpu_cores": stats, "memory_bytes": stats,
            "cpu_seconds": to - from
        }],
        "complete": is_final,
        "collector": {"version": "1", "mode": mode, "source": source, "interval_seconds": 2.0, "cpu_count": 2}
    })
    .to_string();
    let received = Received {
        run_id: run_id.to_owned(),
        run_attempt: None,
        summary: Some(SummaryKey { summary_id: summary_id.to_owned(), seq }),
        is_final,
        received_at: time(to),
        digest: <sha2::Sha256 as sha2::Digest>::digest(format!("{summary_id}{payload}")).into(),
        payload,
    };
    let scope = Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap();
    let read = serde_json::from_str(&received.payload).unwrap();
    NewRun::new(scope, received, &read)
}

fn store(connection: &mut Connection, run: NewRun) -> Outcome {
    write::execute(connection, vec![run]).remove(0).unwrap()
}

fn database() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    (directory, connection)
}

fn count(connection: &Connection, what: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
}

/// The stored rows without their ids. Also checks that the job agrees with them.
fn view(connection: &Connection) -> Vec<(String, bool, String, String, i64, i64)> {
    let mut statement = connection
        .prepare(
            "SELECT run_id, is_final, sources, payload, received_at_ms,
                 (SELECT count(*) FROM parts WHERE run = id) + (SELECT count(*) FROM seen WHERE run = id) * 100
             FROM runs ORDER BY payload, sources",
        )
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .unwrap();
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>().unwrap();
    let job: (i64, i64) = connection
        .query_row("SELECT run_count, last_run FROM jobs", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let newest: i64 = connection.query_row("SELECT max(id) FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(job, (rows.len() as i64, newest));
    assert!(!connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
    rows
}

#[test]
fn summaries_of_one_pod_are_one_row_and_each_keeps_its_rules() {
    let (_directory, mut connection) = database();
    let sidecar = |seq, to, is_final| summary("sidecar", "s", seq, POD, (0, to), is_final);
    let node = |seq, to, is_final| summary("node", "n", seq, "77", (0, to), is_final);
    let steps = [
        (sidecar(1, 10, false), Outcome::Created(1)),
        (node(1, 8, false), Outcome::Joined(1)),
        (node(1, 8, false), Outcome::Repeated(1)),
        (node(1, 9, false), Outcome::Conflict),
        (sidecar(2, 20, true), Outcome::Replaced(1)),
        (sidecar(1, 10, false), Outcome::Superseded(1)),
        (sidecar(3, 30, false), Outcome::Superseded(1)),
        (node(2, 21, true), Outcome::Replaced(1)),
        (summary("node", "later", 1, "78", (30, 40), true), Outcome::Created(2)),
    ];
    for (step, (run, expected)) in steps.into_iter().enumerate() {
        assert_eq!(store(&mut connection, run), expected, "step {step}");
    }
    let rows = view(&connection);
    let joined = rows.iter().find(|row| row.0 == "77").unwrap();
    let payload: Payload = serde_json::from_str(&joined.3).unwrap();
    assert_eq!((payload.containers.len(), payload.containers[0].cpu_seconds), (1, Some(21.0)));
    assert_eq!((count(&connection, "parts"), count(&connection, "containers")), (2, 2));
    let whole = super::super::summaries::run(&connection, 1).unwrap().unwrap();
    let sources: Vec<_> = whole.sources.iter().map(|one| (one.mode.as_str(), one.seq)).collect();
    assert_eq!(sources, [("node", Some(2)), ("sidecar", Some(2))]);
    // Deleting a run deletes everything that belongs to it.
    connection.execute("DELETE FROM runs WHERE id = 1", []).unwrap();
    assert_eq!((count(&connection, "parts"), count(&connection, "seen")), (0, 1));
}

#[test]
fn rows_that_turn_out_to_be_of_one_run_become_the_older_one() {
    let (_directory, mut connection) = database();
    assert_eq!(store(&mut connection, summary("sidecar", "s", 1, "7", (0, 5), false)), Outcome::Created(1));
    assert_eq!(store(&mut connection, summary("node", "n", 1, "7", (8, 9), false)), Outcome::Created(2));
    assert_eq!(store(&mut connection, summary("sidecar", "s", 2, "7", (0, 10), true)), Outcome::Replaced(1));
    assert_eq!(view(&connection).len(), 1);
    assert_eq!(store(&mut connection, summary("node", "x", 1, "9", (0, 9), true)), Outcome::Created(3));
    assert_eq!(view(&connection).len(), 2);
}

#[test]
fn more_than_can_be_looked_at_is_stored_and_not_joined() {
    let (_directory, mut connection) = database();
    for at in 0..MAX_PARTS + 5 {
        let sidecar = summary("sidecar", &format!("s{at}"), 1, "7", (0, 10), true);
        assert!(matches!(store(&mut connection, sidecar), Outcome::Created(_)));
    }
    assert!(matches!(
        store(&mut connection, summary("node", "n", 1, "7", (0, 10), true)),
        Outcome::Created(_)
    ));
    assert_eq!(view(&connection).len(), MAX_PARTS + 6);
}

#[test]
fn an_index_leads_to_what_is_beside_a_summary() {
    let (_directory, connection) = database();
    let plan = |sql: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps =
            statement.raw_query().mapped(|row| row.get::<_, String>(3)).collect::<Result<Vec<_>, _>>();
        steps.unwrap().join("\n")
    };
    assert_eq!(
        plan(BESIDE),
        "SEARCH seen USING COVERING INDEX seen_by_key (key=? AND end_time_ms>?)\nSEARCH runs USING INTEGER PRIMARY KEY (rowid=?)"
    );
    for sql in [PARTS, rows::STORED] {
        let plan = plan(sql);
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}

/// The summaries of several collectors, those of each in their order.
fn any_history() -> impl Strategy<Value = Vec<NewRun>> {
    let mode = prop::sample::select(vec!["sidecar", "node", "node"]);
    let named = prop::sample::select(vec!["7", "7", "8", POD]);
    let collector = (mode, named, 0..30i64, prop::collection::vec(1..15i64, 1..4), any::<bool>());
    prop::collection::vec(collector, 1..5).prop_map(|collectors| {
        let told = |(at, (mode, named, from, lengths, ended)): (usize, (&str, &str, i64, Vec<i64>, bool))| {
            let mut to = from;
            let mut told = vec![];
            let last = lengths.len() as u64;
            for (seq, length) in (1..).zip(lengths) {
                to += length;
                let is_final = ended && seq == last;
                told.push(summary(mode, &format!("c{at}"), seq, named, (from, to), is_final));
            }
            told
        };
        collectors.into_iter().enumerate().flat_map(told).collect()
    })
}

#[test]
fn whatever_the_order_and_whatever_is_repeated_the_rows_are_the_same() {
    let (_one, in_order) = database();
    let (_other, in_disorder) = database();
    let databases = std::cell::RefCell::new((in_order, in_disorder));
    let histories = any_history().prop_flat_map(|history| {
        let twice = history.iter().chain(&history).cloned().collect::<Vec<_>>();
        (Just(history), Just(twice).prop_shuffle())
    });
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let ran = runner.run(&histories, |(history, shuffled)| {
        let (in_order, in_disorder) = &mut *databases.borrow_mut();
        for (connection, history) in [(&mut *in_order, history), (&mut *in_disorder, shuffled)] {
            connection.execute_batch("DELETE FROM runs; DELETE FROM jobs;").unwrap();
            for run in history {
                store(connection, run);
            }
        }
        prop_assert_eq!(view(in_order), view(in_disorder));
        Ok(())
    });
    ran.unwrap();
}
