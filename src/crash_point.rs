//! Points between two persistent steps at which a test can kill the process, to prove that nothing
//! is lost.
//!
//! Only builds with the feature `crash-points` have them (the crate's own tests enable it); in
//! released builds [`reached`] is empty. It must only kill the process: a test that it influences
//! otherwise proves nothing.

/// Kills this process with SIGKILL if the environment variable `TOKENKEEP_CRASH_AT` names this
/// point: `name`, or `name:N` for the N-th time that the process reaches it, counted from 1. An N
/// that is not a number silently means 1; `name:0` never kills.
#[cfg(feature = "crash-points")]
pub fn reached(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static TIMES: AtomicUsize = AtomicUsize::new(0);

    let Ok(wanted) = std::env::var("TOKENKEEP_CRASH_AT") else { return };
    let (name, time) = match wanted.split_once(':') {
        Some((name, time)) => (name, time.parse().unwrap_or(1)),
        None => (wanted.as_str(), 1),
    };
    if name == point && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == time {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn reached(_point: &str) {}
