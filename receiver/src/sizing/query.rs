//! `GET /api/v1/sizing/repo/{organization}/{repository}[/{workflow}[/{job}]]`.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use wire::{Problem, Scope};

use super::answer::{JobSizing, Level, Savings, Sizing, Window};
use super::format::{Format, Target};
use super::history::Run;
use super::parameters::Parameters;
use super::recommend::{is_short, recommend, recommend_at};
use crate::error::AppError;
use crate::openapi::{ReadProblems, SizingParameters};
use crate::state::AppState;
use crate::store::{HistoryQuery, JobHistory, Store, StoreError};

/// So many jobs of a workflow or repository are looked at, those that ran last …
const MAX_JOBS: u32 = 200;
/// … and so many runs of all of them together.
const MAX_RUNS: u32 = 10_000;

/// What the containers of a job should request
///
/// From its last complete runs. In the form that `format` or `Accept` asks for, JSON if neither does.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}/{workflow}/{job}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "None of the forms that `Accept` names", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn of_job(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Path((organization, repository, workflow, job)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), Some(&job))?;
    answer(&state, &headers, scope, query.as_deref()).await
}

/// What those of all jobs of a workflow should request
///
/// From the last complete runs of each. In the form that `format` or `Accept` asks for, JSON if neither does.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}/{workflow}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "None of the forms that `Accept` names", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn of_workflow(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Path((organization, repository, workflow)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), None)?;
    answer(&state, &headers, scope, query.as_deref()).await
}

/// What those of all jobs of a repository should request
///
/// From the last complete runs of each. In the form that `format` or `Accept` asks for, JSON if neither does.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "None of the forms that `Accept` names", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn of_repository(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Path((organization, repository)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), None, None)?;
    answer(&state, &headers, scope, query.as_deref()).await
}

async fn answer(
    state: &AppState,
    headers: &HeaderMap,
    scope: Scope,
    query: Option<&str>,
) -> Result<Response, AppError> {
    let Asked { parameters, format, target } = asked(query.unwrap_or_default())?;
    let format = match format {
        Some(format) => format,
        None => Format::accepted(headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()))?,
    };
    let sizing = sizing(&state.store, scope, parameters).await?;
    let body = format.write(&sizing, &target)?;
    let content_type = HeaderValue::from_static(format.content_type());
    Ok(([(CONTENT_TYPE, content_type), (VARY, HeaderValue::from_static("accept"))], body).into_response())
}

/// What the containers of a job, or of all jobs of a workflow or repository, should request.
pub(crate) async fn sizing(store: &Store, scope: Scope, parameters: Parameters) -> Result<Sizing, AppError> {
    let histories = Histories::read(store, &scope, &parameters).await?;
    // Some thousand histograms are added up.
    let sizing = tokio::task::spawn_blocking(move || size(&scope, &histories, &parameters)).await;
    sizing.map_err(|error| AppError::Internal(error.to_string()))
}

/// What a query asks for.
#[derive(Debug, Default)]
struct Asked {
    parameters: Parameters,
    format: Option<Format>,
    target: Target,
}

fn asked(query: &str) -> Result<Asked, AppError> {
    let known: Vec<_> = ["format", "name", "kind"].into_iter().chain(Parameters::NAMES).collect();
    let given = crate::query::Parameters::parse(Some(query), &known)?;
    let mut asked = Asked::default();
    for (name, value) in given.all() {
        match name {
            "format" => {
                let wrong = || {
                    let names = Format::ALL.map(Format::name).join(", ");
                    AppError::invalid(name, format!("is {value:?}; {names} are accepted"))
                };
                asked.format = Some(Format::named(value).ok_or_else(wrong)?);
            }
            "name" => asked.target.set_name(value)?,
            "kind" => asked.target.set_kind(value)?,
            // All others are its own.
            _ => _ = asked.parameters.set(name, value)?,
        }
    }
    asked.parameters.check()?;
    Ok(asked)
}

/// What is read for an answer.
struct Histories {
    asked: Vec<JobHistory>,
    left_out: usize,
    /// The jobs of the workflow and of the repository, where those that were asked for have too few runs.
    workflow: Vec<JobHistory>,
    repository: Vec<JobHistory>,
}

impl Histories {
    async fn read(store: &Store, scope: &Scope, parameters: &Parameters) -> Result<Self, StoreError> {
        let read = async |scope: Scope, jobs: u32| {
            let Parameters { runs, since, .. } = *parameters;
            store.history(HistoryQuery { scope, jobs, runs, since }).await
        };
        let most = MAX_JOBS.min((MAX_RUNS / parameters.runs).max(1));
        let asked = read(scope.clone(), most).await?;
        let left_out = (store.count_jobs(scope.clone()).await?).saturating_sub(asked.len());
        let mut histories = Self { asked, left_out, workflow: Vec::new(), repository: Vec::new() };
        // The newest runs of a scope are among those of as many jobs that ran last.
        let most = most.min(parameters.runs);
        let mut wider = scope.clone();
        while let Some(parent) = wider.parent().filter(|parent| parent.repository().is_some()) {
            if !histories.is_short(parameters) {
                break;
            }
            let jobs = read(parent.clone(), most).await?;
            match parent.workflow() {
                Some(_) => histories.workflow = jobs,
                None => histories.repository = jobs,
            }
            wider = parent;
        }
        Ok(histories)
    }

    fn is_short(&self, parameters: &Parameters) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|job| is_short(&job.runs, parameters))
    }

    /// The newest runs of the jobs of a workflow, or of all of the repository, that were read.
    fn newest(&self, workflow: Option<&str>, parameters: &Parameters) -> Vec<Run> {
        let all = self.asked.iter().chain(&self.workflow).chain(&self.repository);
        let those = all.filter(|job| workflow.is_none_or(|workflow| job.workflow == workflow));
        let mut runs: Vec<&Run> = those.flat_map(|job| &job.runs).collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.id));
        runs.dedup_by_key(|run| run.id);
        runs.into_iter().take(parameters.runs as usize).cloned().collect()
    }
}

fn size(scope: &Scope, histories: &Histories, parameters: &Parameters) -> Sizing {
    let repository = histories.newest(None, parameters);
    let of_job = |runs: &[Run], workflow: &str| {
        let of_workflow = if is_short(runs, parameters) {
            histories.newest(Some(workflow), parameters)
        } else {
            Vec::new()
        };
        recommend(runs, &[(Level::Workflow, &of_workflow), (Level::Repository, &repository)], parameters)
    };
    let mut sizing = Sizing {
        organization: scope.organization().to_owned(),
        repository: scope.full_repository().unwrap_or_default(),
        workflow: scope.workflow().map(str::to_owned),
        job: scope.job().map(str::to_owned),
        window: Window::default(),
        containers: Vec::new(),
        savings: Savings::default(),
        jobs: Vec::new(),
        jobs_left_out: histories.left_out,
        parameters: parameters.clone(),
    };
    if let (Some(workflow), Some(_)) = (scope.workflow(), scope.job()) {
        let runs = histories.asked.first().map(|job| job.runs.as_slice()).unwrap_or_default();
        sizing.window = Window::of(runs);
        sizing.containers = of_job(runs, workflow);
        sizing.savings = Savings::sum(sizing.containers.iter().map(|one| &one.savings), parameters);
        return sizing;
    }
    for JobHistory { workflow, job, runs, .. } in &histories.asked {
        let containers = of_job(runs, workflow);
        let savings = Savings::sum(containers.iter().map(|one| &one.savings), parameters);
        let (workflow, job, window) = (workflow.clone(), job.clone(), Window::of(runs));
        sizing.jobs.push(JobSizing { workflow, job, window, containers, savings });
    }
    // What fits all of them: their runs taken together, and not only the newest ones of the whole.
    let mut all: Vec<Run> = histories.asked.iter().flat_map(|job| &job.runs).cloned().collect();
    all.sort_by_key(|run| std::cmp::Reverse(run.id));
    sizing.window = Window::of(&all);
    let level = if scope.workflow().is_some() { Level::Workflow } else { Level::Repository };
    sizing.containers = recommend_at(level, &all, &[(Level::Repository, &repository)], parameters);
    sizing.savings = Savings::sum(sizing.jobs.iter().map(|job| &job.savings), parameters);
    sizing
}
