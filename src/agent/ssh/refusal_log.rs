//! Logs refusals. A client can cause any number of them, so only some lines a minute are written
//! and the others counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Peer, Refusal};

/// Maximum number of lines within [`WHILE`], for all clients together, because a client may
/// reconnect for each request.
const MOST: u32 = 20;

const WHILE: Duration = Duration::from_mins(1);

/// Maximum length of a message in characters, because some repeat what the client sent.
const LONGEST: usize = 500;

/// The counter of this process.
static TALLY: Mutex<Tally> = Mutex::new(Tally { began: None, written: 0, summed_up: false, untold: 0 });

/// Counts the lines of the current interval.
#[derive(Debug, Default)]
struct Tally {
    began: Option<Instant>,
    written: u32,
    summed_up: bool,
    /// refusals that were neither logged nor counted in a line
    untold: u64,
}

impl Tally {
    /// Returns whether to write a line, and how many earlier refusals to report first.
    fn admits(&mut self, now: Instant) -> (bool, u64) {
        let mut untold = 0;
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= WHILE) {
            untold = self.untold;
            *self = Self { began: Some(now), ..Self::default() };
        }
        let is_written = self.written < MOST;
        if is_written {
            self.written += 1;
        } else {
            self.untold += 1;
        }
        (is_written, untold)
    }

    /// The number to report when a connection closes, once in an interval.
    fn sum_up(&mut self) -> u64 {
        if self.untold == 0 || self.summed_up {
            return 0;
        }
        self.summed_up = true;
        std::mem::take(&mut self.untold)
    }
}

/// Logs one line for users whose program was refused, because the program itself cannot report the
/// reason.
pub(super) fn note(refusal: &Refusal, peer: Peer) {
    match refusal {
        // Clients probe for extensions and continue without them.
        Refusal::UnknownMessage(_) | Refusal::UnknownExtension(_) => {
            tracing::debug!(peer.pid, "refused an SSH client: {}", shortened(refusal));
        }
        // The person who declined already knows.
        Refusal::Keystore(error) if error.is_cancelled() => {
            if tracing::enabled!(tracing::Level::INFO) && is_written() {
                tracing::info!(peer.pid, "refused an SSH client: {}", shortened(refusal));
            }
        }
        _ => {
            if is_written() {
                tracing::warn!(peer.pid, "refused an SSH client: {}", shortened(refusal));
            }
        }
    }
}

/// Reports the suppressed refusals when a connection closes.
pub(super) fn sum_up() {
    let untold = tally().sum_up();
    say(untold);
}

fn is_written() -> bool {
    let (is_written, untold) = tally().admits(Instant::now());
    say(untold);
    is_written
}

fn say(untold: u64) {
    if untold > 0 {
        tracing::warn!("… and {untold} more refusals: at most {MOST} lines a minute are written");
    }
}

fn shortened(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn tally() -> MutexGuard<'static, Tally> {
    TALLY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_while_the_first_are_written_and_all_others_told_as_a_number() {
        let mut tally = Tally::default();
        let began = Instant::now();
        let refused = |tally: &mut Tally, after: u64, times: u64| {
            let told: Vec<_> = (0..times).map(|_| tally.admits(began + Duration::from_secs(after))).collect();
            let written = told.iter().filter(|(is_written, _)| *is_written).count();
            (written, told.iter().map(|(_, untold)| untold).sum::<u64>())
        };
        assert_eq!(refused(&mut tally, 0, 5), (5, 0));
        assert_eq!(tally.sum_up(), 0, "all of them were logged");
        assert_eq!(refused(&mut tally, 59, 100), (15, 0));
        assert_eq!(tally.sum_up(), 85);
        // Closed connections are as cheap for a client as refusals.
        for _ in 0..3 {
            assert_eq!(refused(&mut tally, 59, 1), (0, 0));
            assert_eq!(tally.sum_up(), 0);
        }
        assert_eq!(refused(&mut tally, 60, 21), (20, 3), "of the interval before");
        assert_eq!(refused(&mut tally, 200, 1), (1, 1));
        assert_eq!(tally.sum_up(), 0);
    }

    #[test]
    fn what_a_client_has_said_is_not_repeated_at_length() {
        let text = shortened(&Refusal::UnknownExtension("ß".repeat(100_000)));
        assert!(text.chars().count() == LONGEST + 1 && text.ends_with("ß…"), "{text}");
        assert!(!shortened(&Refusal::NoSuchKey).contains('…'));
    }
}
