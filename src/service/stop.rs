//! When the service is to stop: a signal, or whoever started it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

/// When to stop.
#[derive(Debug)]
pub struct Stop(Reason);

#[derive(Debug)]
enum Reason {
    Signal,
    Handle(Arc<Notify>),
}

/// Stops the service it belongs to.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<Notify>);

impl Stop {
    /// At SIGTERM or SIGINT.
    pub fn on_signal() -> Self {
        Self(Reason::Signal)
    }

    /// When the handle says so.
    pub fn on_request() -> (StopHandle, Self) {
        let notify = Arc::new(Notify::new());
        (StopHandle(notify.clone()), Self(Reason::Handle(notify)))
    }

    /// Waits until it is time.
    pub(super) async fn requested(self) {
        match self.0 {
            Reason::Handle(notify) => notify.notified().await,
            Reason::Signal => match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(mut terminate), Ok(mut interrupt)) => {
                    tokio::select! {
                        _ = terminate.recv() => tracing::info!("SIGTERM"),
                        _ = interrupt.recv() => tracing::info!("SIGINT"),
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    // Signals then end the process by themselves, and nothing is lost by that.
                    tracing::error!(%error, "cannot wait for signals");
                    std::future::pending::<()>().await;
                }
            },
        }
    }
}

impl StopHandle {
    /// Stops the service: requests under way are still answered.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Waits until the doors are being closed.
pub(super) async fn closing(state: &mut watch::Receiver<bool>) {
    // Whoever could close them has gone: as good as closed.
    let _ = state.wait_for(|closing| *closing).await;
}
