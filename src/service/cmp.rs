//! CMP over HTTP (RFC 9811): one message in, one message out. Protocol errors are CMP messages too,
//! with status 200.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::connection::Source;
use super::door::{Doors, body_of, cost_of_bytes, not_done, spent};
use super::guard::Connection;
use super::limits;
use super::workers::Job;
use crate::cmp::cost_of_verifying;

const MEDIA_TYPE: &str = "application/pkixcmp";

/// Handles `POST /.well-known/cmp` and the paths below it.
pub(super) async fn answer(
    State(doors): State<Arc<Doors>>,
    Extension(Source(source)): Extension<Source>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let message = match body_of(&headers, &[MEDIA_TYPE], body).await {
        Ok(message) => message,
        Err(refusal) => return refusal,
    };
    // The message itself requests an amount of hashing, and its source pays for that in advance.
    let cost = cost_of_bytes(&message) + cost_of_verifying(&message);
    let left = match doors.budget.take(source, cost, Instant::now()) {
        Ok(left) => left,
        Err(reason) => return spent(reason),
    };
    let office = doors.office.clone();
    let answering = connection.answering();
    let job = Job { source, left, is_heavy: cost > limits::HEAVY };
    let done = doors.workers.run(job, move || office.answer_cmp(&message, source, Timestamp::now())).await;
    drop(answering);
    match done {
        Ok(answer) => {
            // The delay occupies no worker: it slows only the guessing client.
            tokio::time::sleep(answer.delay.min(limits::LONGEST_DELAY)).await;
            ([(header::CONTENT_TYPE, MEDIA_TYPE)], answer.bytes).into_response()
        }
        Err(reason) => not_done(reason),
    }
}
