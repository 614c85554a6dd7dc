//! One listener and its connections: admission, TLS if configured, HTTP/1.1, and timeouts.

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

use super::admission::AdmissionControl;
use super::connection_limit::TrackedConnection;
use super::shutdown::wait_for_close;
use super::{DRAIN_TIMEOUT, forwarded, limits};
use crate::authority::Networks;

/// The source address of a request, attached to every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceAddress(pub(super) IpAddr);

/// The data that all requests of one connection share.
#[derive(Clone)]
pub(super) struct ConnectionInfo {
    /// The address of the peer.
    pub(super) address: IpAddr,
    /// The connection's entry in the connection limiter.
    pub(super) connection: Arc<TrackedConnection>,
    /// The proxies whose `Forwarded` header is trusted.
    pub(super) proxies: Arc<Networks>,
}

/// Accepts connections until `closed`, then gives busy ones the grace period to finish.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Router,
    admission: AdmissionControl,
    mut closed: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let state = closed.clone();
    loop {
        tokio::select! {
            () = wait_for_close(&mut closed) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let source = peer.ip().to_canonical();
                    let Some(permit) = admission.admit(source, tls.is_some()) else {
                        tracing::debug!(%source, "too many connections: one was closed");
                        continue;
                    };
                    let peer = ConnectionInfo {
                        address: source,
                        connection: permit.connection(),
                        proxies: admission.proxies(),
                    };
                    let (tls, routes, state) = (tls.clone(), routes.clone(), state.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = handle_connection(stream, peer, tls, routes, state) => {}
                            () = permit.must_close() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // No descriptor is left, or the client has disconnected. The listener
                    // continues.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    drain(connections).await;
}

/// Waits for busy connections, for the grace period at most.
pub(super) async fn drain(mut connections: JoinSet<()>) {
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, finished).await.is_err() {
        tracing::warn!("closing connections that did not finish in time");
    }
}

async fn handle_connection(
    stream: TcpStream,
    peer: ConnectionInfo,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: Router,
    state: watch::Receiver<bool>,
) {
    // Sends small replies without delay; a failure to set the option is harmless.
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else { return serve_http1(stream, peer, routes, state).await };
    let source = peer.address;
    let handshake = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => serve_http1(stream, peer, routes, state).await,
        Ok(Err(error)) => tracing::debug!(%source, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%source, "a TLS handshake took too long"),
    }
}

/// Serves HTTP/1.1 on a connection until it ends.
pub(super) async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: ConnectionInfo,
    routes: Router,
    mut state: watch::Receiver<bool>,
) {
    let source = peer.address;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let source = forwarded::source_of(peer.address, request.headers(), &peer.proxies);
        request.extensions_mut().insert(SourceAddress(source));
        request.extensions_mut().insert(peer.connection.clone());
        // A router is always ready.
        routes.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIMEOUT)
        .max_buf_size(limits::MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut end = pin!(tokio::time::sleep(limits::MAX_CONNECTION_TIME));
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%source, %error, "connection error");
                }
                return;
            }
            () = wait_for_close(&mut state), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = end.as_mut() => {
                tracing::debug!(%source, "a connection exceeded its time limit");
                return;
            }
        }
    }
}
