//! Statements over HTTPS: a signed statement in, a signed response out. A refusal to an
//! administrator is a signed response too, with status 200. A statement that cannot be verified
//! gets no signature, because anybody can send one, but a status and a sentence.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::app_state::{AppState, body_of, cost_of_bytes, job_error_response, text_response, too_many_requests};
use super::blocking_pool::Job;
use super::connection::SourceAddress;
use super::connection_limit::TrackedConnection;
use super::limits;
use crate::authority::UnsignedError;
use crate::statement::StatementChannel;

/// Handles `POST /statements`.
pub(super) async fn handle(
    State(state): State<Arc<AppState>>,
    Extension(SourceAddress(source)): Extension<SourceAddress>,
    Extension(connection): Extension<Arc<TrackedConnection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let statement = match body_of(&headers, &["application/pkcs7-mime", "application/cms"], body).await {
        Ok(statement) => statement,
        Err(refusal) => return refusal,
    };
    let cost = cost_of_bytes(&statement) + limits::COST_OF_STATEMENT;
    let left = match state.budget.take(source, cost, Instant::now()) {
        Ok(left) => left,
        Err(reason) => return too_many_requests(reason),
    };
    let _answering = connection.mark_busy();
    let (authority, job) = (state.authority.clone(), Job { source, left, is_heavy: false });
    let answer = move || authority.answer_statement(&statement, StatementChannel::Online, Timestamp::now());
    match state.workers.run(job, answer).await {
        Ok(Ok(response)) => {
            ([(header::CONTENT_TYPE, "application/pkcs7-mime; smime-type=signed-data")], response).into_response()
        }
        Ok(Err(UnsignedError::Unverified(reason))) => text_response(StatusCode::FORBIDDEN, &reason),
        Ok(Err(UnsignedError::Fault(reason))) => text_response(StatusCode::INTERNAL_SERVER_ERROR, &reason),
        Err(reason) => job_error_response(reason),
    }
}

/// Handles `GET /instance`: returns the random number of this run, which a statement over HTTPS
/// must name, in hexadecimal.
pub(super) async fn instance(State(state): State<Arc<AppState>>) -> Response {
    let number = format!("{}\n", state.authority.instance());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], number).into_response()
}
