//! Organizations, repositories, workflows and jobs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use wire::{Group, Problem, Scope};

use super::parameters::{PageLimit, Rfc3339Time, check_name, decode, encode};
use super::{JobAnswer, NoParameters, Page, QueryParameters, parse};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::store::{JobCursor, JobQuery, JobRow, JobSort, NameLevel, NameQuery, NameRow, Within};

/// Query of `GET /api/v1/organizations`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OrganizationsQuery {
    /// Only names that contain this, ignoring case. Slashes join the parts of a name.
    search: Option<String>,
    /// Where the page begins, from the `Link` header of the previous page.
    after: Option<String>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Query of `GET /api/v1/repositories`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RepositoriesQuery {
    /// Only in this organization.
    organization: Option<String>,
    /// Only names that contain this, ignoring case. Slashes join the parts of a name.
    search: Option<String>,
    /// Where the page begins, from the `Link` header of the previous page.
    after: Option<String>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Query of `GET /api/v1/workflows`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WorkflowsQuery {
    /// Only in this organization.
    organization: Option<String>,
    /// Only in this repository, with or without its organization.
    repository: Option<String>,
    /// Only names that contain this, ignoring case. Slashes join the parts of a name.
    search: Option<String>,
    /// Where the page begins, from the `Link` header of the previous page.
    after: Option<String>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Query of `GET /api/v1/jobs`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct JobsQuery {
    /// Only jobs of this organization.
    organization: Option<String>,
    /// Only jobs of this repository, with or without its organization.
    repository: Option<String>,
    /// Only jobs of this workflow.
    workflow: Option<String>,
    /// Only jobs whose `organization/repository/workflow/job` contains this, ignoring case.
    search: Option<String>,
    /// Only jobs whose last run was received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Rfc3339Time>,
    /// `waste` by default. All except `name` begin with the highest or latest.
    #[param(inline)]
    sort: Option<Sort>,
    /// Where the page begins, from the `Link` header of the previous page.
    after: Option<String>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Sort order of jobs.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Waste,
    Risk,
    LastRun,
    Name,
}

impl From<Sort> for JobSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Waste => Self::Waste,
            Sort::Risk => Self::Risk,
            Sort::LastRun => Self::LastRun,
            Sort::Name => Self::Name,
        }
    }
}

/// Organizations, by name
///
/// Each with the number of its stored jobs and runs.
#[utoipa::path(
    get, path = "/api/v1/organizations", tag = "catalog", security(("read_token" = [])),
    params(OrganizationsQuery),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn organizations(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let (OrganizationsQuery { search, after, limit }, parameters) = parse(query.as_deref())?;
    let level = NameLevel::Organizations;
    names(
        &state,
        NameQuery { level, within: Within::default(), search, after: None, limit: limit.0 },
        after,
        &uri,
        &parameters,
    )
    .await
}

/// Repositories, by name
///
/// Of one organization or of all.
#[utoipa::path(
    get, path = "/api/v1/repositories", tag = "catalog", security(("read_token" = [])),
    params(RepositoriesQuery),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn repositories(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let (RepositoriesQuery { organization, search, after, limit }, parameters) = parse(query.as_deref())?;
    let (level, within) = (NameLevel::Repositories, within(organization, None, None)?);
    names(&state, NameQuery { level, within, search, after: None, limit: limit.0 }, after, &uri, &parameters)
        .await
}

/// Workflows, by name
///
/// Of one organization, of one repository or of all.
#[utoipa::path(
    get, path = "/api/v1/workflows", tag = "catalog", security(("read_token" = [])),
    params(WorkflowsQuery),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn workflows(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let (WorkflowsQuery { organization, repository, search, after, limit }, parameters) =
        parse(query.as_deref())?;
    let (level, within) = (NameLevel::Workflows, within(organization, repository, None)?);
    names(&state, NameQuery { level, within, search, after: None, limit: limit.0 }, after, &uri, &parameters)
        .await
}

/// A page of names. `asked` has no cursor yet, and its limit is the size of the page.
async fn names(
    state: &AppState,
    asked: NameQuery,
    after: Option<String>,
    uri: &Uri,
    parameters: &QueryParameters,
) -> Result<Response, AppError> {
    let limit = asked.limit;
    let length = match asked.level {
        NameLevel::Organizations => 1,
        NameLevel::Repositories => 2,
        NameLevel::Workflows => 3,
    };
    let after = cursor_of(after, |text| split(text, length))?;
    let rows = state.store.names(NameQuery { after, limit: limit + 1, ..asked }).await?;
    let page = Page::new(rows, limit, |last| parameters.next(uri.path(), "after", &join(&last.names)));
    Ok(page.map(group).into_response())
}

/// Jobs, by waste, risk, last run or name
///
/// Each with the number of its stored runs, its last run, and figures of its last runs: how much they used of their requests.
/// `waste` and `risk` are computed in the background some seconds after a run is received.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "catalog", security(("read_token" = [])),
    params(JobsQuery),
    responses((status = OK, description = "A page", body = [JobAnswer], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn jobs(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let (asked, parameters) = parse::<JobsQuery>(query.as_deref())?;
    let PageLimit(limit) = asked.limit;
    let sort = JobSort::from(asked.sort.unwrap_or_default());
    let query = JobQuery {
        within: within(asked.organization, asked.repository, asked.workflow)?,
        search: asked.search,
        since: asked.since.map(|Rfc3339Time(time)| time),
        sort,
        after: cursor_of(asked.after, |text| cursor(sort, text))?,
        limit: limit + 1,
    };
    let rows = state.store.jobs(query).await?;
    let page = Page::new(rows, limit, |last| parameters.next(uri.path(), "after", &cursor_after(sort, last)));
    Ok(page.map(JobAnswer::from).into_response())
}

/// One job
///
/// As in the list of `/api/v1/jobs`.
#[utoipa::path(
    get, path = "/api/v1/jobs/{organization}/{repository}/{workflow}/{job}", tag = "catalog",
    security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
    ),
    responses(
        (status = OK, description = "The job", body = JobAnswer),
        (status = NOT_FOUND, description = "No run of such a job is stored", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn job(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Path((organization, repository, workflow, job)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<JobAnswer>, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), Some(&job))?;
    parse::<NoParameters>(query.as_deref())?;
    let row = state.store.job(scope).await?;
    row.map(|row| Json(row.into())).ok_or(AppError::Missing("no run of this job is stored".to_owned()))
}

/// The start of a page, parsed from `after` by `read`.
fn cursor_of<T>(after: Option<String>, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, AppError> {
    let Some(text) = after else { return Ok(None) };
    let wrong =
        || format!("is {text:?}; only the value in the Link to the next page in this order is accepted");
    read(&text).map(Some).ok_or_else(|| AppError::invalid("after", wrong()))
}

/// Checks the names that restrict a query.
pub(super) fn within(
    organization: Option<String>,
    repository: Option<String>,
    workflow: Option<String>,
) -> Result<Within, AppError> {
    check_name("organization", organization.as_ref())?;
    check_name("repository", repository.as_ref())?;
    check_name("workflow", workflow.as_ref())?;
    Ok(Within { organization, repository, workflow })
}

fn group(row: NameRow) -> Group {
    let mut names = row.names.into_iter();
    let organization = names.next().unwrap_or_default();
    Group {
        repository: names.next().map(|repository| format!("{organization}/{repository}")),
        workflow: names.next(),
        organization,
        job_count: row.job_count,
        run_count: row.run_count,
        last_received_at: row.last_received_at,
    }
}

/// Joins names into one text.
fn join(names: &[String]) -> String {
    names.iter().map(|name| encode(name)).collect::<Vec<_>>().join("/")
}

/// Splits a text into `length` names.
fn split(text: &str, length: usize) -> Option<Vec<String>> {
    let names: Vec<_> = text.split('/').map(|name| decode(name).ok()).collect::<Option<_>>()?;
    (names.len() == length && names.iter().all(|name| !name.is_empty())).then_some(names)
}

/// The end of a page as text.
fn cursor_after(sort: JobSort, last: &JobRow) -> String {
    match sort.cursor(last) {
        JobCursor::Number(number, id) => {
            format!("{}:{id}", number.map(|number| number.to_string()).unwrap_or_default())
        }
        JobCursor::LastRun(id) => id.to_string(),
        JobCursor::Name(names) => join(&names),
    }
}

fn cursor(sort: JobSort, text: &str) -> Option<JobCursor> {
    match sort {
        JobSort::Waste | JobSort::Risk => {
            let (number, id) = text.split_once(':')?;
            let number = if number.is_empty() { None } else { Some(number.parse().ok()?) };
            Some(JobCursor::Number(number.filter(|number: &f64| number.is_finite()), id.parse().ok()?))
        }
        JobSort::LastRun => text.parse().ok().map(JobCursor::LastRun),
        JobSort::Name => split(text, 4)?.try_into().ok().map(JobCursor::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_ended_comes_back() {
        let row = JobRow {
            id: 7,
            scope: Scope::of_names(["a/b", "ü ☃", "50%+1", ".."]).unwrap(),
            run_count: 1,
            last_run: 9,
            last_received_at: jiff::Timestamp::UNIX_EPOCH,
            stale: false,
            waste: Some(0.1 + 0.2),
            risk: None,
            figures: None,
        };
        for sort in [JobSort::Waste, JobSort::Risk, JobSort::LastRun, JobSort::Name] {
            assert_eq!(cursor(sort, &cursor_after(sort, &row)), Some(sort.cursor(&row)), "{sort:?}");
        }
        for (sort, text) in [
            (JobSort::Waste, "7"),
            (JobSort::Waste, "x:7"),
            (JobSort::LastRun, "1:7"),
            (JobSort::Name, "a/b/c"),
            (JobSort::Name, "a/b/c/%ff"),
        ] {
            assert_eq!(cursor(sort, text), None, "{text}");
        }
    }
}
