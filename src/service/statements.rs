//! Statements over HTTPS, and statement files through the control socket: a signed statement in, a
//! signed response out. A refusal to an administrator is a signed response too, with status 200. A
//! statement that cannot be verified gets no signature, because anybody can send one, but a status
//! and a sentence.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::connection::Source;
use super::door::{Doors, body_of, cost_of_bytes, not_done, refusal, spent};
use super::guard::Connection;
use super::limits;
use super::workers::Job;
use crate::authority::NoResponse;
use crate::statement::Way;

/// The source of statement files, which belong to no network address.
pub(super) const CARRIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Handles `POST /statements`.
pub(super) async fn answer(
    State(doors): State<Arc<Doors>>,
    Extension(Source(source)): Extension<Source>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let statement = match statement_of(&headers, body).await {
        Ok(statement) => statement,
        Err(refusal) => return refusal,
    };
    let cost = cost_of_bytes(&statement) + limits::COST_OF_STATEMENT;
    let left = match doors.budget.take(source, cost, Instant::now()) {
        Ok(left) => left,
        Err(reason) => return spent(reason),
    };
    let _answering = connection.answering();
    answer_by(Way::Online, &doors, Job { source, left, is_heavy: false }, statement).await
}

/// Handles `POST /control/statements`, a statement file.
pub(super) async fn answer_file(State(doors): State<Arc<Doors>>, headers: HeaderMap, body: Body) -> Response {
    match statement_of(&headers, body).await {
        Ok(statement) => {
            let job = Job { source: CARRIED, left: limits::BUDGET, is_heavy: false };
            answer_by(Way::File, &doors, job, statement).await
        }
        Err(refusal) => refusal,
    }
}

/// Handles `GET /instance`: returns the random number of this run, which a statement over HTTPS
/// must name, in hexadecimal.
pub(super) async fn instance(State(doors): State<Arc<Doors>>) -> Response {
    let number = format!("{}\n", doors.office.instance());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], number).into_response()
}

async fn statement_of(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Response> {
    body_of(headers, &["application/pkcs7-mime", "application/cms"], body).await
}

async fn answer_by(way: Way, doors: &Doors, job: Job, statement: Vec<u8>) -> Response {
    let office = doors.office.clone();
    match doors.workers.run(job, move || office.answer_statement(&statement, way, Timestamp::now())).await {
        Ok(Ok(response)) => {
            ([(header::CONTENT_TYPE, "application/pkcs7-mime; smime-type=signed-data")], response).into_response()
        }
        Ok(Err(NoResponse::Unverified(reason))) => refusal(StatusCode::FORBIDDEN, &reason),
        Ok(Err(NoResponse::Fault(reason))) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &reason),
        Err(reason) => not_done(reason),
    }
}
