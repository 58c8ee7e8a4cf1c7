//! Error answers that the handlers share.

use utoipa::IntoResponses;
use wire::Problem;

/// Error answers of every query.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum ReadProblems {
    /// The query is not UTF-8.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// The token is missing or wrong.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`")))]
    Unauthorized(#[to_schema] Problem),
    /// A parameter is unknown or invalid; `field` names it.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Temporarily unavailable; the request itself is valid.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "In seconds")))]
    Unavailable(#[to_schema] Problem),
}

/// Error answers of every push and every request for a token.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) enum WriteProblems {
    /// The body is not JSON.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// The token is missing or wrong.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String, description = "`Bearer`")))]
    Unauthorized(#[to_schema] Problem),
    /// The body did not arrive in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Timeout(#[to_schema] Problem),
    /// The body is larger than `--max-body`.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is not `application/json`, or it is compressed.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] Problem),
    /// A field has an invalid value; `field` is its path.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// Temporarily unavailable; nothing was stored.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u32, description = "In seconds")))]
    Unavailable(#[to_schema] Problem),
}
