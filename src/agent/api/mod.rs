//! The agent's API: HTTP/1.1 and JSON on a Unix socket, for programs.
//!
//! Requests are typed: content that becomes a signed CMS message, or a message or `RecipientInfo`
//! to decrypt. `/v1/sign` signs content as data. No request signs an administrator's statement.
//! `docs/agent-api.openapi.json` describes every path; the agent serves it at `/v1/openapi.json`.
//!
//! This must never sign a digest or a content type that speaks for an administrator, never say why
//! a content key did not decrypt, never serve a web page's script (any request with an `Origin` is
//! refused), never read a body without a limit, and never log what passes through it.

mod bodies;
mod bytes;
mod decrypt;
mod error;
mod events;
mod http;
mod keysets;
mod routes;
mod sessions;
mod sign;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::{ClientConnection, Keystore, PeerProcess, Requester};
use error::ApiError;
use http::{ApiResponse, HttpConnection};
use routes::Route;
use sign::Signatory;

/// The description that `/v1/openapi.json` returns.
const OPENAPI: &str = include_str!("../../../docs/agent-api.openapi.json");

/// Serves one connection until it closes.
pub fn serve(stream: UnixStream, peer: PeerProcess, keystore: &Keystore) {
    let stream = Arc::new(stream);
    let requester = Requester { peer, client: ClientConnection::of(&stream) };
    let mut session = ApiSession { keystore, requester, signatory: None };
    let mut connection = HttpConnection::new(stream);
    loop {
        let request = match connection.head() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => return connection.refuse(&error),
        };
        let route = match Route::find(&request.method, &request.path) {
            Ok(route) => route,
            Err(error) => return connection.refuse(&error),
        };
        if let Err(error) = connection.body(&request, route.max_body_bytes()) {
            return connection.refuse(&error);
        }
        let answer = match route {
            Route::Events => return events::serve(&connection.into_stream(), keystore),
            route => session.answer(route, &request.query, connection.content(&request)),
        };
        connection.wipe_request(&request);
        let answer = answer.unwrap_or_else(|error| ApiResponse::of_error(&error));
        if connection.send(&answer, request.keep_alive).is_err() || !request.keep_alive {
            return;
        }
    }
}

/// The state of one connection: its client, and the signing data of the last key.
struct ApiSession<'a> {
    keystore: &'a Keystore,
    requester: Requester,
    signatory: Option<Signatory>,
}

impl ApiSession<'_> {
    fn answer(&mut self, route: Route, query: &http::Query, body: &[u8]) -> Result<ApiResponse, ApiError> {
        match route {
            Route::OpenApi => Ok(ApiResponse::json_text(OPENAPI)),
            Route::Status => self.status(),
            Route::Tokens => keysets::tokens(self.keystore),
            Route::Keysets => keysets::keysets(self.keystore),
            Route::Keyset(name) => keysets::keyset(self.keystore, &name, query),
            Route::Certificates(name) => keysets::certificates(self.keystore, &name, query),
            Route::PublicKeys => keysets::public_keys(self.keystore),
            Route::Sign => self.sign(&bodies::read(body)?),
            Route::Decrypt => self.decrypt(&bodies::read(body)?),
            Route::LogIn => self.log_in(&bodies::read(body)?),
            Route::LogOff => self.log_off(&bodies::read_or_default(body)?),
            Route::Lock => self.lock(&bodies::read(body)?),
            Route::Unlock => self.unlock(&bodies::read(body)?),
            // `serve` has handled this, because it takes over the connection.
            Route::Events => Err(ApiError::no_such_path()),
        }
    }
}
