//! What browsers are told so that a page does nothing but what it was made for.

use axum::extract::Request;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing from elsewhere, nothing inline, and in no other page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    // Addresses hold names; and a form says its origin only if it may say where it was.
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

pub(super) async fn protect(request: Request, next: Next) -> Response {
    protected(next.run(request).await)
}

pub(super) fn protected(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a form was sent by a page of ours. Browsers say so of every POST; who says nothing is no browser, and nobody
/// can be lured into using it.
pub(super) fn is_ours(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    // Only to pages by TLS or on this very machine do they tell more than the origin.
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = text("host").or(uri.authority().map(Authority::as_str));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_another_site_is_known() {
        let ours = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_ours(&headers.collect(), &Uri::from_static("/sign-in"))
        };
        let host = ("host", "ci.example:8080");
        assert!(ours(&[host]), "no browser");
        assert!(ours(&[host, ("sec-fetch-site", "same-origin"), ("origin", "https://proxy.example")]));
        assert!(!ours(&[host, ("sec-fetch-site", "same-site"), ("origin", "http://ci.example:8080")]));
        assert!(!ours(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(ours(&[host, ("origin", "http://CI.example:8080")]));
        for origin in ["http://ci.example", "http://evil.example:8080", "null", "ci.example:8080"] {
            assert!(!ours(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!ours(&[("origin", "http://ci.example:8080")]), "no host");
    }
}
