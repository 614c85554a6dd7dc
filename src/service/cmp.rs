//! CMP over HTTP (RFC 9811): one message in, one message out. Protocol errors are CMP messages too,
//! with status 200.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::app_state::{AppState, body_of, cost_of_bytes, job_error_response, too_many_requests};
use super::blocking_pool::Job;
use super::connection::SourceAddress;
use super::connection_limit::TrackedConnection;
use super::limits;
use crate::cmp::cost_of_verifying;

const MEDIA_TYPE: &str = "application/pkixcmp";

/// Handles `POST /.well-known/cmp` and the paths below it.
pub(super) async fn handle(
    State(state): State<Arc<AppState>>,
    Extension(SourceAddress(source)): Extension<SourceAddress>,
    Extension(connection): Extension<Arc<TrackedConnection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let message = match body_of(&headers, &[MEDIA_TYPE], body).await {
        Ok(message) => message,
        Err(refusal) => return refusal,
    };
    // The message itself requests an amount of hashing, and its source pays for that in advance.
    let cost = cost_of_bytes(&message) + cost_of_verifying(&message);
    let left = match state.budget.take(source, cost, Instant::now()) {
        Ok(left) => left,
        Err(reason) => return too_many_requests(reason),
    };
    let authority = state.authority.clone();
    let answering = connection.mark_busy();
    let job = Job { source, left, is_heavy: cost > limits::HEAVY_JOB_COST };
    let result = state.workers.run(job, move || authority.answer_cmp(&message, source, Timestamp::now())).await;
    drop(answering);
    match result {
        Ok(answer) => {
            // The delay occupies no worker: it slows only the guessing client.
            tokio::time::sleep(answer.delay.min(limits::MAX_REPLY_DELAY)).await;
            ([(header::CONTENT_TYPE, MEDIA_TYPE)], answer.bytes).into_response()
        }
        Err(reason) => job_error_response(reason),
    }
}
