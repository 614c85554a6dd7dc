//! What all doors have: whom they ask, bounds on what comes in, and the plain sentences of a refusal.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::guard::{NotDone, SearchLimit, Workers};
use super::limits;
use super::office::Office;

/// What the handlers have.
pub(super) struct Doors {
    pub(super) office: Arc<dyn Office>,
    pub(super) workers: Workers,
    /// None: the search is switched off.
    pub(super) search: Option<SearchLimit>,
}

/// An answer in one sentence of plain text.
pub(super) fn refusal(status: StatusCode, sentence: &str) -> Response {
    let text = format!("{sentence}\n");
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// What is said when the authority did not get to a request.
pub(super) fn not_done(reason: NotDone) -> Response {
    match reason {
        NotDone::Busy => {
            let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again soon");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
        NotDone::BrokeOff => refusal(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the authority; its log says more"),
    }
}

/// The body of a request of one of these media types, within the bounds.
pub(super) async fn body_of(headers: &HeaderMap, types: &[&str], body: Body) -> Result<Vec<u8>, Response> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if !types.iter().any(|accepted| media_type.eq_ignore_ascii_case(accepted)) {
        let sentence = format!("the content type must be {}", types.join(" or "));
        return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &sentence));
    }
    let too_long =
        || refusal(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is longer than {} bytes", limits::BODY));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits::BODY as u64) {
        return Err(too_long());
    }
    match tokio::time::timeout(limits::BODY_TIME, axum::body::to_bytes(body, limits::BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        // Whoever broke off does not read this; whoever sent too much does.
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}
