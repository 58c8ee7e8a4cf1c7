use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use wire::{CiContext, CpuHistogram, RunResult, Scope};

use super::super::deferred::Deferred;
use super::super::write::{self, Insert, WriteRequest, Writer};
use super::super::{ContainerSummary, NewRun, Outcome, Store, StoreError, SummaryKey, schema};
use super::*;

fn run(workflow: &str, job: &str, seq: Option<u64>, is_final: bool, complete: Option<bool>) -> NewRun {
    let mut histogram = CpuHistogram::default();
    histogram.add(1.0, 60.0);
    NewRun {
        scope: Scope::new("o", Some("r"), Some(workflow), Some(job)).unwrap(),
        run_id: "1".to_owned(),
        run_attempt: None,
        summary: seq.map(|seq| SummaryKey { summary_id: "s".to_owned(), seq }),
        is_final,
        complete,
        start_time: Timestamp::UNIX_EPOCH,
        end_time: Timestamp::UNIX_EPOCH,
        duration_seconds: 60.0,
        cpu_seconds: None,
        ci: None,
        received_at: Timestamp::UNIX_EPOCH,
        digest: [seq.unwrap_or(0) as u8; 32],
        payload: "{}".to_owned(),
        sources: vec![],
        places: vec![],
        containers: vec![ContainerSummary {
            name: "c".to_owned(),
            cpu_periods: Some(u64::MAX >> 1),
            memory_limit_bytes: Some(7),
            cpu_bound_cores: Some(0.5),
            memory_bound_bytes: Some(8),
            machine_cpus: Some(2),
            machine_memory_bytes: Some(9),
            cpu_cores_histogram: Some(histogram),
            ..ContainerSummary::default()
        }],
    }
}

fn insert(connection: &mut Connection, run: NewRun) -> Outcome {
    write::execute(connection, vec![run]).remove(0).unwrap()
}

fn open() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
    (directory, connection)
}

fn is_stale(connection: &Connection) -> i64 {
    connection.query_row("SELECT stale FROM jobs", [], |row| row.get(0)).unwrap()
}

#[test]
fn histories_hold_complete_runs_newest_first() {
    let (_directory, mut connection) = open();
    insert(&mut connection, run("w", "j", None, true, None));
    insert(&mut connection, run("w", "j", None, true, Some(true)));
    insert(&mut connection, run("w", "j", None, true, Some(false)));
    insert(&mut connection, run("w", "j", Some(1), false, Some(false)));
    insert(&mut connection, run("w", "other", None, true, None));
    insert(&mut connection, run("elsewhere", "j", None, true, None));
    let ids = |workflow: Option<&str>, job: Option<&str>, jobs: u32, runs: u32| {
        let scope = Scope::new("o", Some("r"), workflow, job).unwrap();
        let query = HistoryQuery { scope, jobs, runs, since: None, filter: RunFilter::default() };
        let histories = of_scope(&connection, &query).unwrap();
        let of = |job: &JobHistory| job.runs.iter().map(|run| run.id).collect::<Vec<_>>();
        histories.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some("w"), Some("j"), 9, 9), [vec![2, 1]]);
    assert_eq!(ids(Some("w"), Some("j"), 9, 1), [vec![2]]);
    assert_eq!(ids(Some("w"), None, 9, 9), [vec![5], vec![2, 1]], "the job that ran last comes first");
    assert_eq!(ids(None, None, 9, 9), [vec![6], vec![5], vec![2, 1]]);
    assert_eq!(ids(None, None, 2, 9), [vec![6], vec![5]]);
    assert!(ids(Some("nowhere"), None, 9, 9).is_empty());
    let count = |workflow, job| count_jobs(&connection, &Scope::new("o", Some("r"), workflow, job).unwrap());
    assert_eq!(
        [count(None, None), count(Some("w"), None), count(Some("w"), Some("j"))],
        [Ok(3), Ok(2), Ok(1)]
    );
    let scope = Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap();
    let all = HistoryQuery { scope, jobs: 1, runs: 9, since: None, filter: RunFilter::default() };
    let late = HistoryQuery { since: Some(Timestamp::MAX), ..all };
    assert!(of_scope(&connection, &late).unwrap()[0].runs.is_empty());
    let facts = &stale(&connection, 0, 9, 9).unwrap()[0].runs[0].containers[0];
    assert_eq!((facts.cpu_periods, facts.memory_limit_bytes), (Some(u64::MAX >> 1), Some(7)));
    assert_eq!((facts.cpu_bound_cores, facts.memory_bound_bytes), (Some(0.5), Some(8)));
    assert_eq!((facts.machine_cpus, facts.machine_memory_bytes), (Some(2), Some(9)));
    assert_eq!(facts.cpu_cores_histogram.as_ref().unwrap().seconds(), 60.0);
}

#[test]
fn figures_of_an_older_state_clear_nothing_newer() {
    let (_directory, mut connection) = open();
    insert(&mut connection, run("w", "j", Some(1), true, None));
    let read = stale(&connection, 0, 9, 9).unwrap()[0].state;
    // Another summary of the same run changes neither the number of runs, nor the newest row, nor the time.
    assert_eq!(insert(&mut connection, run("w", "j", Some(2), true, None)), Outcome::Replaced(1));
    let figures = |state| StoredFigures { state, figures: "{}".to_owned(), waste: 0.5, risk: 0.25 };
    store_figures(&connection, &[figures(read)]).unwrap();
    assert!(is_stale(&connection) > 0, "old figures are better than none, and remain stale");
    let read = stale(&connection, 0, 9, 9).unwrap()[0].state;
    // A deleted run, no matter who deletes it.
    connection.execute_batch("UPDATE jobs SET run_count = run_count - 1").unwrap();
    store_figures(&connection, &[figures(read)]).unwrap();
    assert!(is_stale(&connection) > 0);
    let read = stale(&connection, 0, 9, 9).unwrap()[0].state;
    store_figures(&connection, &[figures(read)]).unwrap();
    assert_eq!(is_stale(&connection), 0);
    assert!(stale(&connection, 0, 9, 9).unwrap().is_empty());
    let stored: (String, f64, f64) = connection
        .query_row("SELECT figures, waste, risk FROM jobs", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(stored, ("{}".to_owned(), 0.5, 0.25));
}

#[test]
fn each_query_is_served_by_an_index() {
    let (_directory, connection) = open();
    for (sql, index) in [
        (JOBS, "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=? AND repository=?)"),
        (
            JOBS_OF_WORKFLOW,
            "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=? AND repository=? AND workflow=?)",
        ),
        (
            JOB,
            "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=? AND repository=? AND workflow=? AND job=?)",
        ),
        (COUNT, "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=? AND repository=?)"),
        (RUNS, "SEARCH runs USING INDEX runs_of_job (job_id=?)"),
        (containers::WITH_HISTOGRAMS, "SEARCH containers USING PRIMARY KEY (run=?)"),
        (STALE, "SEARCH jobs USING INDEX jobs_stale (id>?)"),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>().unwrap();
        assert_eq!(plan[0].replace("COVERING ", ""), index);
        assert!(!plan.iter().any(|step| step.contains("SCAN")), "{plan:?}");
    }
}

/// Runs a writer on these requests, all of them queued before it begins.
fn order(commands: Vec<WriteRequest>) -> tempfile::TempDir {
    let (directory, connection) = open();
    let (sender, queue) = mpsc::channel(commands.len());
    for command in commands {
        sender.try_send(command).unwrap();
    }
    drop(sender);
    Writer::new(&directory.path().join("db"), connection, Arc::default()).run(queue);
    directory
}

type Told<T> = oneshot::Receiver<Result<T, StoreError>>;

/// A push. [`count`] makes work that counts the runs stored before its turn.
fn push() -> (WriteRequest, Told<Outcome>) {
    let (reply, told) = oneshot::channel();
    (WriteRequest::Insert(Box::new(Insert { run: run("w", "j", None, true, None), reply })), told)
}

fn count() -> (WriteRequest, Told<i64>) {
    let sql = "SELECT count(*) FROM runs";
    let (work, told) = Deferred::new(move |connection| connection.query_row(sql, [], |row| row.get(0)));
    (WriteRequest::Deferred(work), told)
}

#[test]
fn pushes_go_first_and_what_nobody_waits_for_is_not_done() {
    let done = Arc::new(Mutex::new(false));
    let mark = Arc::clone(&done);
    let (abandoned, told) = Deferred::new(move |_| {
        *mark.lock().unwrap() = true;
        Ok(())
    });
    drop(told);
    let ((first, mut counted), (one, _one), (two, _two), (second, mut counted_too)) =
        (count(), push(), push(), count());
    order(vec![first, one, WriteRequest::Deferred(abandoned), two, second]);
    assert_eq!(counted.try_recv().unwrap().unwrap(), 2, "both pushes were stored before it");
    assert_eq!(counted_too.try_recv().unwrap().unwrap(), 2);
    assert!(!*done.lock().unwrap());
}

#[test]
fn work_that_fails_takes_back_only_itself() {
    let (work, mut told) =
        Deferred::new(|connection| connection.execute_batch("DELETE FROM containers; DELETE FROM nowhere;"));
    let (one, mut stored) = push();
    let (two, mut counted) = count();
    let directory = order(vec![WriteRequest::Deferred(work), one, two]);
    assert!(matches!(told.try_recv().unwrap(), Err(StoreError::Failed(text)) if text.contains("nowhere")));
    assert!(stored.try_recv().unwrap().is_ok());
    assert_eq!(counted.try_recv().unwrap().unwrap(), 1);
    let connection = schema::open_for_reading(&directory.path().join("db")).unwrap();
    let containers: i64 =
        connection.query_row("SELECT count(*) FROM containers", [], |row| row.get(0)).unwrap();
    assert_eq!(containers, 1);
}

#[tokio::test]
async fn background_work_gets_its_turn_while_pushes_keep_coming() {
    let directory = tempfile::tempdir().unwrap();
    let (store, closer) = Store::open(&directory.path().join("db")).unwrap();
    let pushing: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store.insert(run("w", "j", None, true, None)).await.unwrap();
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let work = store.background(|connection| connection.execute("UPDATE jobs SET waste = 1", []));
    let done = tokio::time::timeout(Duration::from_secs(20), work).await;
    assert_eq!(done.unwrap().unwrap(), 1);
    for task in pushing {
        task.abort();
        let _ = task.await;
    }
    drop(store);
    tokio::task::spawn_blocking(|| closer.close()).await.unwrap();
}

#[test]
fn runs_are_selected_by_what_the_ci_system_said() {
    let (_directory, mut connection) = open();
    let said = |variant: &str, git_ref: &str, result: Option<RunResult>| CiContext {
        variant: Some(variant.to_owned()),
        git_ref: Some(git_ref.to_owned()),
        event: Some("push".to_owned()),
        result,
        ..CiContext::default()
    };
    for ci in [
        Some(said("a", "main", Some(RunResult::Success))),
        Some(said("b", "main", Some(RunResult::Failure))),
        Some(said("a", "side", None)),
        None,
    ] {
        insert(&mut connection, NewRun { ci, ..run("w", "j", None, true, None) });
    }
    let runs = |variant: Option<&str>, git_ref: Option<&str>, event: Option<&str>, result: Option<&str>| {
        let [variant, git_ref, event, result] =
            [variant, git_ref, event, result].map(|text| text.map(str::to_owned));
        let filter = RunFilter { variant, git_ref, event, result };
        let scope = Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap();
        let query = HistoryQuery { scope, jobs: 1, runs: 9, since: None, filter };
        let runs = of_scope(&connection, &query).unwrap().remove(0).runs;
        runs.iter().map(|run| (run.id, run.failed)).collect::<Vec<_>>()
    };
    assert_eq!(runs(None, None, None, None), [(4, false), (3, false), (2, true), (1, false)]);
    assert_eq!(runs(Some("a"), None, None, None), [(3, false), (1, false)]);
    assert_eq!(runs(Some("a"), Some("main"), Some("push"), None), [(1, false)]);
    assert_eq!(runs(None, None, None, Some("failure")), [(2, true)]);
    assert!(runs(None, None, Some("pull_request"), None).is_empty());
}
