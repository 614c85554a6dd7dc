//! The API's paths.

use super::error::{ApiError, HttpStatus};
use super::http::percent_decode;
use crate::keyset::ErrorKind;

/// A path with its method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    OpenApi,
    Status,
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
}

/// Maximum length in bytes of bodies with content or messages: 64 MiB in base64, and the JSON
/// around it.
const MAX_CONTENT_BODY_BYTES: usize = 64 * 1024 * 1024 / 3 * 4 + MAX_OTHER_BODY_BYTES;
/// Maximum length of all other bodies, in bytes.
const MAX_OTHER_BODY_BYTES: usize = 64 * 1024;

impl Route {
    /// Finds the route of a request.
    pub fn find(method: &str, path: &str) -> Result<Self, ApiError> {
        let rest = path.strip_prefix("/v1/").ok_or_else(ApiError::no_such_path)?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(ApiError::no_such_path());
        }
        let (needed, route) = match parts.as_slice() {
            ["openapi.json"] => ("GET", Self::OpenApi),
            ["status"] => ("GET", Self::Status),
            ["tokens"] => ("GET", Self::Tokens),
            ["keysets"] => ("GET", Self::Keysets),
            ["keysets", name] => ("GET", Self::Keyset(percent_decode(name)?)),
            ["keysets", name, "certificates"] => ("GET", Self::Certificates(percent_decode(name)?)),
            ["public-keys"] => ("GET", Self::PublicKeys),
            ["events"] => ("GET", Self::Events),
            ["sign"] => ("POST", Self::Sign),
            ["decrypt"] => ("POST", Self::Decrypt),
            ["log-in"] => ("POST", Self::LogIn),
            ["log-off"] => ("POST", Self::LogOff),
            ["lock"] => ("POST", Self::Lock),
            ["unlock"] => ("POST", Self::Unlock),
            _ => return Err(ApiError::no_such_path()),
        };
        if method == needed {
            return Ok(route);
        }
        let message = format!("cannot use {method} on this path: use {needed}");
        Err(ApiError::new(HttpStatus::METHOD_NOT_ALLOWED, ErrorKind::Usage, message))
    }

    /// Maximum length of the body in bytes.
    pub fn max_body_bytes(&self) -> usize {
        match self {
            Self::Sign | Self::Decrypt => MAX_CONTENT_BODY_BYTES,
            _ => MAX_OTHER_BODY_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Route;
    use crate::agent::api::OPENAPI;

    /// The description has as many paths as there are routes, and each path leads to a route of its
    /// own.
    #[test]
    fn the_description_has_every_route() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut found = Vec::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in ["get", "post"].into_iter().filter(|method| item.get(method).is_some()) {
                let actual = path.replace("{name}", "a").replace("{id}", "b");
                let route = Route::find(&method.to_uppercase(), &actual).unwrap();
                assert!(!found.contains(&route), "{path}");
                found.push(route);
            }
        }
        // A new route must be added to this match and to the description.
        let count = found
            .iter()
            .map(|route| match route {
                Route::OpenApi
                | Route::Status
                | Route::Tokens
                | Route::Keysets
                | Route::PublicKeys
                | Route::Events
                | Route::Keyset(_)
                | Route::Certificates(_)
                | Route::Sign
                | Route::Decrypt
                | Route::LogIn
                | Route::LogOff
                | Route::Lock
                | Route::Unlock => 1,
            })
            .sum::<usize>();
        assert_eq!(count, 14);
    }

    #[test]
    fn unknown_paths_and_methods_are_refused() {
        for path in ["/", "/v1", "/v1/", "/v2/tokens", "/v1/tokens/", "/v1/keysets//certificates", "/v1/keysets/a/b"] {
            assert_eq!(Route::find("GET", path).unwrap_err().status.0, 404, "{path}");
        }
        assert_eq!(Route::find("POST", "/v1/tokens").unwrap_err().status.0, 405);
        assert_eq!(Route::find("get", "/v1/tokens").unwrap_err().status.0, 405);
    }
}
