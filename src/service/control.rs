//! The control socket, through which other commands of the authority's own user reach a running
//! `serve`. This file has its server and its client.
//!
//! It is HTTP over a Unix socket with the listeners' limits and two requests: answer a statement
//! from a file, and check the database. The modes of the socket (0600) and its directory (0700) and
//! the kernel's peer credentials exclude other users; a statement must still be signed by an
//! administrator.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::app_state::{AppState, job_error_response, text_response};
use super::blocking_pool::Job;
use super::connection::ConnectionInfo;
use super::connection_limit::TrackedConnection;
use super::routes::{CONTROL_CHECK, CONTROL_STATEMENTS};
use super::shutdown::wait_for_close;
use super::statements::FILE_SOURCE;
use super::{ServiceError, connection, limits};
use crate::authority::{Configuration, DatabaseCheckReport};

/// Linux's `sun_path` has 108 bytes, including a final 0.
const MAX_SOCKET_PATH: usize = 107;

/// The bound socket, whose file is removed on drop.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// A socket's file, identified by its inode: another process may have replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl ControlSocket {
    /// Creates the socket with mode 0600. Replaces a stale socket of a killed `serve`.
    ///
    /// # Errors
    /// [`ServiceError::Control`] if a process listens there, if the file is not a socket, or if the
    /// path is too long for a socket.
    pub(super) fn bind(path: &Path) -> Result<Self, ServiceError> {
        let refuse = |reason: String| ServiceError::Control { path: path.to_owned(), reason };
        let failed = |error: io::Error| refuse(error.to_string());
        if is_too_long(path) {
            return Err(refuse(format!(
                "its path is longer than the {MAX_SOCKET_PATH} bytes allowed for a socket; choose a shorter `state`"
            )));
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(refuse("the path is not a socket; remove that file".to_owned()));
            }
            Ok(_) => match BlockingStream::connect(path) {
                Err(error) if is_not_listening(&error) => {}
                Err(error) => return Err(failed(error)),
                Ok(_) => return Err(refuse("another `authority serve` uses this state directory".to_owned())),
            },
        }
        // Created under another name until its mode excludes other users, then renamed atomically
        // over the old file.
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(failed)?;
        let inode = inode(&new).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Accepts connections of the same user until `closed`; then removes the file and lets busy
    /// connections finish.
    pub(super) async fn accept(self, routes: Router, mut closed: watch::Receiver<bool>) {
        let Self { listener, file } = self;
        let permits = Arc::new(Semaphore::new(limits::MAX_CONTROL_CONNECTIONS));
        let mut connections = JoinSet::new();
        let state = closed.clone();
        loop {
            tokio::select! {
                () = wait_for_close(&mut closed) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if is_same_user(&stream) => {
                        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
                        let (routes, state) = (routes.clone(), state.clone());
                        connections.spawn(async move {
                            connection::serve_http1(stream, local_peer(), routes, state).await;
                            drop(permit);
                        });
                    }
                    Ok(_) => tracing::warn!("rejected a connection of another user to the control socket"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection on the control socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(file);
        drop(listener);
        connection::drain(connections).await;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // The next `serve` replaces a leftover file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The peer of the control socket: this machine, without a proxy.
fn local_peer() -> ConnectionInfo {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    ConnectionInfo { address, connection: Arc::new(TrackedConnection::default()), proxies: Arc::default() }
}

/// Whether the peer has the same user id, by the kernel (`SO_PEERCRED`). Not even root counts as
/// the same user.
fn is_same_user(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| is_own_uid(peer.uid()))
}

fn is_own_uid(user: u32) -> bool {
    user == rustix::process::geteuid().as_raw()
}

/// Sends a statement from a file to the running `serve` of this configuration and returns its
/// response; `None` if no `serve` is running.
///
/// # Errors
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
    let path = configuration.control_socket();
    let Some(report) = post(&path, CONTROL_CHECK, &[], limits::CONTROL_CHECK_TIMEOUT)? else { return Ok(None) };
    let report = serde_json::from_slice(&report);
    report.map(Some).map_err(|error| ServiceError::Control { path, reason: error.to_string() })
}

/// Whether a `serve` of this configuration is running. Sends nothing to it.
///
/// # Errors
/// [`ServiceError::Control`] if the socket cannot be tried.
pub fn is_running(configuration: &Configuration) -> Result<bool, ServiceError> {
    let path = configuration.control_socket();
    if is_too_long(&path) {
        return Ok(false);
    }
    match BlockingStream::connect(&path) {
        Ok(_) => Ok(true),
        Err(error) if is_not_listening(&error) => Ok(false),
        Err(error) => Err(ServiceError::Control {
            path,
            reason: format!("{error}; run this command as the user that runs `serve`"),
        }),
    }
}

fn forward_to(path: &Path, statement: &[u8]) -> Result<Option<Vec<u8>>, ServiceError> {
    post(path, CONTROL_STATEMENTS, statement, limits::CONTROL_RESPONSE_TIMEOUT)
}

fn post(path: &Path, request: &str, body: &[u8], time: Duration) -> Result<Option<Vec<u8>>, ServiceError> {
    let refuse = |reason: String| ServiceError::Control { path: path.to_owned(), reason };
    // `serve` does not start with such a path.
    if is_too_long(path) {
        return Ok(None);
    }
    let stream = match BlockingStream::connect(path) {
        Err(error) if is_not_listening(&error) => return Ok(None),
        Err(error) => return Err(refuse(format!("{error}; run this command as the user that runs `serve`"))),
        Ok(stream) => stream,
    };
    let answer = exchange(stream, request, body, time)
        .map_err(|error| refuse(format!("{error}; `serve` may be stopping, or belong to another user; see its log")))?;
    match split(&answer) {
        Some((200, body)) if !body.is_empty() => Ok(Some(body.to_vec())),
        Some((status, body)) => {
            let message = String::from_utf8_lossy(body.get(..body.len().min(400)).unwrap_or(body));
            let message = message.trim().escape_debug().to_string();
            if status == 403 {
                return Err(ServiceError::Unverified(message));
            }
            Err(refuse(format!("`serve` answered {status}: {message}")))
        }
        None => Err(refuse("`serve` closed the connection without a response; see its log".to_owned())),
    }
}

fn exchange(mut stream: BlockingStream, path: &str, body: &[u8], time: Duration) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(limits::BODY_TIMEOUT))?;
    stream.set_read_timeout(Some(time))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: control\r\nconnection: close\r\ncontent-type: application/pkcs7-mime\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(limits::MAX_CONTROL_RESPONSE_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Returns status and body of a complete response. The server is this program, which always sends a
/// content length.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let body = answer.get(end + 4..)?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    })?;
    (body.len() == length).then_some((status, body))
}

fn is_too_long(path: &Path) -> bool {
    path.as_os_str().len() > MAX_SOCKET_PATH
}

fn is_not_listening(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Handles `POST /control/check`: checks the whole database. The response is a JSON report with the
/// problems.
pub(super) async fn handle_check(State(state): State<Arc<AppState>>) -> Response {
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

#[cfg(test)]
mod tests;
