//! Stopping the service: by a signal or by the caller.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

/// The event that stops the service.
#[derive(Debug)]
pub struct ShutdownSignal(Trigger);

#[derive(Debug)]
enum Trigger {
    Signal,
    Handle(Arc<Notify>),
}

/// Stops the service that it belongs to.
#[derive(Debug, Clone)]
pub struct ShutdownHandle(Arc<Notify>);

impl ShutdownSignal {
    /// Stops at SIGTERM or SIGINT; a second signal does not wait for running requests.
    pub fn on_signal() -> Self {
        Self(Trigger::Signal)
    }

    /// Stops when the returned handle is used.
    pub fn on_request() -> (ShutdownHandle, Self) {
        let notify = Arc::new(Notify::new());
        (ShutdownHandle(notify.clone()), Self(Trigger::Handle(notify)))
    }

    /// Starts listening: from here on, signals no longer end the process by themselves.
    pub(super) fn listen(self) -> std::io::Result<ShutdownListener> {
        Ok(match self.0 {
            Trigger::Handle(notify) => ShutdownListener::Handle(notify),
            Trigger::Signal => {
                ShutdownListener::Signals(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
            }
        })
    }
}

/// Waits for the stop event.
pub(super) enum ShutdownListener {
    Signals(Signal, Signal),
    Handle(Arc<Notify>),
}

impl ShutdownListener {
    /// Waits for the next stop event; a second call waits for the event that stops at once.
    pub(super) async fn wait(&mut self) {
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

impl ShutdownHandle {
    /// Stops the service after running requests are answered. A second call stops it at once.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Waits until the listeners close.
pub(super) async fn wait_for_close(state: &mut watch::Receiver<bool>) {
    // A dropped sender counts as closing.
    let _ = state.wait_for(|closing| *closing).await;
}
