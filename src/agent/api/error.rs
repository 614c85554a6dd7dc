//! Errors of all endpoints: an HTTP status, and JSON with the kind of error and a message.

use serde::Serialize;

use crate::agent::AgentError;
use crate::keyset::{ErrorKind, KeysetError};

/// An error response.
#[derive(Debug)]
pub struct ApiError {
    pub status: HttpStatus,
    /// the kind of error, as it decides a command's exit code
    pub kind: ErrorKind,
    /// the complete sentence, with the next step
    pub message: String,
}

/// An HTTP status that this API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpStatus(pub u16);

impl HttpStatus {
    pub const OK: Self = Self(200);
    pub const NO_CONTENT: Self = Self(204);
    pub const BAD_REQUEST: Self = Self(400);
    pub const FORBIDDEN: Self = Self(403);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const CONFLICT: Self = Self(409);
    pub const LENGTH_REQUIRED: Self = Self(411);
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    pub const UNPROCESSABLE: Self = Self(422);
    pub const HEAD_TOO_LARGE: Self = Self(431);
    pub const FAULT: Self = Self(500);
    pub const BAD_GATEWAY: Self = Self(502);

    /// The reason phrases of RFC 9110.
    pub fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            _ => "Internal Server Error",
        }
    }
}

impl ApiError {
    pub fn new(status: HttpStatus, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// A malformed or contradictory request.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(HttpStatus::BAD_REQUEST, ErrorKind::Usage, message)
    }

    pub fn no_such_path() -> Self {
        let message = "cannot find this path; GET /v1/openapi.json lists the paths";
        Self::new(HttpStatus::NOT_FOUND, ErrorKind::Usage, message)
    }

    /// The error in JSON.
    pub fn body(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Sentence<'a>,
        }
        #[derive(Serialize)]
        struct Sentence<'a> {
            kind: ErrorKind,
            message: &'a str,
        }
        Body { error: Sentence { kind: self.kind, message: &self.message } }
    }
}

impl From<AgentError> for ApiError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Keyset(error) => error.into(),
            error => Self::of(error.kind(), error.to_string()),
        }
    }
}

impl From<KeysetError> for ApiError {
    fn from(error: KeysetError) -> Self {
        let error = for_a_client(error);
        Self::of(error.kind(), error.to_string())
    }
}

/// Replaces command options by the members of a request.
fn for_a_client(error: KeysetError) -> KeysetError {
    match error {
        KeysetError::Ambiguous { what, candidates, .. } => {
            let remedy = match what {
                "token" => "name it by its serial number (`token`)",
                _ => "name one of them (`keyset`); if the name is ambiguous, add its token's serial number (`token`)",
            };
            KeysetError::Ambiguous { what, candidates, remedy: remedy.to_owned() }
        }
        error => error,
    }
}

impl ApiError {
    /// Each kind of error has one status.
    fn of(kind: ErrorKind, message: String) -> Self {
        let status = match kind {
            ErrorKind::Fault => HttpStatus::FAULT,
            ErrorKind::Usage => HttpStatus::BAD_REQUEST,
            ErrorKind::Absent => HttpStatus::NOT_FOUND,
            ErrorKind::Pin | ErrorKind::Interrupted => HttpStatus::FORBIDDEN,
            ErrorKind::Refused => HttpStatus::CONFLICT,
            ErrorKind::Unreachable => HttpStatus::BAD_GATEWAY,
            ErrorKind::NotVerified => HttpStatus::UNPROCESSABLE,
        };
        Self::new(status, kind, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_request_members_not_command_options() {
        for what in ["keyset", "token"] {
            let candidates = "one, other".to_owned();
            let error = KeysetError::Ambiguous { what, candidates, remedy: "add `--token SERIAL`".to_owned() };
            let error = ApiError::from(AgentError::from(error));
            assert!(
                error.message.starts_with(&format!("cannot tell which {what} is meant: one, other; name ")),
                "{error:?}"
            );
            assert!(error.message.contains("`token`") && !error.message.contains("--"), "{error:?}");
            assert_eq!(error.status, HttpStatus::CONFLICT);
        }
    }
}
