//! The state and helpers that all handlers share: limits on requests, and plain-text refusals.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::budget::{Budget, Spent};
use super::guard::SearchLimit;
use super::limits;
use super::office::Office;
use super::workers::{BlockingPool, NotDone};
use crate::authority::AuthorityError;

/// The state of the handlers.
pub(super) struct Doors {
    pub(super) office: Arc<dyn Office>,
    pub(super) workers: BlockingPool,
    /// The work budgets of the sources.
    pub(super) budget: Arc<Budget>,
    /// The search limit; `None` if the search is disabled.
    pub(super) search: Option<SearchLimit>,
}

/// Builds a plain-text response of one sentence.
pub(super) fn refusal(status: StatusCode, sentence: &str) -> Response {
    let text = format!("{sentence}\n");
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// The response to a request that was not processed.
pub(super) fn not_done(reason: NotDone) -> Response {
    match reason {
        NotDone::Busy => try_again("too many concurrent requests; try again soon", Duration::from_secs(5)),
        NotDone::BrokeOff => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the authority's log"),
    }
}

/// The response to a fault. Nothing was done; a temporary fault suggests another try.
pub(super) fn fault(error: &AuthorityError) -> Response {
    match error.passing() {
        Some(sentence) => try_again(sentence, Duration::from_secs(5)),
        None => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the authority's log"),
    }
}

/// The response to a source without budget. Nothing was done.
pub(super) fn spent(Spent { retry_after }: Spent) -> Response {
    try_again("rate limit exceeded for this address; try again later", retry_after)
}

fn try_again(sentence: &str, after: Duration) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, sentence);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The cost of a body, in units of the budget.
pub(super) fn cost_of_bytes(body: &[u8]) -> u64 {
    body.len() as u64 / limits::BYTES_OF_A_UNIT
}

/// Reads the body of a request with one of these media types, within the limits on size and time.
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
        // A client that disconnected does not read this response; one that sent too much does.
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}
