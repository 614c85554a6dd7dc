//! Certificate search by e-mail address (RFC 4387): exact addresses only, with a rate limit.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::app_state::{AppState, fault, job_error_response, text_response};
use super::blocking_pool::Job;
use super::connection::SourceAddress;
use super::limits;

/// The longest possible address (RFC 5321 §4.5.3.1.3).
const MAX_ADDRESS_BYTES: usize = 254;

/// The boundary of a response with several certificates; base64 contains no hyphen.
const BOUNDARY: &str = "tokenkeep--certificates";

/// Handles `GET /certificates/search.cgi?email=…`: one certificate is returned as it is, several as
/// multipart/mixed, none as 404.
pub(super) async fn handle(
    State(state): State<Arc<AppState>>,
    Extension(SourceAddress(source)): Extension<SourceAddress>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let Some(limit) = &state.search else {
        return text_response(StatusCode::FORBIDDEN, "this authority does not offer the certificate search");
    };
    if let Err(wait) = limit.take(source, Instant::now()) {
        let mut response = text_response(StatusCode::TOO_MANY_REQUESTS, "too many searches; try again later");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return response;
    }
    let [(name, email)] = query.as_slice() else {
        return text_response(StatusCode::BAD_REQUEST, "a search requires exactly one attribute: email");
    };
    if name != "email" || email.is_empty() || email.len() > MAX_ADDRESS_BYTES {
        return text_response(StatusCode::BAD_REQUEST, "a search requires exactly one attribute: email");
    }
    let (authority, email) = (state.authority.clone(), email.clone());
    let job = Job { source, left: limits::BUDGET_CAPACITY, is_heavy: false };
    match state.workers.run(job, move || authority.search_certificates(&email, Timestamp::now())).await {
        Ok(Ok(found)) => certificates(found),
        Ok(Err(error)) => {
            tracing::error!(%error, "a search failed");
            fault(&error)
        }
        Err(reason) => job_error_response(reason),
    }
}

fn certificates(mut found: Vec<Vec<u8>>) -> Response {
    match (found.pop(), found.is_empty()) {
        (None, _) => text_response(StatusCode::NOT_FOUND, "no certificate for this address"),
        (Some(only), true) => ([(header::CONTENT_TYPE, "application/pkix-cert")], only).into_response(),
        (Some(last), false) => {
            found.push(last);
            let content_type = format!("multipart/mixed; boundary=\"{BOUNDARY}\"");
            ([(header::CONTENT_TYPE, content_type)], multipart(&found)).into_response()
        }
    }
}

/// Builds a multipart body (RFC 2046 §5.1) with base64 parts, so that no certificate can contain
/// the boundary.
fn multipart(certificates: &[Vec<u8>]) -> String {
    use base64::Engine as _;

    let mut body = String::new();
    for certificate in certificates {
        let lines = base64::engine::general_purpose::STANDARD.encode(certificate);
        body.push_str("--");
        body.push_str(BOUNDARY);
        body.push_str("\r\nContent-Type: application/pkix-cert\r\nContent-Transfer-Encoding: base64\r\n\r\n");
        for (at, character) in lines.chars().enumerate() {
            if at > 0 && at % 76 == 0 {
                body.push_str("\r\n");
            }
            body.push(character);
        }
        body.push_str("\r\n");
    }
    body.push_str("--");
    body.push_str(BOUNDARY);
    body.push_str("--\r\n");
    body
}
