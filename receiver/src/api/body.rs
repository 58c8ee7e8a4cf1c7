//! Reads request bodies within limits on time and memory.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::error::AppError;
use super::state::AppState;

/// Reads a whole body. It must be declared as JSON, arrive in time and not be too large. The permit is its share of the
/// memory for bodies: hold it as long as the body.
///
/// The share grows with the bytes received, not with `Content-Length`: a client that sends nothing takes nothing.
pub(super) async fn read(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AppError> {
    if !is_json(headers) {
        return Err(AppError::UnsupportedMediaType("the body must be application/json"));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(AppError::UnsupportedMediaType("the body must not be compressed (Content-Encoding)"));
    }
    let limit = state.max_body;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(AppError::TooLarge(limit));
    }
    tokio::time::timeout(state.body_timeout, collect(state, body)).await.map_err(|_| AppError::Timeout)?
}

async fn collect(
    state: &AppState,
    mut body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AppError> {
    let mut collected = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| AppError::Malformed(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > state.max_body {
            return Err(AppError::TooLarge(state.max_body));
        }
        // A frame is smaller than 4 GiB.
        let share = Arc::clone(&state.bodies).try_acquire_many_owned(data.len() as u32);
        let share =
            share.map_err(|_| AppError::Unavailable("the receiver is overloaded; nothing was stored"))?;
        match &mut held {
            None => held = Some(share),
            Some(held) => held.merge(share),
        }
        collected.extend_from_slice(&data);
    }
    Ok((collected.freeze(), held))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
