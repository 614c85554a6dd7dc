//! One listener and its connections: admission, TLS if configured, HTTP/1.1, and timeouts.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::budget::Budget;
use super::connection_limit::{ConnectionLimiter, ConnectionPermit, TrackedConnection};
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

/// The checks of both listeners before they accept a connection: limits on connections, a work
/// budget for each source, and trusted proxies, which carry the requests of many sources.
#[derive(Clone)]
pub(super) struct AdmissionControl {
    limiter: ConnectionLimiter,
    budget: Arc<Budget>,
    proxies: Arc<Networks>,
}

impl AdmissionControl {
    pub(super) fn new(budget: Arc<Budget>, proxies: Networks) -> Self {
        Self { limiter: ConnectionLimiter::default(), budget, proxies: Arc::new(proxies) }
    }

    /// Admits a connection if its source is below its connection limit and, unless it is a proxy,
    /// has budget left. A proxy's requests are charged to the clients that it names.
    pub(super) fn admit(&self, source: IpAddr, is_tls: bool) -> Option<ConnectionPermit> {
        if self.proxies.contains(source) {
            return self.limiter.admit(source, limits::MAX_CONNECTIONS_PER_PROXY);
        }
        let cost = limits::COST_OF_CONNECTION + if is_tls { limits::COST_OF_HANDSHAKE } else { 0 };
        self.budget.take(source, cost, Instant::now()).ok()?;
        self.limiter.admit(source, limits::MAX_CONNECTIONS_PER_SOURCE)
    }

    pub(super) fn proxies(&self) -> Arc<Networks> {
        self.proxies.clone()
    }
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
async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin>(
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
