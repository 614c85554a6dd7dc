//! The authority's doors: two listeners, the requests that come through them, and nothing of what is decided behind.
//!
//! HTTP takes CMP, gives the CA certificate and searches certificates; HTTPS takes statements, and all the rest, with a
//! key on the authority's token. A control socket in the state directory takes statements that came as files, from
//! commands of the same user. The doors are asynchronous; what stands behind them blocks, and is asked on a bounded
//! number of threads. This room must never read or write without a bound on bytes and time, never do the authority's
//! work on a thread that serves the network, never log what a request carries, and never judge: it takes bytes to the
//! [`Authority`] and brings its bytes back.

mod admission;
mod budget;
mod check;
mod cmp;
mod connection;
mod control;
mod door;
mod error;
mod forwarded;
mod guard;
mod limits;
mod office;
mod routes;
mod search;
mod statements;
mod stop;
mod tls;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::authority::{Authority, AuthorityError, Configuration, ListenConfiguration};
use crate::token::Pin;

use admission::Admission;
use budget::Budget;
use control::ControlSocket;
pub use control::{answer_by_running, check_by_running, is_running};
pub use error::ServiceError;
use office::Office;
use stop::Listening;
pub use stop::{Stop, StopHandle};
use workers::BlockingPool;

/// How often the authority is asked to give up what was not confirmed in time.
const SWEEP: Duration = Duration::from_mins(1);

/// How long after a fault the older part of the log is checked again.
const CHECK_AGAIN: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(30) };

/// How long requests that are being answered may still take when the service stops.
const GRACE: Duration = Duration::from_secs(10);

/// How long work on the token may still take after that. A kill would lose nothing, but cost someone a second try.
const LAST_WORK: Duration = Duration::from_secs(30);

/// How long it may take at the end to put the database into one file.
const CLOSING: Duration = Duration::from_secs(2);

/// The doors that are open: for the one who started the service to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDoors {
    /// Where HTTP listens: with the port that was given when the configured one was 0.
    pub http: SocketAddr,
    /// Where HTTPS listens.
    pub https: SocketAddr,
    /// The base URL for HTTP that goes into letters.
    pub http_url: String,
    /// The base URL for HTTPS that goes into letters.
    pub https_url: String,
}

/// Opens the authority and serves until `stop`. `announce` is called once, when both doors are open. Blocks; returns
/// when requests under way are answered (or have had their time).
///
/// # Errors
/// [`ServiceError`]: an address in use, a token or a database that cannot be opened. Nothing is announced then.
pub fn serve(
    configuration: Configuration,
    pin: Pin,
    announce: impl FnOnce(&OpenDoors),
    stop: Stop,
) -> Result<(), ServiceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tokenkeep-door")
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()
        .map_err(ServiceError::Runtime)?;
    let result = runtime.block_on(async {
        // The doors first: whoever is to be told that a port is taken need not wait for a token, nor does it cost a try.
        let listen = configuration.listen.clone();
        let file = configuration.file.clone();
        let http = bind("http", listen.http, &file).await?;
        let https = bind("https", listen.https, &file).await?;
        let doors = open_doors(&http, &https, &listen)?;
        let control = configuration.control_socket();
        let authority =
            tokio::task::spawn_blocking(move || Authority::open(configuration, &pin, Timestamp::now())).await??;
        // Last: who owns the token and the database is told better by them.
        let control = ControlSocket::bind(&control)?;
        authority.set_public_urls(&doors.http_url, &doors.https_url);
        let tls = tls::server_config(authority.tls_identity())?;
        let stop = stop.listen().map_err(ServiceError::Runtime)?;
        announce(&doors);
        // A service manager that waits for it (systemd, Type=notify) starts what needs the authority after this.
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell the service manager that the authority is ready");
        }
        run(Arc::new(authority), &listen, (http, https, control), tls, stop).await
    });
    // What is still at work has had its time.
    runtime.shutdown_background();
    result
}

/// Serves both doors and the control socket until `stop`, and finishes what is under way unless `stop` comes again.
///
/// # Errors
/// [`ServiceError::Authority`]: older entries of the log do not hold. Nothing more is served then.
async fn run(
    office: Arc<dyn Office>,
    listen: &ListenConfiguration,
    (http, https, control): (TcpListener, TcpListener, ControlSocket),
    tls: Arc<rustls::ServerConfig>,
    mut stop: Listening,
) -> Result<(), ServiceError> {
    let workers = BlockingPool::new();
    let budget = Arc::new(Budget::new());
    let (closing, closed) = watch::channel(false);
    let routes = routes::Routes::new(office.clone(), workers.clone(), budget.clone(), listen.certificate_search);
    let admission = Admission::new(budget, listen.proxies.clone());
    let doors = [
        tokio::spawn(connection::accept(http, None, routes.http(), admission.clone(), closed.clone())),
        tokio::spawn(connection::accept(https, Some(tls), routes.https(), admission, closed.clone())),
        tokio::spawn(control.accept(routes.control(), closed.clone())),
    ];
    let checking = fault_in_older_log(office.clone());
    let sweeping = tokio::spawn(sweep(office.clone(), closed));
    let fault = tokio::select! {
        () = stop.requested() => None,
        fault = checking => Some(fault),
    };
    tracing::info!("stopping: no new requests are taken");
    // Nobody listens any more only when everything has stopped already.
    let _ = closing.send(true);
    let finish = async {
        for door in doors {
            let _ = door.await;
        }
        if tokio::time::timeout(LAST_WORK, workers.idle()).await.is_err() {
            tracing::warn!("stopping although the token is still at work");
        }
    };
    tokio::select! {
        () = finish => {}
        () = stop.requested() => tracing::warn!("stopping at once"),
    }
    sweeping.abort();
    match tokio::time::timeout(CLOSING, tokio::task::spawn_blocking(move || office.close())).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "a part of the database stays beside it"),
        Ok(Err(_)) | Err(_) => tracing::warn!("a part of the database may stay beside it"),
    }
    fault.map_or(Ok(()), Err)
}

/// Comes to an end only if the log's older entries do not hold. Another fault (a database that another program has locked,
/// a token that does not answer) says nothing of the log: it is checked again after a while.
async fn fault_in_older_log(office: Arc<dyn Office>) -> ServiceError {
    loop {
        let office = office.clone();
        match tokio::task::spawn_blocking(move || office.check_older_log()).await {
            Ok(Ok(())) => return std::future::pending().await,
            Ok(Err(error @ AuthorityError::Log { .. })) => {
                tracing::error!(%error, "the older part of the audit log was checked");
                return error.into();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, again = ?CHECK_AGAIN, "cannot check the older part of the audit log now");
            }
            Err(error) => tracing::error!(%error, again = ?CHECK_AGAIN, "the check of the audit log broke off"),
        }
        tokio::time::sleep(CHECK_AGAIN).await;
    }
}

/// Asks the authority every minute to give up what was not confirmed in time.
async fn sweep(office: Arc<dyn Office>, mut closed: watch::Receiver<bool>) {
    let mut minute = tokio::time::interval(SWEEP);
    minute.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once, and the authority has swept when it was opened.
    minute.tick().await;
    loop {
        tokio::select! {
            () = stop::closing(&mut closed) => return,
            _ = minute.tick() => {}
        }
        let office = office.clone();
        match tokio::task::spawn_blocking(move || office.sweep(Timestamp::now())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(ended)) => tracing::info!(ended, "gave up transactions that were not confirmed in time"),
            Ok(Err(error)) => tracing::error!(%error, "cannot sweep"),
            Err(error) => tracing::error!(%error, "the sweep broke off"),
        }
    }
}

async fn bind(door: &'static str, address: SocketAddr, file: &std::path::Path) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServiceError::AddressInUse { door, address, file: file.to_owned() },
        _ => ServiceError::Listen { door, address, file: file.to_owned(), source },
    })
}

/// Where the doors are, and the URLs of them: the configured ones, else those of the addresses that were bound.
fn open_doors(
    http: &TcpListener,
    https: &TcpListener,
    listen: &ListenConfiguration,
) -> Result<OpenDoors, ServiceError> {
    let http = http.local_addr().map_err(ServiceError::Runtime)?;
    let https = https.local_addr().map_err(ServiceError::Runtime)?;
    for (key, bound, configured) in
        [("public_url", http, &listen.public_url), ("public_https_url", https, &listen.public_https_url)]
    {
        if bound.ip().is_unspecified() && configured.is_none() {
            tracing::warn!("letters will name {bound}, where nobody can go: set {key} in the configuration");
        }
    }
    let url = |configured: &Option<String>, scheme, bound: SocketAddr| {
        configured.as_ref().map_or_else(|| format!("{scheme}://{bound}"), |url| url.trim_end_matches('/').to_owned())
    };
    let http_url = url(&listen.public_url, "http", http);
    let secure = url(&listen.public_https_url, "https", https);
    Ok(OpenDoors { http, https, http_url, https_url: secure })
}

#[cfg(test)]
mod tests;
