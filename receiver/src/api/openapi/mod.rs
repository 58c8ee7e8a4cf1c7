//! `/openapi.json`: what the receiver answers to, described by OpenAPI 3.1 from the code that answers.
//!
//! Types and routes come from the handlers; what Rust's types cannot say (which texts are names, which numbers are
//! quantities) is added here, so that the description accepts exactly what the receiver does.

mod problems;
mod refine;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

pub(crate) use self::problems::{ReadProblems, WriteProblems};

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

/// The document as it is served, from what the routes say.
pub(crate) fn render(described: &utoipa::openapi::OpenApi) -> serde_json::Result<String> {
    let mut document = serde_json::to_value(described)?;
    refine::refine(&mut document);
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}
