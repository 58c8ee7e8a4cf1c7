//! Headers that let browsers restrict a page to what it was made for.

use axum::extract::Request;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing from elsewhere, nothing inline, and no framing by other pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    // Addresses contain names, so other sites must not get them. With `no-referrer`, forms would not send their origin.
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

/// Whether one of our own pages sent a form. Browsers say where every POST comes from. A client that does not say so is
/// not a browser, and nobody can be tricked into using it.
pub(super) fn is_ours(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    // Over plain HTTP, except to this very machine, browsers send only the origin.
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
