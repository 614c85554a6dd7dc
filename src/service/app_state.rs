//! The state and helpers that all handlers share: limits on requests, and plain-text refusals.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::authority_api::AuthorityApi;
use super::blocking_pool::{BlockingPool, JobError};
use super::budget::{Budget, BudgetExhausted};
use super::connection_limit::SearchLimit;
use super::limits;
use crate::authority::AuthorityError;

/// The state of the handlers.
pub(super) struct AppState {
    pub(super) authority: Arc<dyn AuthorityApi>,
    pub(super) workers: BlockingPool,
    /// The work budgets of the sources.
    pub(super) budget: Arc<Budget>,
    /// The search limit; `None` if the search is disabled.
    pub(super) search: Option<SearchLimit>,
}

/// Builds a plain-text response of one sentence.
pub(super) fn text_response(status: StatusCode, sentence: &str) -> Response {
    let text = format!("{sentence}\n");
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// The response to a request that was not processed.
pub(super) fn job_error_response(reason: JobError) -> Response {
    match reason {
        JobError::Overloaded => try_again(&reason.to_string(), Duration::from_secs(5)),
        JobError::Panicked => text_response(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

/// The response to a fault. Nothing was done; a temporary fault suggests another try.
pub(super) fn fault(error: &AuthorityError) -> Response {
    match error.text_for_client() {
        Some(sentence) => try_again(sentence, Duration::from_secs(5)),
        None => text_response(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the authority's log"),
    }
}

/// The response to a source without budget. Nothing was done.
pub(super) fn too_many_requests(BudgetExhausted { retry_after }: BudgetExhausted) -> Response {
    try_again("rate limit exceeded for this address; try again later", retry_after)
}

fn try_again(sentence: &str, after: Duration) -> Response {
    let mut response = text_response(StatusCode::SERVICE_UNAVAILABLE, sentence);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The cost of a body, in units of the budget.
pub(super) fn cost_of_bytes(body: &[u8]) -> u64 {
    body.len() as u64 / limits::BYTES_PER_UNIT
}

/// Reads the body of a request with one of these media types, within the limits on size and time.
pub(super) async fn body_of(headers: &HeaderMap, types: &[&str], body: Body) -> Result<Vec<u8>, Response> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if !types.iter().any(|accepted| media_type.eq_ignore_ascii_case(accepted)) {
        let sentence = format!("the content type must be {}", types.join(" or "));
        return Err(text_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &sentence));
    }
    let too_long = || {
        text_response(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body is longer than {} bytes", limits::MAX_BODY_BYTES),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits::MAX_BODY_BYTES as u64) {
        return Err(too_long());
    }
    match tokio::time::timeout(limits::BODY_TIMEOUT, axum::body::to_bytes(body, limits::MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        // A client that disconnected does not read this response; one that sent too much does.
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(text_response(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}
