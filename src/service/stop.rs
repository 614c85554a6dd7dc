//! When the service is to stop: a signal, or whoever started it.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
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
    /// At SIGTERM or SIGINT; a second one does not wait for requests under way.
    pub fn on_signal() -> Self {
        Self(Reason::Signal)
    }

    /// When the handle says so.
    pub fn on_request() -> (StopHandle, Self) {
        let notify = Arc::new(Notify::new());
        (StopHandle(notify.clone()), Self(Reason::Handle(notify)))
    }

    /// Begins to listen: from here on, signals no longer end the process by themselves.
    pub(super) fn listen(self) -> std::io::Result<Listening> {
        Ok(match self.0 {
            Reason::Handle(notify) => Listening::Handle(notify),
            Reason::Signal => Listening::Signals(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?),
        })
    }
}

/// Hears when to stop.
pub(super) enum Listening {
    Signals(Signal, Signal),
    Handle(Arc<Notify>),
}

impl Listening {
    /// Waits until it is time; asked again, until someone is impatient.
    pub(super) async fn requested(&mut self) {
        match self {
            Self::Handle(notify) => notify.notified().await,
            Self::Signals(terminate, interrupt) => {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM"),
                    _ = interrupt.recv() => tracing::info!("SIGINT"),
                }
            }
        }
    }
}

impl StopHandle {
    /// Stops the service: requests under way are still answered. Called again: at once.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Waits until the doors are being closed.
pub(super) async fn closing(state: &mut watch::Receiver<bool>) {
    // Whoever could close them has gone: as good as closed.
    let _ = state.wait_for(|closing| *closing).await;
}
