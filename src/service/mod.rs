//! The authority's listeners: they accept requests, pass them on, and take no decisions.
//!
//! HTTP serves CMP, the CA certificate and the certificate search; HTTPS serves statements and all
//! of that, with a TLS key on the authority's token. A control socket in the state directory
//! accepts statement files from commands of the same user, in frames of [`crate::ipc`]. The
//! listeners are asynchronous; the authority blocks, and runs on a bounded number of threads.
//!
//! **Invariants:** this module reads and writes only with limits on bytes and time, runs no work of
//! the authority on a network thread, logs no content of a request, and decides nothing: it passes
//! bytes to the [`Authority`] and returns its bytes.

mod app_state;
mod authority_api;
mod blocking_pool;
mod budget;
mod cmp;
mod connection;
mod connection_limit;
mod control;
mod error;
mod forwarded;
mod limits;
mod routes;
mod search;
mod shutdown;
mod statements;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::authority::{Authority, AuthorityError, Configuration, ListenConfiguration};
use crate::token::Pin;

use authority_api::AuthorityApi;
use blocking_pool::BlockingPool;
use budget::Budget;
use connection::AdmissionControl;
use control::{ControlServer, ControlSocket};
pub use control::{forward_statement, is_running, request_check};
pub use error::ServiceError;
use shutdown::ShutdownListener;
pub use shutdown::{ShutdownHandle, ShutdownSignal};

/// The interval at which unconfirmed transactions are discarded.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The delay before the older part of the log is checked again after a fault.
const CHECK_AGAIN: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(30) };

/// The grace period for running requests when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The additional time for work on the token. A kill would lose nothing, but cost a client a second
/// try.
const FINAL_WORK_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit for moving the database into one file at the end.
const CLOSING: Duration = Duration::from_secs(2);

/// The open listeners, to be announced by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddresses {
    /// The HTTP address, with the actual port if the configured one was 0.
    pub http: SocketAddr,
    /// The HTTPS address.
    pub https: SocketAddr,
    /// The base URL for HTTP in letters.
    pub http_url: String,
    /// The base URL for HTTPS in letters.
    pub https_url: String,
}

/// Opens the authority and serves until `stop`. Calls `announce` once, when both listeners are
/// open. Blocks until running requests are answered or their time is over.
///
/// # Errors
/// [`ServiceError`]: an address in use, or a token or database that cannot be opened. Nothing is
/// announced then.
pub fn serve(
    configuration: Configuration,
    pin: Pin,
    announce: impl FnOnce(&ListenAddresses),
    stop: ShutdownSignal,
) -> Result<(), ServiceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tokenkeep-http")
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()
        .map_err(ServiceError::Runtime)?;
    let result = runtime.block_on(async {
        // The listeners come first: a port conflict is reported without waiting for a token or
        // using a PIN try.
        let listen = configuration.listen.clone();
        let file = configuration.file.clone();
        let http = bind("http", listen.http, &file).await?;
        let https = bind("https", listen.https, &file).await?;
        let addresses = listen_addresses(&http, &https, &listen)?;
        let control = configuration.control_socket();
        let authority =
            tokio::task::spawn_blocking(move || Authority::open(configuration, &pin, Timestamp::now())).await??;
        // The control socket comes last: token and database give better errors about their current
        // owner.
        let control = ControlSocket::bind(&control)?;
        authority.set_public_urls(&addresses.http_url, &addresses.https_url);
        let tls = tls::server_config(authority.tls_identity())?;
        let stop = stop.listen().map_err(ServiceError::Runtime)?;
        announce(&addresses);
        // A service manager that waits for this (systemd, Type=notify) now starts the dependent
        // services.
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell the service manager that the authority is ready");
        }
        run(Arc::new(authority), &listen, (http, https, control), tls, stop).await
    });
    // Work that is still running has used up its time.
    runtime.shutdown_background();
    result
}

/// Serves both listeners and the control socket until `stop`, then finishes running requests unless
/// `stop` comes again.
///
/// # Errors
/// [`ServiceError::Authority`]: older log entries are invalid. The service stops then.
async fn run(
    authority: Arc<dyn AuthorityApi>,
    listen: &ListenConfiguration,
    (http, https, control): (TcpListener, TcpListener, ControlSocket),
    tls: Arc<rustls::ServerConfig>,
    mut stop: ShutdownListener,
) -> Result<(), ServiceError> {
    let workers = BlockingPool::new();
    let budget = Arc::new(Budget::new());
    let (closing, closed) = watch::channel(false);
    let server = ControlServer { authority: authority.clone(), workers: workers.clone() };
    let routes = routes::Routes::new(authority.clone(), workers.clone(), budget.clone(), listen.certificate_search);
    let admission = AdmissionControl::new(budget, listen.proxies.clone());
    let tasks = [
        tokio::spawn(connection::accept(http, None, routes.http(), admission.clone(), closed.clone())),
        tokio::spawn(connection::accept(https, Some(tls), routes.https(), admission, closed.clone())),
        tokio::spawn(control.accept(server, closed.clone())),
    ];
    let checking = verify_older_log(authority.clone());
    let sweeping = tokio::spawn(sweep(authority.clone(), closed));
    let fault = tokio::select! {
        () = stop.wait() => None,
        fault = checking => Some(fault),
    };
    tracing::info!("stopping: no new requests are accepted");
    // All receivers are dropped only after everything has stopped.
    let _ = closing.send(true);
    let finish = async {
        for task in tasks {
            let _ = task.await;
        }
        if tokio::time::timeout(FINAL_WORK_TIMEOUT, workers.idle()).await.is_err() {
            tracing::warn!("stopping although the token is still busy");
        }
    };
    tokio::select! {
        () = finish => {}
        () = stop.wait() => tracing::warn!("stopping at once"),
    }
    sweeping.abort();
    match tokio::time::timeout(CLOSING, tokio::task::spawn_blocking(move || authority.close())).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "recent changes stay in the database's write-ahead log"),
        Ok(Err(_)) | Err(_) => tracing::warn!("recent changes may stay in the database's write-ahead log"),
    }
    fault.map_or(Ok(()), Err)
}

/// Returns only if older entries of the log are invalid. Another fault (a database that another
/// program has locked, a token that does not answer) proves nothing about the log, so the check is
/// repeated later.
async fn verify_older_log(authority: Arc<dyn AuthorityApi>) -> ServiceError {
    loop {
        let authority = authority.clone();
        match tokio::task::spawn_blocking(move || authority.check_older_log()).await {
            Ok(Ok(())) => return std::future::pending().await,
            Ok(Err(error @ AuthorityError::Log { .. })) => {
                tracing::error!(%error, "the older part of the audit log is invalid");
                return error.into();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, again = ?CHECK_AGAIN, "cannot check the older part of the audit log now");
            }
            Err(error) => tracing::error!(%error, again = ?CHECK_AGAIN, "the check of the audit log panicked"),
        }
        tokio::time::sleep(CHECK_AGAIN).await;
    }
}

/// Lets the authority discard unconfirmed transactions every minute.
async fn sweep(authority: Arc<dyn AuthorityApi>, mut closed: watch::Receiver<bool>) {
    let mut minute = tokio::time::interval(SWEEP_INTERVAL);
    minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is immediate, and the opened authority has already swept.
    minute.tick().await;
    loop {
        tokio::select! {
            () = shutdown::wait_for_close(&mut closed) => return,
            _ = minute.tick() => {}
        }
        let authority = authority.clone();
        match tokio::task::spawn_blocking(move || authority.sweep(Timestamp::now())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(ended)) => tracing::info!(ended, "discarded unconfirmed transactions"),
            Ok(Err(error)) => tracing::error!(%error, "cannot sweep"),
            Err(error) => tracing::error!(%error, "the sweep panicked"),
        }
    }
}

async fn bind(
    listener: &'static str,
    address: SocketAddr,
    file: &std::path::Path,
) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServiceError::AddressInUse { listener, address, file: file.to_owned() },
        _ => ServiceError::Listen { listener, address, file: file.to_owned(), source },
    })
}

/// Returns addresses and URLs of the listeners: the configured URLs, by default those of the bound
/// addresses.
fn listen_addresses(
    http: &TcpListener,
    https: &TcpListener,
    listen: &ListenConfiguration,
) -> Result<ListenAddresses, ServiceError> {
    let http = http.local_addr().map_err(ServiceError::Runtime)?;
    let https = https.local_addr().map_err(ServiceError::Runtime)?;
    for (key, bound, configured) in
        [("public_url", http, &listen.public_url), ("public_https_url", https, &listen.public_https_url)]
    {
        if bound.ip().is_unspecified() && configured.is_none() {
            tracing::warn!("letters will name {bound}, which is unreachable: set {key} in the configuration");
        }
    }
    let url = |configured: &Option<String>, scheme, bound: SocketAddr| {
        configured.as_ref().map_or_else(|| format!("{scheme}://{bound}"), |url| url.trim_end_matches('/').to_owned())
    };
    let http_url = url(&listen.public_url, "http", http);
    let secure = url(&listen.public_https_url, "https", https);
    Ok(ListenAddresses { http, https, http_url, https_url: secure })
}

#[cfg(test)]
mod tests;
