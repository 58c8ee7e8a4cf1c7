//! Static files of the page, embedded in the program: nothing is fetched from elsewhere.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::PageError;

/// For an address that holds a digest of the file: what it returns never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For other addresses: browsers must ask each time, and get the file only if it has changed.
const ASK: &str = "public, no-cache";
/// Hexadecimal digits of the digest in the address.
const DIGITS: usize = 16;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: &[Asset] = &[
    Asset {
        name: "style.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../assets/style.css"),
    },
    Asset {
        name: "page.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../assets/page.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../../assets/icon.svg") },
    Asset {
        name: "uplot.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../assets/vendor/uplot/uPlot.iife.min.js"),
    },
    Asset {
        name: "uplot.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../assets/vendor/uplot/uPlot.min.css"),
    },
    Asset {
        name: "uplot-licence.txt",
        kind: "text/plain; charset=utf-8",
        bytes: include_bytes!("../../assets/vendor/uplot/LICENSE"),
    },
];

/// The digest of each asset, in hexadecimal.
static DIGESTS: LazyLock<Vec<String>> =
    LazyLock::new(|| ASSETS.iter().map(|asset| hex::encode(Sha256::digest(asset.bytes))).collect());

/// The address of an asset.
pub(super) fn url(name: &str) -> String {
    let mut url = "/assets/".to_owned();
    if let Some(at) = ASSETS.iter().position(|asset| asset.name == name) {
        let _ = write!(url, "{}/", &DIGESTS[at][..DIGITS]);
    }
    url + name
}

/// `GET /assets/{digest}/{name}`: cached forever if the digest is that of this program's file.
pub(super) async fn by_digest(
    Path((digest, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let at = find(&name)?;
    // A page of another version of the program may still be open. It gets this version's file, but not forever.
    Ok(serve(at, &headers, if DIGESTS[at][..DIGITS] == digest { FOR_EVER } else { ASK }))
}

/// `GET /assets/{name}` and `GET /favicon.ico`: with an `ETag`.
pub(super) async fn by_name(name: Option<Path<String>>, headers: HeaderMap) -> Result<Response, PageError> {
    let name = name.map_or("icon.svg".to_owned(), |Path(name)| name);
    Ok(serve(find(&name)?, &headers, ASK))
}

fn find(name: &str) -> Result<usize, PageError> {
    ASSETS.iter().position(|asset| asset.name == name).ok_or(PageError::NotFound)
}

fn serve(at: usize, headers: &HeaderMap, caching: &'static str) -> Response {
    let Asset { kind, bytes, .. } = ASSETS[at];
    let tag = format!("\"{}\"", DIGESTS[at]);
    let caching = [(CACHE_CONTROL, caching.to_owned()), (ETAG, tag.clone())];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known =
        known.flat_map(|value| value.split(',')).map(|value| value.trim().trim_start_matches("W/"));
    if known.any(|value| value == tag || value == "*") {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(CONTENT_TYPE, kind)], bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_as_they_published_it() {
        let told = include_str!("../../assets/vendor/README.md");
        for (name, file) in [
            ("uplot.js", "uPlot.iife.min.js"),
            ("uplot.css", "uPlot.min.css"),
            ("uplot-licence.txt", "LICENSE"),
        ] {
            let digest = &DIGESTS[find(name).unwrap()];
            assert!(told.contains(&format!("`{file}` {digest}")), "{file} is {digest}");
        }
    }

    #[test]
    fn an_address_holds_the_digest() {
        for asset in ASSETS {
            let url = url(asset.name);
            let digest = url.strip_prefix("/assets/").unwrap().split('/').next().unwrap();
            assert!(hex::encode(Sha256::digest(asset.bytes)).starts_with(digest) && digest.len() == DIGITS);
        }
    }
}
