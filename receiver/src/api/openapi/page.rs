//! `/docs`: the description to read, written once at start, without scripts and from nowhere else.

use askama::Template;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

const STYLE: &str = include_str!("../../../assets/docs.css");
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, or its style, as it is answered.
fn answer(content_type: &'static str, body: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}

/// The page.
pub(crate) fn page(html: String) -> Response {
    answer("text/html; charset=utf-8", html)
}

/// What it looks like.
pub(crate) async fn style() -> Response {
    answer("text/css; charset=utf-8", STYLE.to_owned())
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Page {
    title: String,
    version: String,
    description: Vec<String>,
    groups: Vec<Group>,
    schemas: Vec<Schema>,
}

struct Group {
    name: String,
    description: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: Vec<String>,
    token: &'static str,
    parameters: Vec<Field>,
    body: Option<Kind>,
    answers: Vec<Answer>,
}

struct Field {
    name: String,
    place: String,
    required: bool,
    kind: Kind,
    description: String,
}

struct Answer {
    status: String,
    description: String,
    bodies: Vec<(String, Kind)>,
}

struct Schema {
    name: String,
    description: Vec<String>,
    kind: Kind,
    fields: Vec<Field>,
}

/// A type in words, and the name of the one that it is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kind {
    before: String,
    name: Option<String>,
    after: String,
}

/// The page of a description.
pub(crate) fn render(document: &str) -> Result<String, Box<dyn std::error::Error>> {
    let document: Value = serde_json::from_str(document)?;
    let operations = entries(&document["paths"]).flat_map(|(path, methods)| {
        entries(methods).map(move |(method, described)| (path.as_str(), method.as_str(), described))
    });
    let mut groups: Vec<_> = list(&document["tags"])
        .map(|tag| Group {
            name: text(&tag["name"]),
            description: text(&tag["description"]),
            operations: vec![],
        })
        .collect();
    for (path, method, described) in operations {
        let tag = text(&described["tags"][0]);
        if let Some(group) = groups.iter_mut().find(|group| group.name == tag) {
            group.operations.push(operation(path, method, described));
        }
    }
    let page = Page {
        title: text(&document["info"]["title"]),
        version: text(&document["info"]["version"]),
        description: paragraphs(&document["info"]["description"]),
        groups,
        schemas: entries(&document["components"]["schemas"]).map(schema).collect(),
    };
    Ok(page.render()?)
}

fn operation(path: &str, method: &str, described: &Value) -> Operation {
    let token = match list(&described["security"]).next().and_then(|needs| entries(needs).next()) {
        Some((name, _)) if name == "push_token" => "Needs a push token.",
        Some(_) => "Needs the read token.",
        None => "Needs no token.",
    };
    let parameters = list(&described["parameters"]).map(|parameter| Field {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        required: parameter["required"] == true,
        kind: kind(&parameter["schema"]),
        description: text(&parameter["description"]),
    });
    let answers = entries(&described["responses"]).map(|(status, answer)| Answer {
        status: status.clone(),
        description: text(&answer["description"]),
        bodies: entries(&answer["content"])
            .map(|(media_type, content)| (media_type.clone(), kind(&content["schema"])))
            .collect(),
    });
    Operation {
        id: text(&described["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&described["summary"]),
        description: paragraphs(&described["description"]),
        token,
        parameters: parameters.collect(),
        body: described.pointer("/requestBody/content/application~1json/schema").map(kind),
        answers: answers.collect(),
    }
}

fn schema((name, described): (&String, &Value)) -> Schema {
    let required = |field: &str| list(&described["required"]).any(|one| one == field);
    let fields = entries(&described["properties"]).map(|(field, property)| Field {
        name: field.clone(),
        place: String::new(),
        required: required(field),
        kind: kind(property),
        description: text(&property["description"]),
    });
    Schema {
        name: name.clone(),
        description: paragraphs(&described["description"]),
        kind: kind(described),
        fields: fields.collect(),
    }
}

fn kind(schema: &Value) -> Kind {
    let word = |text: String| Kind { before: text, ..Kind::default() };
    if let Some(reference) = schema["$ref"].as_str() {
        return Kind { name: reference.rsplit('/').next().map(ToOwned::to_owned), ..Kind::default() };
    }
    if let Some(either) =
        list(&schema["oneOf"]).chain(list(&schema["anyOf"])).find(|one| one["type"] != "null")
        && schema["properties"].is_null()
    {
        return kind(either);
    }
    let values: Vec<_> = list(&schema["enum"]).map(text).collect();
    if !values.is_empty() {
        return word(values.join(", "));
    }
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).filter(|kind| kind != "null").collect(),
        one => vec![text(one)],
    };
    match types.join(" or ").as_str() {
        "array" if schema["items"]["prefixItems"].is_array() => {
            let parts = list(&schema["items"]["prefixItems"]).map(|part| kind(part).before);
            word(format!("list of pairs: {}", parts.collect::<Vec<_>>().join(", ")))
        }
        "array" => {
            let of = kind(&schema["items"]);
            Kind { before: format!("list of {}", of.before), ..of }
        }
        "string" if schema["format"] == "date-time" => word("time".to_owned()),
        name => word(format!("{name}{}", range(schema))),
    }
}

fn range(schema: &Value) -> String {
    match (&schema["minimum"], &schema["maximum"]) {
        // What no machine counts to is no limit to speak of.
        (minimum, maximum) if maximum.as_f64().is_some_and(|maximum| maximum < 4e9) => {
            format!(", {minimum} to {maximum}")
        }
        (Value::Number(minimum), _) => format!(", {minimum} or more"),
        _ => match schema["maxLength"].as_u64() {
            Some(length) => format!(", at most {length} characters"),
            None => String::new(),
        },
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Prose, as the source has it without its marks.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('`', "").replace('\n', " ")
}

fn paragraphs(value: &Value) -> Vec<String> {
    let text = value.as_str().unwrap_or_default();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('`', "").replace('\n', " "));
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_type_is_on_the_page_and_every_link_leads_somewhere() {
        let document = crate::api::description().unwrap();
        let html = render(&document).unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        for (path, methods) in entries(&document["paths"]) {
            for (method, _) in entries(methods) {
                assert!(html.contains(&format!("{} {path}</code>", method.to_uppercase())), "{path}");
            }
        }
        for link in html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(html.contains(&format!("id=\"{link}\"")), "{link}");
        }
        assert!(!html.contains("<script") && !html.contains("style=") && !html.contains("http"), "{html}");
    }
}
