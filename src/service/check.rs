//! Checks the whole database on request of the control socket. The response is a JSON report with
//! the problems.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::door::{Doors, not_done, refusal};
use super::limits;
use super::statements::CARRIED;
use super::workers::Job;

/// `POST /control/check`.
pub(super) async fn answer(State(doors): State<Arc<Doors>>) -> Response {
    let office = doors.office.clone();
    let job = Job { source: CARRIED, left: limits::BUDGET, is_heavy: false };
    let checked = match doors.workers.run(job, move || office.check()).await {
        Ok(checked) => checked.map_err(|error| error.to_string()),
        Err(reason) => return not_done(reason),
    };
    match checked.and_then(|report| serde_json::to_vec(&report).map_err(|error| error.to_string())) {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report).into_response(),
        Err(error) => {
            tracing::error!(%error, "the check panicked");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, &error)
        }
    }
}
