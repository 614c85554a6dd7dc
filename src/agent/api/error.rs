//! Errors as every endpoint gives them: an HTTP status, and JSON with the end that it leads to and a sentence.

use serde::Serialize;

use crate::agent::AgentError;
use crate::keyset::{ErrorKind, KeysetError};

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    /// the HTTP status
    pub status: Status,
    /// the end that a command would come to
    pub kind: ErrorKind,
    /// the whole sentence, with the next step
    pub message: String,
}

/// An HTTP status that this API gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
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

    /// The words of RFC 9110.
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
    pub fn new(status: Status, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// A request that cannot be meant like this.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Status::BAD_REQUEST, ErrorKind::Usage, message)
    }

    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(Status::FAULT, ErrorKind::Fault, message)
    }

    pub fn no_such_path() -> Self {
        let message = "cannot find this path; GET /v1/openapi.json says which there are";
        Self::new(Status::NOT_FOUND, ErrorKind::Usage, message)
    }

    /// Its JSON.
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
        Self::of(error.kind(), error.to_string())
    }
}

impl From<KeysetError> for ApiError {
    fn from(error: KeysetError) -> Self {
        Self::of(error.kind(), error.to_string())
    }
}

impl ApiError {
    /// Each end has one status.
    fn of(kind: ErrorKind, message: String) -> Self {
        let status = match kind {
            ErrorKind::Fault => Status::FAULT,
            ErrorKind::Usage => Status::BAD_REQUEST,
            ErrorKind::Absent => Status::NOT_FOUND,
            ErrorKind::Pin => Status::FORBIDDEN,
            ErrorKind::Refused => Status::CONFLICT,
            ErrorKind::Unreachable => Status::BAD_GATEWAY,
            ErrorKind::NotVerified => Status::UNPROCESSABLE,
        };
        Self::new(status, kind, message)
    }
}
