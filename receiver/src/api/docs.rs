//! `/docs`: Swagger UI for `/openapi.json`. All its files are in this program, so that the page loads nothing from other hosts.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use super::error::AppError;

/// Scripts and styles are files of Swagger UI, except one style in its logo, which is allowed by its hash. Icons are `data:`
/// URLs. The page reads `/openapi.json` and sends the requests that the user tries out.
const POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Redirects to the page. Its files are beside it, below `/docs/`.
pub(super) async fn index() -> Redirect {
    Redirect::permanent("/docs/")
}

/// The page itself.
pub(super) async fn page() -> Result<Response, AppError> {
    answer("index.html")
}

/// A file of the page.
pub(super) async fn file(Path(path): Path<String>) -> Result<Response, AppError> {
    answer(&path)
}

fn answer(path: &str) -> Result<Response, AppError> {
    // The browser must not keep the tokens that the user enters.
    let config = Config::new(["/openapi.json"]).persist_authorization(false);
    let file = utoipa_swagger_ui::serve(path, Arc::new(config));
    let file = file.map_err(|error| AppError::Internal(format!("/docs/{path}: {error}")))?;
    let file = file.ok_or(AppError::NotFound)?;
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_str(&file.content_type);
    headers
        .insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if file.gzpipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok((headers, file.bytes.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_page_and_its_files_are_there_and_come_from_nowhere_else() {
        for path in ["index.html", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
            let response = answer(path).unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY, "{path}");
        }
        let body = async |path| {
            let body = answer(path).unwrap().into_body().collect().await.unwrap().to_bytes();
            String::from_utf8_lossy(&body).into_owned()
        };
        assert!(body("swagger-initializer.js").await.contains("/openapi.json"));
        assert!(matches!(answer("../main.rs"), Err(AppError::NotFound)));
    }
}
