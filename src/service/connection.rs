//! One listener and its connections: let in, encrypted if the door is, spoken with in HTTP/1.1, and let go in time.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::admission::Admission;
use super::guard::Connection;
use super::stop::closing;
use super::{GRACE, forwarded, limits};
use crate::authority::Networks;

/// Whom a request came from; every request carries it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

/// What a connection's requests have in common.
#[derive(Clone)]
pub(super) struct Peer {
    /// The other end.
    pub(super) address: IpAddr,
    /// The connection itself.
    pub(super) connection: Arc<Connection>,
    /// The proxies that may say for whom they ask.
    pub(super) proxies: Arc<Networks>,
}

/// Takes connections until `closed`, then gives those that are busy a little time to finish.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Router,
    admission: Admission,
    mut closed: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let state = closed.clone();
    loop {
        tokio::select! {
            () = closing(&mut closed) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let source = peer.ip().to_canonical();
                    let Some(permit) = admission.admit(source, tls.is_some()) else {
                        tracing::debug!(%source, "too many connections: one was closed");
                        continue;
                    };
                    let peer =
                        Peer { address: source, connection: permit.connection(), proxies: admission.proxies() };
                    let (tls, routes, state) = (tls.clone(), routes.clone(), state.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = converse(stream, peer, tls, routes, state) => {}
                            () = permit.must_close() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, or a connection that was gone before it was taken. Not the end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    finish(connections).await;
}

/// Gives connections that are busy a little time.
pub(super) async fn finish(mut connections: JoinSet<()>) {
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("connections that did not end in time are cut");
    }
}

async fn converse(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Router,
    state: watch::Receiver<bool>,
) {
    // Small answers should not wait for each other; that it cannot be set harms nothing.
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else { return speak(stream, peer, routes, state).await };
    let source = peer.address;
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(limits::HANDSHAKE_TIME, handshake).await {
        Ok(Ok(stream)) => speak(stream, peer, routes, state).await,
        Ok(Err(error)) => tracing::debug!(%source, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%source, "a TLS handshake took too long"),
    }
}

/// Speaks HTTP/1.1 on a connection until it ends.
pub(super) async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    routes: Router,
    mut state: watch::Receiver<bool>,
) {
    let source = peer.address;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let source = forwarded::source_of(peer.address, request.headers(), &peer.proxies);
        request.extensions_mut().insert(Source(source));
        request.extensions_mut().insert(peer.connection.clone());
        // A router is always ready.
        routes.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(limits::HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut end = pin!(tokio::time::sleep(limits::CONNECTION_TIME));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%source, %error, "a connection broke off");
                }
                return;
            }
            () = closing(&mut state), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = end.as_mut() => {
                tracing::debug!(%source, "a connection lasted too long");
                return;
            }
        }
    }
}
