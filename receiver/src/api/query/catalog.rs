//! Organizations, repositories, workflows and jobs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use wire::{Group, Problem, Scope};

use super::parameters::{decode, encode};
use super::{JobAnswer, Page, Parameters};
use crate::api::error::AppError;
use crate::api::openapi::{JobParameters, NameParameters, ReadProblems};
use crate::api::state::AppState;
use crate::store::{JobCursor, JobQuery, JobRow, JobSort, Level, NameQuery, NameRow, Within};

/// Organizations, by name
///
/// Each with how many jobs and runs of it are stored.
#[utoipa::path(
    get, path = "/api/v1/organizations", tag = "catalog", security(("read_token" = [])),
    params(NameParameters),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn organizations(
    state: State<Arc<AppState>>,
    headers: HeaderMap,
    uri: OriginalUri,
    query: RawQuery,
) -> Result<Response, AppError> {
    names(Level::Organizations, state, &headers, uri, query).await
}

/// Repositories, by name
///
/// Of one organization or of all.
#[utoipa::path(
    get, path = "/api/v1/repositories", tag = "catalog", security(("read_token" = [])),
    params(NameParameters, ("organization" = Option<String>, Query, description = "Only of this organization")),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn repositories(
    state: State<Arc<AppState>>,
    headers: HeaderMap,
    uri: OriginalUri,
    query: RawQuery,
) -> Result<Response, AppError> {
    names(Level::Repositories, state, &headers, uri, query).await
}

/// Workflows, by name
///
/// Of one organization, of one repository or of all.
#[utoipa::path(
    get, path = "/api/v1/workflows", tag = "catalog", security(("read_token" = [])),
    params(
        NameParameters,
        ("organization" = Option<String>, Query, description = "Only of this organization"),
        ("repository" = Option<String>, Query, description = "Only of this repository, with or without its organization"),
    ),
    responses((status = OK, description = "A page", body = [Group], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn workflows(
    state: State<Arc<AppState>>,
    headers: HeaderMap,
    uri: OriginalUri,
    query: RawQuery,
) -> Result<Response, AppError> {
    names(Level::Workflows, state, &headers, uri, query).await
}

async fn names(
    level: Level,
    State(state): State<Arc<AppState>>,
    headers: &HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(headers)?;
    let (known, length): (&[_], _) = match level {
        Level::Organizations => (&["search", "after", "limit"], 1),
        Level::Repositories => (&["organization", "search", "after", "limit"], 2),
        Level::Workflows => (&["organization", "repository", "search", "after", "limit"], 3),
    };
    let parameters = Parameters::parse(query.as_deref(), known)?;
    let limit = parameters.limit()?;
    let after = parameters.get("after", CURSOR, |text| split(text, length))?;
    let query = NameQuery {
        level,
        within: within(&parameters)?,
        search: parameters.text("search").map(ToOwned::to_owned),
        after,
        limit: limit + 1,
    };
    let rows = state.store.names(query).await?;
    let page = Page::new(rows, limit, |last| parameters.next(uri.path(), "after", &join(&last.names)));
    Ok(page.map(group).into_response())
}

/// Jobs, by waste, risk, last run or name
///
/// Each with how many runs of it are stored, which came last, and what was found of the last ones: what is used of what
/// is requested. `waste` and `risk` are computed in the background some seconds after a run came.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "catalog", security(("read_token" = [])),
    params(JobParameters),
    responses((status = OK, description = "A page", body = [JobAnswer], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))), ReadProblems)
)]
pub(crate) async fn jobs(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let known = ["organization", "repository", "workflow", "search", "since", "sort", "after", "limit"];
    let parameters = Parameters::parse(query.as_deref(), &known)?;
    let limit = parameters.limit()?;
    let sort = parameters.get("sort", "waste, risk, last_run or name", |text| {
        Some(match text {
            "waste" => JobSort::Waste,
            "risk" => JobSort::Risk,
            "last_run" => JobSort::LastRun,
            "name" => JobSort::Name,
            _ => return None,
        })
    })?;
    let sort = sort.unwrap_or(JobSort::Waste);
    let query = JobQuery {
        within: within(&parameters)?,
        search: parameters.text("search").map(ToOwned::to_owned),
        since: parameters.time("since")?,
        sort,
        after: parameters.get("after", CURSOR, |text| cursor(sort, text))?,
        limit: limit + 1,
    };
    let rows = state.store.jobs(query).await?;
    let page = Page::new(rows, limit, |last| parameters.next(uri.path(), "after", &cursor_after(sort, last)));
    Ok(page.map(JobAnswer::from).into_response())
}

/// One job
///
/// What `/api/v1/jobs` tells of it.
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
    Parameters::parse(query.as_deref(), &[])?;
    let row = state.store.job(scope).await?;
    row.map(|row| Json(row.into())).ok_or(AppError::Missing("no run of this job is stored".to_owned()))
}

const CURSOR: &str = "what the Link to the next page in this order says";

/// Below what the parameters ask to look.
pub(super) fn within(parameters: &Parameters) -> Result<Within, AppError> {
    Ok(Within {
        organization: parameters.name("organization")?,
        repository: parameters.name("repository")?,
        workflow: parameters.name("workflow")?,
    })
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

/// Names in one text.
fn join(names: &[String]) -> String {
    names.iter().map(|name| encode(name)).collect::<Vec<_>>().join("/")
}

/// So many names out of one text.
fn split(text: &str, length: usize) -> Option<Vec<String>> {
    let names: Vec<_> = text.split('/').map(|name| decode(name).ok()).collect::<Option<_>>()?;
    (names.len() == length && names.iter().all(|name| !name.is_empty())).then_some(names)
}

/// Where a page ended, in one text.
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
