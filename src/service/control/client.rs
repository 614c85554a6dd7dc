//! The client of the control socket: forwards a call of a command to the running `serve`.

use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{ControlCall, ControlReply};
use crate::authority::{Configuration, DatabaseCheckReport};
use crate::ipc::{self, Exchange, Frame, IpcError};
use crate::service::{ServiceError, limits};

/// Sends a statement from a file to the running `serve` of this configuration and returns its
/// response; `None` if no `serve` is running.
///
/// # Errors
/// [`ServiceError::Unverified`] if the statement is not an administrator's;
/// [`ServiceError::Control`] if a `serve` is running and does not answer.
pub fn forward_statement(configuration: &Configuration, statement: &[u8]) -> Result<Option<Vec<u8>>, ServiceError> {
    forward_to(&configuration.control_socket(), statement)
}

/// Lets the running `serve` of this configuration check its database; `None` if no `serve` is
/// running.
///
/// # Errors
/// [`ServiceError::Control`] if a `serve` is running and does not answer.
pub fn request_check(configuration: &Configuration) -> Result<Option<DatabaseCheckReport>, ServiceError> {
    check_at(&configuration.control_socket())
}

/// Whether a `serve` of this configuration is running. Sends nothing to it.
///
/// # Errors
/// [`ServiceError::Control`] if the socket cannot be tried.
pub fn is_running(configuration: &Configuration) -> Result<bool, ServiceError> {
    let path = configuration.control_socket();
    ipc::connect(&path).map(|stream| stream.is_some()).map_err(|error| unusable(&path, &error))
}

pub(in crate::service) fn forward_to(path: &Path, statement: &[u8]) -> Result<Option<Vec<u8>>, ServiceError> {
    match call(path, ControlCall::Answer, statement, limits::CONTROL_RESPONSE_TIMEOUT)? {
        None => Ok(None),
        Some(Frame { message: ControlReply::Response, mut payload, .. }) => Ok(Some(mem::take(&mut *payload))),
        Some(_) => Err(unexpected_reply(path)),
    }
}

pub(super) fn check_at(path: &Path) -> Result<Option<DatabaseCheckReport>, ServiceError> {
    match call(path, ControlCall::Check, b"", limits::CONTROL_CHECK_TIMEOUT)? {
        None => Ok(None),
        Some(Frame { message: ControlReply::Report(report), .. }) => Ok(Some(report)),
        Some(_) => Err(unexpected_reply(path)),
    }
}

/// The reply of the running `serve`; `None` if none is running.
fn call(
    path: &Path,
    call: ControlCall,
    payload: &[u8],
    time: Duration,
) -> Result<Option<Frame<ControlReply>>, ServiceError> {
    let Some(stream) = ipc::connect(path).map_err(|error| unusable(path, &error))? else { return Ok(None) };
    if payload.len() > limits::MAX_BODY_BYTES {
        return Err(refuse(path, format!("the statement is longer than {} bytes", limits::MAX_BODY_BYTES)));
    }
    let exchange = || {
        stream.set_write_timeout(Some(limits::BODY_TIMEOUT))?;
        stream.set_read_timeout(Some(time))?;
        Exchange::with_limit(Arc::new(stream), limits::MAX_CONTROL_RESPONSE_BYTES).request(call, payload)
    };
    let reply: Frame<ControlReply> = exchange().map_err(|error| match error {
        IpcError::OtherBuild => refuse(
            path,
            "the running `authority serve` is another build of tokenkeep than this command; restart it".to_owned(),
        ),
        error => refuse(path, format!("{error}; `serve` may be stopping, or belong to another user; see its log")),
    })?;
    match reply.message {
        ControlReply::Unverified(reason) => Err(ServiceError::Unverified(reason)),
        ControlReply::Failed(reason) => Err(refuse(path, format!("`serve` answered: {reason}"))),
        ControlReply::Response | ControlReply::Report(_) => Ok(Some(reply)),
    }
}

fn refuse(path: &Path, reason: String) -> ServiceError {
    ServiceError::Control { path: path.to_owned(), reason }
}

fn unusable(path: &Path, error: &std::io::Error) -> ServiceError {
    refuse(path, format!("{error}; run this command as the user that runs `serve`"))
}

fn unexpected_reply(path: &Path) -> ServiceError {
    refuse(path, "`serve` answered another call; please report this bug".to_owned())
}
