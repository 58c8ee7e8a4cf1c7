//! `GET /api/v1/sizing/repo/{organization}/{repository}[/{workflow}[/{job}]]`.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use wire::{Problem, Scope};

use super::error::AppError;
use super::openapi::ReadProblems;
use super::query::{self, fields};
use super::state::AppState;
use crate::sizing::format::{Format, Target};
use crate::sizing::parameters::SizingParameters;
use crate::sizing::recommendation::Sizing;
use crate::sizing::sizing;

/// Recommend requests for the containers of a job
///
/// Based on its last complete runs. `format` or `Accept` selects the format; JSON by default.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}/{workflow}/{job}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
        FormQuery,
        Target,
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "No format in `Accept` is supported", body = Problem, content_type = "application/problem+json"),
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

/// Recommend requests for the containers of all jobs of a workflow
///
/// Based on the last complete runs of each job. `format` or `Accept` selects the format; JSON by default.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}/{workflow}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        FormQuery,
        Target,
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "No format in `Accept` is supported", body = Problem, content_type = "application/problem+json"),
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

/// Recommend requests for the containers of all jobs of a repository
///
/// Based on the last complete runs of each job. `format` or `Accept` selects the format; JSON by default.
#[utoipa::path(
    get, path = "/api/v1/sizing/repo/{organization}/{repository}", tag = "sizing", security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        FormQuery,
        Target,
        SizingParameters,
    ),
    responses(
        (status = OK, description = "What to request, and why", content((Sizing = "application/json"), (String = "application/yaml"), (String = "text/markdown"))),
        (status = NOT_ACCEPTABLE, description = "No format in `Accept` is supported", body = Problem, content_type = "application/problem+json"),
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
    let (FormQuery { format }, target, parameters) = parse(query)?;
    let format = match format {
        Some(format) => format,
        None => accepted(headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()))?,
    };
    let sizing = sizing(&state.store, scope, parameters).await?;
    let body = format.write(&sizing, &target).map_err(|error| AppError::Internal(error.to_string()))?;
    let content_type = HeaderValue::from_static(format.content_type());
    Ok(([(CONTENT_TYPE, content_type), (VARY, HeaderValue::from_static("accept"))], body).into_response())
}

/// The format of the answer.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct FormQuery {
    /// JSON, a `resources:` block, a strategic-merge patch, the value of `CGROUP_LIMITS`, variables of GitLab's runner or
    /// Markdown; by default what `Accept` asks for.
    #[param(inline)]
    format: Option<Format>,
}

fn parse(query: Option<&str>) -> Result<(FormQuery, Target, SizingParameters), AppError> {
    let known = [fields::<FormQuery>(), fields::<Target>(), fields::<SizingParameters>()].concat();
    let given = query::QueryParameters::parse(query, &known)?;
    let parameters: SizingParameters = given.read()?;
    parameters.check()?;
    Ok((given.read()?, given.read()?, parameters))
}

/// The media types in `Accept` that select a format.
fn media_types(format: Format) -> &'static [&'static str] {
    match format {
        Format::Json => &["application/json", "application/*", "*/*"],
        Format::Yaml => &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"],
        Format::Patch => &["application/strategic-merge-patch+yaml"],
        Format::Limits | Format::Gitlab => &[],
        Format::Markdown => &["text/markdown", "text/plain", "text/*"],
    }
}

/// The format that `Accept` headers (RFC 9110) prefer; JSON if there are none.
fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Format, AppError> {
    let mut any = false;
    let mut best: Option<(f32, Format)> = None;
    for range in headers.flat_map(|header| header.split(',')).map(str::trim).filter(|range| !range.is_empty())
    {
        any = true;
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        let format =
            Format::ALL.into_iter().find(|format| media_types(*format).contains(&media_type.as_str()));
        if let Some((quality, format)) = quality.zip(format)
            && quality > best.map_or(0.0, |(best, _)| best)
        {
            best = Some((quality, format));
        }
    }
    match best {
        Some((_, format)) => Ok(format),
        None if !any => Ok(Format::Json),
        None => Err(AppError::NotAcceptable(
            "Accept must allow application/json, application/yaml, application/strategic-merge-patch+yaml or text/markdown; format= offers more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_with_its_preferences() {
        assert_eq!(accepted(std::iter::empty()).ok(), Some(Format::Json));
        for (header, expected) in [
            ("*/*", Some(Format::Json)),
            ("application/yaml", Some(Format::Yaml)),
            ("text/markdown;q=0.5, Application/YAML;q=0.6", Some(Format::Yaml)),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some(Format::Json)),
            ("application/strategic-merge-patch+yaml", Some(Format::Patch)),
            ("text/*", Some(Format::Markdown)),
            ("application/json;q=0, text/markdown", Some(Format::Markdown)),
            ("application/json;q=0", None),
            ("image/png", None),
        ] {
            assert_eq!(accepted(std::iter::once(header)).ok(), expected, "{header}");
        }
    }
}
