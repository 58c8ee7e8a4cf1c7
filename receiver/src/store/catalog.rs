//! Lists of organizations, repositories, workflows and jobs. All of them come from the table of jobs; no run is read.

use jiff::Timestamp;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Type, Value};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use wire::Scope;

/// Columns of a [`JobRow`].
const JOB_COLUMNS: &str =
    "id, organization, repository, workflow, job, run_count, last_run, last_received_at_ms, stale,
    waste, risk, figures";

/// Counts jobs and their runs without reading the runs.
pub(super) const TOTALS: &str = "SELECT count(*), total(run_count) FROM jobs";

/// The order of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobSort {
    /// The most waste first; jobs with unknown waste last.
    Waste,
    /// The highest risk first; jobs with unknown risk last.
    Risk,
    /// The job with the latest run first.
    LastRun,
    /// By organization, repository, workflow and job, in the order of their bytes.
    Name,
}

/// The job that a page follows. Holds the job's sort key, so the job itself may be gone when the page is read.
#[derive(Debug, Clone, PartialEq)]
pub enum JobCursor {
    /// Its waste or risk, and its row id.
    Number(Option<f64>, i64),
    /// The row id of its last run.
    LastRun(i64),
    /// Its organization, repository, workflow and name.
    Name([String; 4]),
}

/// Restricts a query to an organization, repository or workflow; `None` does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Within {
    /// Organization.
    pub organization: Option<String>,
    /// Repository, with or without its organization.
    pub repository: Option<String>,
    /// Workflow.
    pub workflow: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone)]
pub struct JobQuery {
    /// Restriction to an organization, repository or workflow.
    pub within: Within,
    /// Only jobs whose `organization/repository/workflow/job` contains this text, ignoring case.
    pub search: Option<String>,
    /// Only jobs whose last run arrived at this time or later.
    pub since: Option<Timestamp>,
    /// The order of the jobs.
    pub sort: JobSort,
    /// Only jobs after this one. The cursor must be of the kind that `sort` makes.
    pub after: Option<JobCursor>,
    /// At most this many.
    pub limit: u32,
}

/// A job and what is known about it without reading its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Row id.
    pub id: i64,
    /// The names of the job.
    pub scope: Scope,
    /// How many runs are stored.
    pub run_count: u64,
    /// Row id of the last run.
    pub last_run: i64,
    /// When the last run arrived.
    pub last_received_at: Timestamp,
    /// Whether the runs changed since the figures were computed.
    pub stale: bool,
    /// How much is over-requested; `None` if unknown.
    pub waste: Option<f64>,
    /// How close the job is to its limits; `None` if unknown.
    pub risk: Option<f64>,
    /// The figures computed from its runs, as JSON.
    pub figures: Option<String>,
}

/// A level of names: organizations, repositories or workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameLevel {
    /// Every organization.
    Organizations,
    /// Repositories.
    Repositories,
    /// Workflows.
    Workflows,
}

/// Which names to list.
#[derive(Debug, Clone)]
pub struct NameQuery {
    /// The level of the names.
    pub level: NameLevel,
    /// Restriction to an organization, repository or workflow.
    pub within: Within,
    /// Only those whose names, joined by slashes, contain this text, ignoring case.
    pub search: Option<String>,
    /// Only those after these names. There are as many names as the level has.
    pub after: Option<Vec<String>>,
    /// At most this many.
    pub limit: u32,
}

/// An organization, a repository or a workflow, and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRow {
    /// Its names, outermost first. There are as many names as the level has.
    pub names: Vec<String>,
    /// Jobs below it.
    pub job_count: u64,
    /// Runs of these jobs.
    pub run_count: u64,
    /// When the last of these runs arrived.
    pub last_received_at: Timestamp,
}

impl JobSort {
    /// The cursor of the page that follows `row` in this order.
    pub fn cursor(self, row: &JobRow) -> JobCursor {
        match self {
            Self::Waste => JobCursor::Number(row.waste, row.id),
            Self::Risk => JobCursor::Number(row.risk, row.id),
            Self::LastRun => JobCursor::LastRun(row.last_run),
            Self::Name => JobCursor::Name(row.scope.names().map(str::to_owned)),
        }
    }
}

impl NameLevel {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Organizations => &["organization"],
            Self::Repositories => &["organization", "repository"],
            Self::Workflows => &["organization", "repository", "workflow"],
        }
    }
}

/// SQL and the values for its `?`s, in their order.
struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    /// Adds a condition.
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    /// Adds the order and the limit.
    fn end(mut self, order: &str, limit: u32) -> Self {
        self.sql.push_str(order);
        self.sql.push_str(" LIMIT ?");
        self.values.push(limit.into());
        self
    }

    fn within(&mut self, within: &Within) {
        if let Some(organization) = &within.organization {
            self.and("organization = ?", [organization.clone().into()]);
        }
        if let Some(repository) = &within.repository {
            match &within.organization {
                Some(organization) => {
                    let bare = repository.strip_prefix(organization).and_then(|rest| rest.strip_prefix('/'));
                    self.and("repository = ?", [bare.unwrap_or(repository).to_owned().into()]);
                }
                None => self
                    .and("? IN (repository, organization || '/' || repository)", [repository.clone().into()]),
            }
        }
        if let Some(workflow) = &within.workflow {
            self.and("workflow = ?", [workflow.clone().into()]);
        }
    }

    fn search(&mut self, columns: &[&str], search: Option<&String>) {
        if let Some(search) = search {
            let path = columns.join(" || '/' || ");
            self.and(&format!("folded_contains({path}, ?)"), [search.to_lowercase().into()]);
        }
    }
}

/// The statement for a query of jobs.
fn jobs_statement(query: &JobQuery) -> Statement {
    let mut statement =
        Statement { sql: format!("SELECT {JOB_COLUMNS} FROM jobs WHERE run_count > 0"), values: vec![] };
    statement.within(&query.within);
    statement.search(&["organization", "repository", "workflow", "job"], query.search.as_ref());
    if let Some(since) = query.since {
        statement.and("last_received_at_ms >= ?", [since.as_millisecond().into()]);
    }
    match &query.after {
        None => {}
        Some(JobCursor::Number(number, id)) => {
            let column = if query.sort == JobSort::Risk { "risk" } else { "waste" };
            let number: Value = number.unwrap_or(UNKNOWN).into();
            // The first condition is redundant, but SQLite uses no index for pairs that begin with an expression.
            statement.and(&format!("coalesce({column}, {UNKNOWN:?}) <= ?"), [number.clone()]);
            statement.and(&format!("(coalesce({column}, {UNKNOWN:?}), id) < (?, ?)"), [number, (*id).into()]);
        }
        Some(JobCursor::LastRun(id)) => statement.and("last_run < ?", [(*id).into()]),
        Some(JobCursor::Name(names)) => statement
            .and("(organization, repository, workflow, job) > (?, ?, ?, ?)", names.clone().map(Value::from)),
    }
    let order = match query.sort {
        JobSort::Waste => format!("coalesce(waste, {UNKNOWN:?}) DESC, id DESC"),
        JobSort::Risk => format!("coalesce(risk, {UNKNOWN:?}) DESC, id DESC"),
        JobSort::LastRun => "last_run DESC".to_owned(),
        JobSort::Name => "organization, repository, workflow, job".to_owned(),
    };
    statement.end(&format!(" ORDER BY {order}"), query.limit)
}

/// Sorts unknown values last. The indexes of `jobs` use the same value.
const UNKNOWN: f64 = -1.0;

fn names_statement(query: &NameQuery) -> Statement {
    let columns = query.level.columns();
    let names = columns.join(", ");
    let mut statement = Statement {
        sql: format!(
            "SELECT {names}, count(*), sum(run_count), max(last_received_at_ms) FROM jobs WHERE run_count > 0"
        ),
        values: vec![],
    };
    statement.within(&query.within);
    statement.search(columns, query.search.as_ref());
    if let Some(after) = &query.after {
        let marks = vec!["?"; columns.len()].join(", ");
        statement.and(&format!("({names}) > ({marks})"), after.iter().cloned().map(Value::from));
    }
    statement.end(&format!(" GROUP BY {names} ORDER BY {names}"), query.limit)
}

pub(super) fn jobs(connection: &Connection, query: &JobQuery) -> rusqlite::Result<Vec<JobRow>> {
    let Statement { sql, values } = jobs_statement(query);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), job_row)?;
    rows.collect()
}

/// One job by its four parts.
pub(super) fn job(connection: &Connection, scope: &Scope) -> rusqlite::Result<Option<JobRow>> {
    let parts = scope.parts().map(|(_, part)| part);
    connection.prepare_cached(&job_sql())?.query_row(parts, job_row).optional()
}

fn job_sql() -> String {
    format!(
        "SELECT {JOB_COLUMNS} FROM jobs
         WHERE organization = ?1 AND repository = ?2 AND workflow = ?3 AND job = ?4 AND run_count > 0"
    )
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        scope: scope(row, 1)?,
        run_count: row.get::<_, i64>(5)?.cast_unsigned(),
        last_run: row.get(6)?,
        last_received_at: time(row.get(7)?),
        stale: row.get(8)?,
        waste: row.get(9)?,
        risk: row.get(10)?,
        figures: row.get(11)?,
    })
}

pub(super) fn names(connection: &Connection, query: &NameQuery) -> rusqlite::Result<Vec<NameRow>> {
    let Statement { sql, values } = names_statement(query);
    let length = query.level.columns().len();
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(NameRow {
            names: (0..length).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?,
            job_count: row.get::<_, i64>(length)?.cast_unsigned(),
            run_count: row.get::<_, i64>(length + 1)?.cast_unsigned(),
            last_received_at: time(row.get(length + 2)?),
        })
    })?;
    rows.collect()
}

/// Reads the scope whose four parts start at this column.
pub(super) fn scope(row: &Row<'_>, first: usize) -> rusqlite::Result<Scope> {
    let text = |at: usize| row.get_ref(first + at)?.as_str().map_err(rusqlite::Error::from);
    let scope = Scope::of_names([text(0)?, text(1)?, text(2)?, text(3)?]);
    scope.map_err(|error| rusqlite::Error::FromSqlConversionFailure(first, Type::Text, Box::new(error)))
}

/// Converts a stored time: milliseconds since 1970.
pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// Adds a search that ignores the case of all letters: `LIKE` in SQLite ignores only the case of ASCII.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("folded_contains", 2, flags, |context| {
        let text = context.get_raw(0).as_str()?;
        let folded = context.get_raw(1).as_str()?;
        Ok(text.to_lowercase().contains(folded))
    })
}

#[cfg(test)]
mod tests;
