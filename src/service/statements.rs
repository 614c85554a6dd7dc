//! Statements over HTTPS: a signed statement in, a signed response out. What the authority refuses is a signed response
//! too, with status 200: the door does not judge.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::routes::{Doors, body_of, not_done};

/// `POST /statements`.
pub(super) async fn answer(State(doors): State<Arc<Doors>>, headers: HeaderMap, body: Body) -> Response {
    let statement = match body_of(&headers, &["application/pkcs7-mime", "application/cms"], body).await {
        Ok(statement) => statement,
        Err(refusal) => return refusal,
    };
    let office = doors.office.clone();
    match doors.workers.run(move || office.answer_statement(&statement, Timestamp::now())).await {
        Ok(response) => {
            ([(header::CONTENT_TYPE, "application/pkcs7-mime; smime-type=signed-data")], response).into_response()
        }
        Err(reason) => not_done(reason),
    }
}
