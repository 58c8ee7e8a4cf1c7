use super::*;
use crate::store::{export, retention, schema, summaries};

fn database() -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let connection = schema::open_for_writing(&path).unwrap();
    add_functions(&connection).unwrap();
    for (id, repository, job, waste, received) in [
        (1, "a", "build", Some(2.5), 50),
        (2, "a", "Prüfung", None, 10),
        (3, "b", "50%_x", Some(7.0), 30),
        (4, "b", "build", Some(2.5), 40),
        (5, "b", "none", None, 20),
    ] {
        connection
            .execute(
                "INSERT INTO jobs (id, organization, repository, workflow, job, run_count, last_run,
                     last_received_at_ms, waste, risk)
                 VALUES (?1, 'o', ?2, 'w', ?3, ?1, ?5, ?5, ?4, ?1 / 10.0)",
                rusqlite::params![id, repository, job, waste, received],
            )
            .unwrap();
    }
    (directory, connection)
}

fn query(sort: JobSort) -> JobQuery {
    JobQuery { within: Within::default(), search: None, since: None, sort, after: None, limit: 100 }
}

fn ids(connection: &Connection, query: &JobQuery) -> Vec<i64> {
    jobs(connection, query).unwrap().iter().map(|row| row.id).collect()
}

#[test]
fn every_order_is_the_same_in_one_page_and_in_many() {
    let (_directory, connection) = database();
    for (sort, expected) in [
        (JobSort::Waste, [3, 4, 1, 5, 2]),
        (JobSort::Risk, [5, 4, 3, 2, 1]),
        (JobSort::LastRun, [1, 4, 3, 5, 2]),
        (JobSort::Name, [2, 1, 3, 4, 5]),
    ] {
        assert_eq!(ids(&connection, &query(sort)), expected, "{sort:?}");
        let mut paged = JobQuery { limit: 2, ..query(sort) };
        let mut found = vec![];
        loop {
            let page = jobs(&connection, &paged).unwrap();
            let Some(last) = page.last() else { break };
            paged.after = Some(sort.cursor(last));
            found.extend(page.iter().map(|row| row.id));
        }
        assert_eq!(found, expected, "{sort:?}");
    }
}

#[test]
fn what_is_searched_for_is_text_in_either_case() {
    let (_directory, connection) = database();
    let search =
        |text: &str| ids(&connection, &JobQuery { search: Some(text.to_owned()), ..query(JobSort::Name) });
    assert_eq!(search("BUILD"), [1, 4]);
    assert_eq!(search("prÜf"), [2], "not only ASCII has cases");
    assert_eq!(search("%"), [3]);
    assert_eq!(search("_"), [3]);
    assert_eq!(search("b/w/b"), [4], "parts of the whole path");
    assert!(search("nothing").is_empty() && search("\\").is_empty());
    assert_eq!(search("").len(), 5);
}

#[test]
fn filters_restrict() {
    let (_directory, connection) = database();
    let within = |organization: &str, repository: Option<&str>| Within {
        organization: Some(organization.to_owned()),
        repository: repository.map(ToOwned::to_owned),
        workflow: None,
    };
    let jobs = |within| ids(&connection, &JobQuery { within, ..query(JobSort::Waste) });
    assert_eq!(jobs(within("o", Some("a"))), [1, 2]);
    assert_eq!(jobs(within("o", None)).len(), 5);
    assert!(jobs(within("O", None)).is_empty());
    assert_eq!(jobs(within("o", Some("o/a"))), [1, 2]);
    for repository in ["a", "o/a"] {
        let repository = Some(repository.to_owned());
        assert_eq!(jobs(Within { repository, ..Within::default() }), [1, 2]);
    }
    let since = Timestamp::from_millisecond(30).ok();
    assert_eq!(ids(&connection, &JobQuery { since, ..query(JobSort::LastRun) }), [1, 4, 3]);
}

#[test]
fn names_are_told_with_what_is_below_them() {
    let (_directory, connection) = database();
    let mut query = NameQuery {
        level: NameLevel::Repositories,
        within: Within::default(),
        search: None,
        after: None,
        limit: 1,
    };
    let first = names(&connection, &query).unwrap();
    let time = Timestamp::from_millisecond(50).unwrap();
    let expected = NameRow {
        names: vec!["o".to_owned(), "a".to_owned()],
        job_count: 2,
        run_count: 3,
        last_received_at: time,
    };
    assert_eq!(first, [expected]);
    query.after = Some(first[0].names.clone());
    let second = names(&connection, &query).unwrap();
    assert_eq!((second[0].names[1].as_str(), second[0].job_count), ("b", 3));
    query.after = Some(second[0].names.clone());
    assert!(names(&connection, &query).unwrap().is_empty());
    let all = NameQuery { level: NameLevel::Organizations, after: None, ..query.clone() };
    assert_eq!(names(&connection, &all).unwrap()[0].run_count, 15);
    let none = NameQuery { level: NameLevel::Workflows, search: Some("x".to_owned()), after: None, ..query };
    assert!(names(&connection, &none).unwrap().is_empty());
}

/// SQLite's query plan.
fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let plan: Vec<String> =
        statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>().unwrap();
    plan.join("\n")
}

#[test]
fn jobs_come_in_the_order_of_an_index_and_no_run_is_looked_at() {
    let (_directory, connection) = database();
    for (sort, index) in [
        (JobSort::Waste, "jobs_by_waste"),
        (JobSort::Risk, "jobs_by_risk"),
        (JobSort::LastRun, "jobs_by_last_run"),
        (JobSort::Name, "sqlite_autoindex_jobs_1"),
    ] {
        let first = query(sort);
        let row = jobs(&connection, &first).unwrap().remove(0);
        let next = JobQuery { after: Some(sort.cursor(&row)), ..first.clone() };
        let searched = JobQuery { search: Some("x".to_owned()), ..first.clone() };
        for (query, verb) in [(first, "SCAN"), (next, "SEARCH"), (searched, "SCAN")] {
            let plan = plan(&connection, &jobs_statement(&query).sql);
            assert!(plan.starts_with(&format!("{verb} jobs USING INDEX {index}")), "{query:?}: {plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("runs "), "{query:?}: {plan}");
        }
        let within = Within { organization: Some("o".to_owned()), ..Within::default() };
        let plan = plan(&connection, &jobs_statement(&JobQuery { within, ..query(sort) }).sql);
        assert!(
            plan.starts_with("SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=?"),
            "{plan}"
        );
    }
    let one = plan(&connection, &job_sql());
    assert!(one.starts_with("SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=? AND"), "{one}");
}

#[test]
fn names_come_in_the_order_of_the_index() {
    let (_directory, connection) = database();
    for level in [NameLevel::Organizations, NameLevel::Repositories, NameLevel::Workflows] {
        let within = Within { organization: Some("o".to_owned()), ..Within::default() };
        for within in [Within::default(), within] {
            let query = NameQuery { level, within, search: None, after: None, limit: 10 };
            let plan = plan(&connection, &names_statement(&query).sql);
            assert!(plan.contains("jobs USING INDEX sqlite_autoindex_jobs_1"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}

#[test]
fn runs_are_found_by_an_index() {
    let (_directory, connection) = database();
    let page = plan(&connection, summaries::PAGE);
    assert_eq!(page, "SEARCH runs USING INDEX runs_of_job (job_id=? AND id<?)");
    let containers = plan(&connection, super::super::containers::OF_RUN);
    assert_eq!(containers, "SEARCH containers USING PRIMARY KEY (run=?)");
    for sql in [export::PAYLOADS, export::FIGURES] {
        assert_eq!(plan(&connection, sql), "SEARCH runs USING INDEX runs_of_job (job_id=? AND id>?)");
    }
    let oldest = plan(&connection, retention::OLDEST);
    assert_eq!(oldest, "SEARCH runs USING INDEX runs_of_job (job_id=?)");
    let newest = plan(&connection, retention::NEWEST);
    assert_eq!(newest, "SEARCH runs USING COVERING INDEX runs_of_job (job_id=?)");
    let beyond = plan(&connection, retention::JOBS_BEYOND);
    assert!(beyond.starts_with("SEARCH jobs USING INTEGER PRIMARY KEY (rowid>?)"), "{beyond}");
    assert!(beyond.contains("SEARCH runs USING INDEX runs_of_job (job_id=?)"), "{beyond}");
    assert!(!beyond.contains("TEMP B-TREE"), "{beyond}");
    assert!(!plan(&connection, TOTALS).contains(" runs "), "runs are not looked at");
    let run = plan(&connection, summaries::RUN);
    let by_key =
        "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)\nSEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)";
    assert_eq!(run, by_key);
}
