//! Parameters and errors of handlers, described once.

use utoipa::{IntoParams, IntoResponses, ToSchema};
use wire::Problem;

/// What every question may be answered with instead.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum ReadProblems {
    /// The query is not UTF-8.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// No token, or a wrong one.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`")))]
    Unauthorized(#[to_schema] Problem),
    /// A parameter is unknown or cannot be; `field` names it.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Not now; nothing is wrong with the request.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "In seconds")))]
    Unavailable(#[to_schema] Problem),
}

/// What every push and every request for a token may be answered with instead.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum WriteProblems {
    /// The body is no JSON.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// No token, or a wrong one.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`")))]
    Unauthorized(#[to_schema] Problem),
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(#[to_schema] Problem),
    /// The body is larger than `--max-body`.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is not `application/json`, or compressed.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] Problem),
    /// A field has a value that cannot be; `field` is its path.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Not now; nothing was stored.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "In seconds")))]
    Unavailable(#[to_schema] Problem),
}

/// Whose push would be let in. Later parts left out: all below those that are given.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct PushCheckParameters {
    /// Organization.
    organization: String,
    /// Repository, with or without its organization; if it is left out, every one.
    repository: Option<String>,
    /// Workflow; if it is left out, every one.
    workflow: Option<String>,
    /// Job; if it is left out, every one.
    job: Option<String>,
}

/// Parameters of lists of names.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct NameParameters {
    /// Only names with this in them, in upper or lower case; parts are joined by slashes.
    search: Option<String>,
    /// Where the page begins, as the `Link` of the one before says.
    after: Option<String>,
    /// At most so many; 100 if it is left out.
    limit: Option<u32>,
}

/// In which order.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum Sort {
    Waste,
    Risk,
    LastRun,
    Name,
}

/// Parameters of the list of jobs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct JobParameters {
    /// Only jobs of this organization.
    organization: Option<String>,
    /// Only jobs of this repository, with or without its organization.
    repository: Option<String>,
    /// Only jobs of this workflow.
    workflow: Option<String>,
    /// Only jobs with this in `organization/repository/workflow/job`, in upper or lower case.
    search: Option<String>,
    /// Only jobs whose last run came then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<jiff::Timestamp>,
    /// `waste` if it is left out. All but `name` begin with the highest or latest.
    #[param(inline)]
    sort: Option<Sort>,
    /// Where the page begins, as the `Link` of the one before says.
    after: Option<String>,
    /// At most so many; 100 if it is left out.
    limit: Option<u32>,
}

/// Forms of a recommendation.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum SizingFormat {
    Json,
    Yaml,
    Patch,
    Limits,
    Gitlab,
    Markdown,
}

/// Kinds that a patch can be for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum Kind {
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    Pod,
    ReplicaSet,
    StatefulSet,
}

/// Parameters of a recommendation.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct SizingParameters {
    /// JSON, a `resources:` block, a strategic-merge patch, the value of `CGROUP_LIMITS`, variables of GitLab's runner or
    /// Markdown; what `Accept` asks for if it is left out.
    #[param(inline)]
    format: Option<SizingFormat>,
    /// Name of the object that a patch is for.
    #[param(max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    name: Option<String>,
    /// Its kind.
    #[param(inline)]
    kind: Option<Kind>,
    /// Complete runs of each job that are looked at, the newest ones; 20 if it is left out.
    #[param(minimum = 1, maximum = 1000)]
    runs: Option<u32>,
    /// Only runs whose summary came then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<jiff::Timestamp>,
    /// Fewer runs than this make no recommendation; 3 if it is left out; at most `runs`.
    #[param(minimum = 1, maximum = 1000)]
    min_runs: Option<u32>,
    /// Percentile of the CPU samples that the request is made from; 95 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    cpu_percentile: Option<f64>,
    /// Added to it, in percent; 15 if it is left out.
    #[param(minimum = 0, maximum = 1000)]
    cpu_margin: Option<f64>,
    /// Percentile of the CPU samples for a CPU limit, no lower than `cpu_percentile`; no limit if it is left out.
    #[param(minimum = 1, maximum = 100)]
    cpu_limit_percentile: Option<f64>,
    /// Added to the highest peak of memory, in percent; 15 if it is left out.
    #[param(minimum = 0, maximum = 1000)]
    memory_margin: Option<f64>,
    /// Where the peak grew in each of the last runs, so many times its largest step are added; 2 if it is left out.
    #[param(minimum = 0, maximum = 100)]
    growth_steps: Option<f64>,
    /// After an OOM kill, at least the limit times this; 1.2 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    oom_factor: Option<f64>,
    /// After an OOM kill, at least the limit and this; 100Mi if it is left out.
    oom_bytes: Option<String>,
    /// Least CPU request; 10m if it is left out.
    cpu_floor: Option<String>,
    /// Least memory request; 32Mi if it is left out.
    memory_floor: Option<String>,
    /// Highest CPU request, no lower than `cpu_floor`.
    cpu_cap: Option<String>,
    /// Highest memory request, no lower than `memory_floor`.
    memory_cap: Option<String>,
    /// No lower than what is requested now less this, in percent; 25 if it is left out.
    #[param(minimum = 0, maximum = 100)]
    max_step_down: Option<f64>,
    /// A change by less than this is none, in percent of what is requested now; 10 if it is left out.
    #[param(minimum = 0, maximum = 100)]
    ignore_below: Option<f64>,
    /// A run that was throttled for more than this is censored, in percent of its periods; 5 if it is left out.
    #[param(minimum = 0, maximum = 100)]
    throttled_above: Option<f64>,
    /// A run that came to this or more of a limit is censored, in percent of the limit; 95 if it is left out.
    #[param(minimum = 1, maximum = 100)]
    at_limit: Option<f64>,
    /// Price of a core for an hour.
    #[param(minimum = 0, maximum = 1_000_000_000)]
    price_core_hour: Option<f64>,
    /// Price of a GiB for an hour.
    #[param(minimum = 0, maximum = 1_000_000_000)]
    price_gib_hour: Option<f64>,
}

/// Form of an export.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum ExportFormat {
    Ndjson,
    Csv,
}

/// Parameters of an export.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct ExportParameters {
    /// `ndjson` if it is left out.
    #[param(inline)]
    format: Option<ExportFormat>,
    /// Only runs of this organization.
    organization: Option<String>,
    /// Only runs of this repository, with or without its organization.
    repository: Option<String>,
    /// Only runs of this workflow.
    workflow: Option<String>,
    /// Only runs of jobs with this in `organization/repository/workflow/job`, in upper or lower case.
    search: Option<String>,
    /// Only runs that came then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<jiff::Timestamp>,
    /// Only runs that came before.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<jiff::Timestamp>,
}
