//! Checks the whole database on request of the control socket. The response is a JSON report with
//! the problems.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app_state::{AppState, job_error_response, text_response};
use super::blocking_pool::Job;
use super::limits;
use super::statements::FILE_SOURCE;

/// `POST /control/check`.
pub(super) async fn handle(State(state): State<Arc<AppState>>) -> Response {
    let authority = state.authority.clone();
    let job = Job { source: FILE_SOURCE, left: limits::BUDGET_CAPACITY, is_heavy: false };
    let checked = match state.workers.run(job, move || authority.check()).await {
        Ok(checked) => checked.map_err(|error| error.to_string()),
        Err(reason) => return job_error_response(reason),
    };
    match checked.and_then(|report| serde_json::to_vec(&report).map_err(|error| error.to_string())) {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report).into_response(),
        Err(error) => {
            tracing::error!(%error, "the check failed");
            text_response(StatusCode::INTERNAL_SERVER_ERROR, &error)
        }
    }
}
