//! Logs refusals. A client can cause any number of them, so only some lines a minute are written
//! and the others counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SshError;
use crate::agent::PeerProcess;

/// Maximum number of lines within [`INTERVAL`], for all clients together, because a client may
/// reconnect for each request.
const MAX_LINES: u32 = 20;

const INTERVAL: Duration = Duration::from_mins(1);

/// Maximum length of a message in characters, because some repeat what the client sent.
const MAX_CHARS: usize = 500;

/// The counter of this process.
static RATE_LIMITER: Mutex<RateLimiter> =
    Mutex::new(RateLimiter { began: None, written: 0, has_summary: false, suppressed: 0 });

/// Counts the lines of the current interval.
#[derive(Debug, Default)]
struct RateLimiter {
    began: Option<Instant>,
    written: u32,
    has_summary: bool,
    /// refusals that were neither logged nor counted in a line
    suppressed: u64,
}

impl RateLimiter {
    /// Returns whether to write a line, and how many earlier refusals to report first.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut suppressed = 0;
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= INTERVAL) {
            suppressed = self.suppressed;
            *self = Self { began: Some(now), ..Self::default() };
        }
        let is_written = self.written < MAX_LINES;
        if is_written {
            self.written += 1;
        } else {
            self.suppressed += 1;
        }
        (is_written, suppressed)
    }

    /// The number to report when a connection closes, once in an interval.
    fn log_suppressed(&mut self) -> u64 {
        if self.suppressed == 0 || self.has_summary {
            return 0;
        }
        self.has_summary = true;
        std::mem::take(&mut self.suppressed)
    }
}

/// Logs one line for users whose program was refused, because the program itself cannot report the
/// reason.
pub(super) fn note(refusal: &SshError, peer: PeerProcess) {
    match refusal {
        // Clients probe for extensions and continue without them.
        SshError::UnknownMessage(_) | SshError::UnknownExtension(_) => {
            tracing::debug!(peer.pid, "refused an SSH client: {}", shortened(refusal));
        }
        // The person who declined already knows.
        SshError::Keystore(error) if error.is_cancelled() => {
            if tracing::enabled!(tracing::Level::INFO) && admit_line() {
                tracing::info!(peer.pid, "refused an SSH client: {}", shortened(refusal));
            }
        }
        _ => {
            if admit_line() {
                tracing::warn!(peer.pid, "refused an SSH client: {}", shortened(refusal));
            }
        }
    }
}

/// Reports the suppressed refusals when a connection closes.
pub(super) fn log_suppressed() {
    let suppressed = rate_limiter().log_suppressed();
    write_summary(suppressed);
}

fn admit_line() -> bool {
    let (is_written, suppressed) = rate_limiter().admit(Instant::now());
    write_summary(suppressed);
    is_written
}

fn write_summary(suppressed: u64) {
    if suppressed > 0 {
        tracing::warn!("… and {suppressed} more refusals: at most {MAX_LINES} lines a minute are written");
    }
}

fn shortened(refusal: &SshError) -> String {
    let text = refusal.to_string();
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn rate_limiter() -> MutexGuard<'static, RateLimiter> {
    RATE_LIMITER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_interval_are_logged_the_rest_counted() {
        let mut rate_limiter = RateLimiter::default();
        let began = Instant::now();
        let refused = |rate_limiter: &mut RateLimiter, after: u64, times: u64| {
            let admitted: Vec<_> = (0..times).map(|_| rate_limiter.admit(began + Duration::from_secs(after))).collect();
            let written = admitted.iter().filter(|(is_written, _)| *is_written).count();
            (written, admitted.iter().map(|(_, suppressed)| suppressed).sum::<u64>())
        };
        assert_eq!(refused(&mut rate_limiter, 0, 5), (5, 0));
        assert_eq!(rate_limiter.log_suppressed(), 0, "all of them were logged");
        assert_eq!(refused(&mut rate_limiter, 59, 100), (15, 0));
        assert_eq!(rate_limiter.log_suppressed(), 85);
        // Closed connections are as cheap for a client as refusals.
        for _ in 0..3 {
            assert_eq!(refused(&mut rate_limiter, 59, 1), (0, 0));
            assert_eq!(rate_limiter.log_suppressed(), 0);
        }
        assert_eq!(refused(&mut rate_limiter, 60, 21), (20, 3), "of the interval before");
        assert_eq!(refused(&mut rate_limiter, 200, 1), (1, 1));
        assert_eq!(rate_limiter.log_suppressed(), 0);
    }

    #[test]
    fn long_text_of_a_client_is_shortened_in_the_log() {
        let text = shortened(&SshError::UnknownExtension("ß".repeat(100_000)));
        assert!(text.chars().count() == MAX_CHARS + 1 && text.ends_with("ß…"), "{text}");
        assert!(!shortened(&SshError::NoSuchKey).contains('…'));
    }
}
