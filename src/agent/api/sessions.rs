//! `/v1/log-in`, `/v1/log-off`, `/v1/lock`, `/v1/unlock`, and `/v1/status`, which reports the lock
//! and the prompt method.

use serde_json::json;

use super::ApiSession;
use super::bodies::{LogInRequest, LogOffRequest, PassPhraseRequest, choice};
use super::error::ApiError;
use super::http::ApiResponse;
use crate::keyset::{TokenReference, TokenSelector};

impl ApiSession<'_> {
    pub fn status(&self) -> Result<ApiResponse, ApiError> {
        ApiResponse::json(&self.keystore.status())
    }

    /// Starts a session; the agent's prompter asks for the PIN.
    pub fn log_in(&self, request: &LogInRequest) -> Result<ApiResponse, ApiError> {
        let choice = choice(request.keyset.as_ref(), request.token.as_deref())?;
        let keyset = self.keystore.log_in(&choice, None, &self.requester)?;
        ApiResponse::json(
            &json!({ "keyset": keyset.name, "level": keyset.level, "token": TokenReference::of(&keyset.token) }),
        )
    }

    pub fn log_off(&self, request: &LogOffRequest) -> Result<ApiResponse, ApiError> {
        let selector = request.token.as_deref().map(str::parse::<TokenSelector>).transpose();
        let selector = selector.map_err(|error| ApiError::bad_request(format!("cannot find this token: {error}")))?;
        let ended = self.keystore.log_off(selector.as_ref())?;
        ApiResponse::json(&json!({ "ended": ended }))
    }

    pub fn lock(&self, request: &PassPhraseRequest) -> Result<ApiResponse, ApiError> {
        self.keystore.lock(request.pass_phrase.as_slice())?;
        Ok(ApiResponse::done())
    }

    pub fn unlock(&self, request: &PassPhraseRequest) -> Result<ApiResponse, ApiError> {
        self.keystore.unlock(request.pass_phrase.as_slice())?;
        Ok(ApiResponse::done())
    }
}
