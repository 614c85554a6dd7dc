//! `/v1/log-in`, `/v1/log-off`, `/v1/lock`, `/v1/unlock`, and `/v1/status`, which reports the lock
//! and the prompt method.

use serde_json::json;

use super::Desk;
use super::bodies::{LogIn, LogOff, PassPhrase, choice};
use super::error::ApiError;
use super::http::Answer;
use super::keysets::name_of;
use crate::agent::Purpose;
use crate::keyset::TokenSelector;

impl Desk<'_> {
    /// Works while the agent is locked, so that a user can learn why nothing else does.
    pub fn status(&self) -> Result<Answer, ApiError> {
        let (asks_by, cannot_ask) = match self.keystore.prompter() {
            Ok(way) => (Some(way), None),
            Err(why) => (None, Some(why)),
        };
        let locked = self.keystore.is_locked();
        Answer::json(&json!({ "locked": locked, "asks_by": asks_by, "cannot_ask": cannot_ask }))
    }

    /// Starts a session; the agent's prompter asks for the PIN.
    pub fn log_in(&self, request: &LogIn) -> Result<Answer, ApiError> {
        let usage = self.usage(Purpose::LogIn);
        let choice = choice(request.keyset.as_ref(), request.token.as_deref())?;
        let keyset = self.keystore.log_in(&choice, &usage)?;
        Answer::json(&json!({ "keyset": keyset.name, "level": keyset.level, "token": name_of(&keyset.token) }))
    }

    pub fn log_off(&self, request: &LogOff) -> Result<Answer, ApiError> {
        let selector = request.token.as_deref().map(str::parse::<TokenSelector>).transpose();
        let selector = selector.map_err(|error| ApiError::bad_request(format!("cannot find this token: {error}")))?;
        let ended = self.keystore.log_off(selector.as_ref())?;
        Answer::json(&json!({ "ended": ended }))
    }

    pub fn lock(&self, request: &PassPhrase) -> Result<Answer, ApiError> {
        self.keystore.lock(request.pass_phrase.as_slice())?;
        Ok(Answer::done())
    }

    pub fn unlock(&self, request: &PassPhrase) -> Result<Answer, ApiError> {
        self.keystore.unlock(request.pass_phrase.as_slice())?;
        Ok(Answer::done())
    }
}
