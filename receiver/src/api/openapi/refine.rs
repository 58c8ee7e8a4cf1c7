//! Rules of the API that Rust's types cannot express: which texts are names, which numbers are quantities, which fields go
//! together.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use wire::MAX_NAME_CHARS;

use crate::auth::MAX_TOKEN_SECONDS;
use crate::sizing::parameters::{CPU, MEMORY};
use crate::validate::rules::{LISTS, MAX_INTEGER, NAME, URL};

/// Text that is a name after normalisation: not only whitespace and control characters.
const ANY_NAME: &str = "[^\\s\\x00-\\x1f\\x7f-\\x9f]";
/// Request parameters and fields that are names.
const NAMES: [&str; 6] = ["organization", "repository", "workflow", "job", "run_id", "summary_id"];

/// Adds to a document what Rust's types cannot express.
pub(super) fn refine(document: &mut Value) {
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, operations) in paths {
            let name = name_of(path == "/api/v1/push-check");
            for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
                parameters.into_iter().flatten().for_each(|parameter| refine_parameter(parameter, &name));
            }
        }
    }
    name_schemas(document);
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
        return;
    };
    let of_payload = with_references(schemas, "Payload");
    for (name, schema) in schemas.iter_mut() {
        let request = matches!(name.as_str(), "Submission" | "TokenRequest");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (field, property) in properties {
                if request && NAMES.contains(&field.as_str()) || name == "ContainerUsage" && field == "name" {
                    extend(property, &name_of(name == "TokenRequest"));
                }
                match field.as_str() {
                    "url" if name == "CiContext" => {
                        extend(property, &json!({"maxLength": wire::MAX_URL_BYTES, "pattern": URL}));
                    }
                    "fork" | "result" => {}
                    _ if name == "CiContext" => extend(property, &name_of(false)),
                    _ => {}
                }
                quantity(property, of_payload.contains(name));
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
            &json!({"minimum": 1, "maximum": MAX_TOKEN_SECONDS}),
        );
    }
    if let Some(parameters) = schemas.get_mut("SizingParameters") {
        answered(parameters);
    }
    if let Some(payload) = schemas.get_mut("Payload") {
        for (list, most, _) in LISTS {
            extend(&mut payload["properties"][list], &json!({"maxItems": most}));
        }
    }
    if let Some(histogram) = schemas.get_mut("CpuHistogram") {
        let bucket = json!({"type": "integer", "minimum": 0, "maximum": wire::CpuHistogram::LAST_BUCKET});
        let seconds = json!({"type": "number", "minimum": 0});
        let pair = json!({"type": "array", "prefixItems": [bucket, seconds], "minItems": 2, "maxItems": 2});
        extend(histogram, &json!({"items": pair}));
    }
}

/// The answer contains every parameter, even one that the query left out, unless it may be unknown.
fn answered(schema: &mut Value) {
    let mut required = vec![];
    for (name, property) in schema["properties"].as_object_mut().into_iter().flatten() {
        property.as_object_mut().map(|property| property.remove("default"));
        if property["type"].is_string() {
            required.push(name.clone());
        }
    }
    extend(schema, &json!({"required": required}));
}

/// Requires that exactly the fields of one of the `combinations` are given, among the fields `all`.
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

/// Names generic types like plain ones, and refers to named types by their names.
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
        // `format=limits` is JSON, too.
        if let Some(sizing) = operation.pointer_mut("/responses/200/content/application~1json/schema")
            && sizing["$ref"] == "#/components/schemas/Sizing"
        {
            let limits = json!({"type": "object", "additionalProperties": {"type": "object"}});
            *sizing = json!({"anyOf": [reference("Sizing"), limits]});
            // The content of YAML depends on the format.
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

/// The schema of a name, either stored as it is or normalised first.
fn name_of(normalizing: bool) -> Value {
    if normalizing {
        json!({"minLength": 1, "pattern": ANY_NAME})
    } else {
        json!({"minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": NAME})
    }
}

fn refine_parameter(parameter: &mut Value, accepted_name: &Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let Some(schema) = parameter.get_mut("schema") else { return };
    // A query leaves a parameter out instead of setting it to null.
    not_null(schema);
    match name.as_str() {
        // Kubernetes quantities. An attribute of a type cannot refer to a constant as its pattern.
        "cpu_floor" | "cpu_cap" => extend(schema, &json!({"pattern": CPU, "examples": ["500m", "2"]})),
        "memory_floor" | "memory_cap" | "oom_bytes" => {
            extend(schema, &json!({"pattern": MEMORY, "examples": ["512Mi", "2Gi"]}));
        }
        "before" | "id" | "a" | "b" => extend(schema, &json!({"minimum": 1, "maximum": MAX_INTEGER})),
        name if NAMES.contains(&name) => extend(schema, accepted_name),
        _ => {}
    }
}

/// The names of a schema and of all schemas that it refers to.
fn with_references(schemas: &Map<String, Value>, name: &str) -> BTreeSet<String> {
    fn collect(schemas: &Map<String, Value>, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                let target = fields.get("$ref").and_then(|target| target.as_str()?.rsplit('/').next());
                if let Some(name) = target
                    && found.insert(name.to_owned())
                {
                    collect(schemas, &schemas[name], found);
                }
                fields.values().for_each(|value| collect(schemas, value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(schemas, value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::from([name.to_owned()]);
    collect(schemas, &schemas[name], &mut found);
    found
}

/// Limits integers to what can be stored, and numbers of a payload, which are all quantities, to 0 or more.
fn quantity(property: &mut Value, of_payload: bool) {
    if let Some(items) = property.get_mut("items") {
        quantity(items, of_payload);
    }
    let of_type = |kind: &str| match &property["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    };
    if of_type("integer") && property["minimum"] == 0 && property["maximum"].is_null() {
        let maximum = if property["format"] == "int32" { u64::from(u32::MAX) } else { MAX_INTEGER };
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
    // `null` or another schema becomes the other schema.
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
