//! `/openapi.json`: the OpenAPI 3.1 description of the API, generated from the handlers.
//!
//! Types and routes come from the handlers. This module adds what Rust's types cannot express (which texts are names, which
//! numbers are quantities), so that the description accepts exactly what the receiver accepts.

mod problems;
mod refine;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

pub(crate) use self::problems::{ReadProblems, WriteProblems};

/// The parts of the document that do not come from the handlers.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Runner Resource Collector: receiver",
        description = "Stores what CI jobs used and answers questions about it.\n\nErrors are `application/problem+json` (RFC 9457) and name the input that is wrong. Lists have pages; `Link` (RFC 8288) leads to the next.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "push", description = "Summaries and the tokens that they need"),
        (name = "catalog", description = "Organizations, repositories, workflows and jobs"),
        (name = "runs", description = "Stored runs and summaries"),
        (name = "sizing", description = "Recommended requests and limits"),
        (name = "operation", description = "For the operator of the receiver"),
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

/// The document as it is served, made from the description of the routes.
pub(crate) fn render(described: &utoipa::openapi::OpenApi) -> serde_json::Result<String> {
    let mut document = serde_json::to_value(described)?;
    refine::refine(&mut document);
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}
