//! CMP over HTTP (RFC 9811): a message in, a message out. Errors of the protocol are CMP messages too, with status 200.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::connection::Source;
use super::door::{Doors, body_of, not_done};
use super::limits;

const MEDIA_TYPE: &str = "application/pkixcmp";

/// `POST /.well-known/cmp` and the paths below it.
pub(super) async fn answer(
    State(doors): State<Arc<Doors>>,
    Extension(Source(source)): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let message = match body_of(&headers, &[MEDIA_TYPE], body).await {
        Ok(message) => message,
        Err(refusal) => return refusal,
    };
    let office = doors.office.clone();
    let done = doors.workers.run(move || office.answer_cmp(&message, source, Timestamp::now())).await;
    match done {
        Ok(answer) => {
            // No worker waits here: guessing slows down who guesses, and nobody else.
            tokio::time::sleep(answer.delay.min(limits::LONGEST_DELAY)).await;
            ([(header::CONTENT_TYPE, MEDIA_TYPE)], answer.bytes).into_response()
        }
        Err(reason) => not_done(reason),
    }
}
