//! Statements over HTTPS, and files through the control socket: a signed statement in, a signed response out. What the authority refuses is a signed response
//! too, with status 200: the door does not judge.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::door::{Doors, body_of, not_done};
use crate::statement::Way;

/// `POST /statements`.
pub(super) async fn answer(State(doors): State<Arc<Doors>>, headers: HeaderMap, body: Body) -> Response {
    answer_by(Way::Online, &doors, &headers, body).await
}

/// `POST /control/statements`: what somebody carried here as a file.
pub(super) async fn answer_file(State(doors): State<Arc<Doors>>, headers: HeaderMap, body: Body) -> Response {
    answer_by(Way::File, &doors, &headers, body).await
}

/// `GET /instance`: the number of this run of the authority, which a statement over HTTPS names; hexadecimal digits.
pub(super) async fn instance(State(doors): State<Arc<Doors>>) -> Response {
    let number = format!("{}\n", doors.office.instance());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], number).into_response()
}

async fn answer_by(way: Way, doors: &Doors, headers: &HeaderMap, body: Body) -> Response {
    let statement = match body_of(headers, &["application/pkcs7-mime", "application/cms"], body).await {
        Ok(statement) => statement,
        Err(refusal) => return refusal,
    };
    let office = doors.office.clone();
    match doors.workers.run(move || office.answer_statement(&statement, way, Timestamp::now())).await {
        Ok(response) => {
            ([(header::CONTENT_TYPE, "application/pkcs7-mime; smime-type=signed-data")], response).into_response()
        }
        Err(reason) => not_done(reason),
    }
}
