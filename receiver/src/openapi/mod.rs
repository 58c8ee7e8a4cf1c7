//! `/openapi.json`: what the receiver answers to, described by OpenAPI 3.1 from the code that answers.
//!
//! Types and routes come from the handlers; what Rust's types cannot say (which texts are names, which numbers are
//! quantities) is added here, so that the description accepts exactly what the receiver does.

pub(crate) mod page;

use serde_json::{Map, Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, ToSchema};
use wire::Problem;

use crate::mint;

/// What the document says beside what the handlers say.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Runner Resource Collector: receiver",
        description = "Stores what CI jobs used and answers questions about it.\n\nErrors are `application/problem+json` (RFC 9457) and name the input that is wrong. Lists have pages; `Link` (RFC 8288) leads to the next.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "push", description = "Summaries and the tokens that they need"),
        (name = "catalog", description = "What there is"),
        (name = "runs", description = "What was stored"),
        (name = "sizing", description = "What to request"),
        (name = "operation", description = "For who runs the receiver"),
    ),
    modifiers(&Security)
)]
pub(crate) struct Described;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |description: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
            SecurityScheme::Http(scheme.build())
        };
        let components = document.components.get_or_insert_default();
        components
            .add_security_scheme("read_token", bearer("The secret that the receiver was started with."));
        components.add_security_scheme(
            "push_token",
            bearer("Made by `POST /api/v1/token` for one organization, repository, workflow or job."),
        );
    }
}

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

/// The document as it is served, from what the routes say.
pub(crate) fn render(described: &utoipa::openapi::OpenApi) -> serde_json::Result<String> {
    let mut document = serde_json::to_value(described)?;
    refine(&mut document);
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

/// Text that is a name: something that is not only white space, no control character, at most 512 of them.
const NAME: &str = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$";
/// CPU such as `500m` or `2`.
const CPU: &str = "^([1-9][0-9]{0,8}m|[1-9][0-9]{0,4}(\\.[0-9]{1,20})?|0\\.[0-9]{0,19}[1-9])$";
/// Memory such as `512Mi` or plain bytes.
const MEMORY: &str = "^((0\\.[0-9]{0,19}[1-9]|[1-9][0-9]{0,4}(\\.[0-9]{1,20})?)(Ki|Mi|Gi|k|M|G)?|[1-9][0-9]{0,14}|[1-9][0-9]{0,2}(Ti|T))$";
/// Parameters and fields of requests that are names.
const NAMES: [&str; 6] = ["organization", "repository", "workflow", "job", "run_id", "summary_id"];

fn refine(document: &mut Value) {
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
        for operation in operations {
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            parameters.into_iter().flatten().for_each(refine_parameter);
        }
    }
    name_schemas(document);
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, schema) in schemas.iter_mut() {
        let request = matches!(name.as_str(), "Submission" | "TokenRequest");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (field, property) in properties {
                if request && NAMES.contains(&field.as_str()) || name == "ContainerUsage" && field == "name" {
                    extend(property, &json!({"minLength": 1, "maxLength": 512, "pattern": NAME}));
                }
                quantity(property, PAYLOAD.contains(&name.as_str()));
            }
        }
    }
    if let Some(submission) = schemas.get_mut("Submission") {
        together(submission, &[&[], &["summary_id", "seq"]], &["summary_id", "seq"]);
    }
    if let Some(request) = schemas.get_mut("TokenRequest") {
        let parts = ["repository", "workflow", "job"];
        together(request, &[&[], &parts[..1], &parts[..2], &parts], &parts);
        extend(
            &mut request["properties"]["expires_in_seconds"],
            &json!({"minimum": 1, "maximum": mint::LONGEST}),
        );
    }
    if let Some(histogram) = schemas.get_mut("CpuHistogram") {
        let bucket = json!({"type": "integer", "minimum": 0, "maximum": wire::CpuHistogram::LAST_BUCKET});
        let seconds = json!({"type": "number", "minimum": 0});
        let pair = json!({"type": "array", "prefixItems": [bucket, seconds], "minItems": 2, "maxItems": 2});
        extend(histogram, &json!({"items": pair}));
    }
}

/// Of the fields `all`, exactly those of one of the `combinations` are given.
fn together(schema: &mut Value, combinations: &[&[&str]], all: &[&str]) {
    let combination = |given: &&[&str]| {
        let left_out = all.iter().filter(|field| !given.contains(field));
        let fields: Map<String, Value> = given
            .iter()
            .map(|field| ((*field).to_owned(), json!({"not": {"type": "null"}})))
            .chain(left_out.map(|field| ((*field).to_owned(), json!({"type": "null"}))))
            .collect();
        json!({"required": given, "properties": fields})
    };
    extend(schema, &json!({"anyOf": combinations.iter().map(combination).collect::<Vec<_>>()}));
}

/// Types with parameters are named like those without, and what has a name is told by it.
fn name_schemas(document: &mut Value) {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut)
        && let Some(mut submission) = schemas.remove("Submission_Payload")
    {
        submission["properties"]["payload"] = reference("Payload");
        let first = submission["description"].as_str().and_then(|text| text.split("\n\n").next());
        submission["description"] = json!(first);
        schemas.insert("Submission".to_owned(), submission);
    }
    let contents = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = contents.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for operation in operations {
        if let Some(body) = operation.pointer_mut("/requestBody/content/application~1json/schema")
            && body["$ref"] == "#/components/schemas/Submission_Payload"
        {
            *body = reference("Submission");
        }
        // `format=limits` is JSON as well.
        if let Some(sizing) = operation.pointer_mut("/responses/200/content/application~1json/schema")
            && sizing["$ref"] == "#/components/schemas/Sizing"
        {
            let limits = json!({"type": "object", "additionalProperties": {"type": "object"}});
            *sizing = json!({"anyOf": [reference("Sizing"), limits]});
            // What is written in it depends on the form.
            if let Some(yaml) = operation.pointer_mut("/responses/200/content/application~1yaml/schema") {
                *yaml = json!({});
            }
        }
        let responses = operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut);
        for response in responses {
            if let Some(problem) = response.pointer_mut("/content/application~1problem+json/schema") {
                *problem = reference("Problem");
            }
        }
    }
}

fn refine_parameter(parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let Some(schema) = parameter.get_mut("schema") else { return };
    // A parameter that is left out is not null.
    not_null(schema);
    match name.as_str() {
        // Quantities as Kubernetes writes them; patterns that every value which they take is taken by.
        "cpu_floor" | "cpu_cap" => extend(schema, &json!({"pattern": CPU, "examples": ["500m", "2"]})),
        "memory_floor" | "memory_cap" | "oom_bytes" => {
            extend(schema, &json!({"pattern": MEMORY, "examples": ["512Mi", "2Gi"]}));
        }
        "limit" => extend(schema, &json!({"minimum": 1, "maximum": 1000})),
        "before" | "id" | "a" | "b" => extend(schema, &json!({"minimum": 1, "maximum": i64::MAX})),
        name if NAMES.contains(&name) => {
            extend(schema, &json!({"minLength": 1, "maxLength": 512, "pattern": NAME}));
        }
        _ => {}
    }
}

/// What a payload is made of.
const PAYLOAD: [&str; 10] = [
    "Attribution",
    "CollectorInfo",
    "CommandUsage",
    "ContainerUsage",
    "NestedUsage",
    "Payload",
    "ProcessCpu",
    "ProcessMemory",
    "Series",
    "Stats",
];

/// Integers are not larger than is stored; every number of a payload is a quantity of something, 0 or more.
fn quantity(property: &mut Value, of_payload: bool) {
    if let Some(items) = property.get_mut("items") {
        quantity(items, of_payload);
    }
    let of_type = |kind: &str| match &property["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    };
    if of_type("integer") && property["minimum"] == 0 {
        let maximum =
            if property["format"] == "int32" { u64::from(u32::MAX) } else { i64::MAX.cast_unsigned() };
        extend(property, &json!({"maximum": maximum}));
    } else if of_payload && of_type("number") {
        extend(property, &json!({"minimum": 0}));
    }
}

fn not_null(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array_mut() {
        kinds.retain(|kind| kind != "null");
        if let [one] = kinds.as_slice() {
            schema["type"] = one.clone();
        }
    }
    // What is `null` or something else is the something else.
    if let Some(other) =
        schema["oneOf"].as_array().and_then(|kinds| kinds.iter().find(|kind| kind["type"] != "null")).cloned()
    {
        *schema = other;
    }
}

fn extend(schema: &mut Value, more: &Value) {
    if let (Some(schema), Some(more)) = (schema.as_object_mut(), more.as_object()) {
        schema.extend(more.clone());
    }
}
