//! Which paths there are.

use super::error::{ApiError, Status};
use super::http::decoded;
use crate::keyset::ErrorKind;

/// A path with its method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    OpenApi,
    Tokens,
    Keysets,
    Keyset(String),
    Certificates(String),
    PublicKeys,
    Events,
    Sign,
    Decrypt,
    LogIn,
    LogOff,
    Lock,
    Unlock,
    Acts,
    ActAnswer(String),
}

/// Bodies with contents and messages: 64 MiB of them in base64, and the JSON around.
const LONGEST_CONTENT: usize = 64 * 1024 * 1024 / 3 * 4 + LONGEST_OTHER;
/// All other bodies.
const LONGEST_OTHER: usize = 64 * 1024;
/// Bodies with what an authority answered, in base64.
const LONGEST_REPLY: usize = 16 * 1024 * 1024;

impl Route {
    /// The route of a request.
    pub fn find(method: &str, path: &str) -> Result<Self, ApiError> {
        let rest = path.strip_prefix("/v1/").ok_or_else(ApiError::no_such_path)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let (needed, route) = match parts.as_slice() {
            ["openapi.json"] => ("GET", Self::OpenApi),
            ["tokens"] => ("GET", Self::Tokens),
            ["keysets"] => ("GET", Self::Keysets),
            ["keysets", name] => ("GET", Self::Keyset(decoded(name)?)),
            ["keysets", name, "certificates"] => ("GET", Self::Certificates(decoded(name)?)),
            ["public-keys"] => ("GET", Self::PublicKeys),
            ["events"] => ("GET", Self::Events),
            ["sign"] => ("POST", Self::Sign),
            ["decrypt"] => ("POST", Self::Decrypt),
            ["log-in"] => ("POST", Self::LogIn),
            ["log-off"] => ("POST", Self::LogOff),
            ["lock"] => ("POST", Self::Lock),
            ["unlock"] => ("POST", Self::Unlock),
            ["acts"] => ("POST", Self::Acts),
            ["acts", id, "answer"] => ("POST", Self::ActAnswer((*id).to_owned())),
            _ => return Err(ApiError::no_such_path()),
        };
        if method == needed {
            return Ok(route);
        }
        let message = format!("cannot {method} this path: it takes {needed}");
        Err(ApiError::new(Status::METHOD_NOT_ALLOWED, ErrorKind::Usage, message))
    }

    /// The most bytes of a body.
    pub fn longest_body(&self) -> usize {
        match self {
            Self::Sign | Self::Decrypt | Self::Acts => LONGEST_CONTENT,
            Self::ActAnswer(_) => LONGEST_REPLY,
            _ => LONGEST_OTHER,
        }
    }
}
