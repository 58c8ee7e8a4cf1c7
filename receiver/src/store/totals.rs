//! Sums over all jobs below a name.

use rusqlite::{Connection, Row};

use super::catalog::Within;

/// Sums over all jobs, read from an index alone.
pub(super) const ALL: &str = "
    SELECT count(*), total(run_count), total(waste), total(waste > 0), total(risk > 0) FROM jobs
    WHERE run_count > 0";

/// Sums over the jobs of an organization.
pub(super) const OF_ORGANIZATION: &str = "
    SELECT count(*), total(run_count), total(waste), total(waste > 0), total(risk > 0) FROM jobs
    WHERE organization = ?1 AND run_count > 0";

/// Sums over the jobs of a repository.
pub(super) const OF_REPOSITORY: &str = "
    SELECT count(*), total(run_count), total(waste), total(waste > 0), total(risk > 0) FROM jobs
    WHERE organization = ?1 AND repository = ?2 AND run_count > 0";

/// Sums over the jobs of a workflow.
pub(super) const OF_WORKFLOW: &str = "
    SELECT count(*), total(run_count), total(waste), total(waste > 0), total(risk > 0) FROM jobs
    WHERE organization = ?1 AND repository = ?2 AND workflow = ?3 AND run_count > 0";

/// Sums over jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Number of jobs.
    pub jobs: u64,
    /// Number of their runs.
    pub runs: u64,
    /// How much they over-request, in the unit of `jobs.waste`.
    pub waste: f64,
    /// Jobs that over-request.
    pub wasteful_jobs: u64,
    /// Jobs with a run that was killed, throttled or close to a limit.
    pub jobs_at_risk: u64,
}

pub(super) fn totals(connection: &Connection, within: &Within) -> rusqlite::Result<Sums> {
    let sums = |row: &Row<'_>| {
        Ok(Sums {
            jobs: row.get::<_, i64>(0)?.cast_unsigned(),
            runs: row.get::<_, f64>(1)? as u64,
            waste: row.get(2)?,
            wasteful_jobs: row.get::<_, f64>(3)? as u64,
            jobs_at_risk: row.get::<_, f64>(4)? as u64,
        })
    };
    let Within { organization, repository, workflow } = within;
    match (organization, repository, workflow) {
        (None, _, _) => connection.prepare_cached(ALL)?.query_row([], sums),
        (Some(organization), None, _) => {
            connection.prepare_cached(OF_ORGANIZATION)?.query_row([organization], sums)
        }
        (Some(organization), Some(repository), None) => {
            connection.prepare_cached(OF_REPOSITORY)?.query_row([organization, repository], sums)
        }
        (Some(organization), Some(repository), Some(workflow)) => {
            connection.prepare_cached(OF_WORKFLOW)?.query_row([organization, repository, workflow], sums)
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params_from_iter;

    use super::*;
    use crate::store::schema;

    fn within(names: &[&str]) -> Within {
        let name = |at: usize| names.get(at).map(|name| (*name).to_owned());
        Within { organization: name(0), repository: name(1), workflow: name(2) }
    }

    #[test]
    fn an_index_leads_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
        let names = "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (organization=?";
        for (sql, count, expected) in [
            (ALL, 0, "SEARCH jobs USING COVERING INDEX jobs_by_runs (run_count>?)".to_owned()),
            (OF_ORGANIZATION, 1, format!("{names})")),
            (OF_REPOSITORY, 2, format!("{names} AND repository=?)")),
            (OF_WORKFLOW, 3, format!("{names} AND repository=? AND workflow=?)")),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let names = params_from_iter(std::iter::repeat_n("x", count));
            let plan: Vec<String> =
                statement.query_map(names, |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(plan, [expected]);
        }
    }

    #[test]
    fn jobs_below_a_name_are_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open_for_writing(&directory.path().join("db")).unwrap();
        let add = "INSERT INTO jobs (organization, repository, workflow, job, run_count, last_run, last_received_at_ms,
                waste, risk)
            VALUES ('a', 'r', 'w', 'x', 3, 1, 1, 2.5, 0.0), ('a', 'r', 'v', 'x', 2, 1, 1, 0.0, 0.5),
                ('a', 's', 'w', 'x', 1, 1, 1, NULL, NULL), ('b', 'r', 'w', 'x', 5, 1, 1, 1.0, 1.0),
                ('b', 'r', 'w', 'gone', 0, 1, 1, 9.0, 1.0)";
        connection.execute(add, []).unwrap();
        let figures = |names: &[&str]| {
            let Sums { jobs, runs, waste, wasteful_jobs, jobs_at_risk } =
                totals(&connection, &within(names)).unwrap();
            (jobs, runs, waste, wasteful_jobs, jobs_at_risk)
        };
        assert_eq!(figures(&[]), (4, 11, 3.5, 2, 2));
        assert_eq!(figures(&["a"]), (3, 6, 2.5, 1, 1));
        assert_eq!(figures(&["a", "r"]), (2, 5, 2.5, 1, 1));
        assert_eq!(figures(&["a", "r", "w"]), (1, 3, 2.5, 1, 0));
        assert_eq!(figures(&["c"]), (0, 0, 0.0, 0, 0));
    }
}
