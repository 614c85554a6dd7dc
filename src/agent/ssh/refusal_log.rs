//! The log's lines about refusals, of which a client can cause as many as it likes: a few in a minute are written, and the
//! others counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Peer, Refusal};

/// How many are written within [`WHILE`], of all clients together: one that is refused often connects anew for each.
const MOST: u32 = 20;

const WHILE: Duration = Duration::from_mins(1);

/// The most characters of a sentence: some repeat what the client has said.
const LONGEST: usize = 500;

/// This process's.
static TALLY: Mutex<Tally> = Mutex::new(Tally { began: None, written: 0, summed_up: false, untold: 0 });

/// What was written since a while began.
#[derive(Debug, Default)]
struct Tally {
    began: Option<Instant>,
    written: u32,
    summed_up: bool,
    /// refused, and not in the log in any way
    untold: u64,
}

impl Tally {
    /// Is one more written? And how many before it were refused, and are to be told of first.
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

    /// How many are to be told of when a connection has ended: once in a while, too.
    fn sum_up(&mut self) -> u64 {
        if self.untold == 0 || self.summed_up {
            return 0;
        }
        self.summed_up = true;
        std::mem::take(&mut self.untold)
    }
}

/// One line, where somebody finds it who wonders why their program was refused: that program cannot say it.
pub(super) fn note(refusal: &Refusal, peer: Peer) {
    match refusal {
        // Clients try what an agent may know, and go on without it.
        Refusal::UnknownMessage(_) | Refusal::UnknownExtension(_) => {
            tracing::debug!(peer.pid, "refused an SSH client: {}", shortened(refusal));
        }
        // Whoever said no knows it.
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

/// A connection has ended: says how many were refused without a line.
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
        tracing::warn!("… and {untold} more were refused: no more than {MOST} in a minute have lines of their own");
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
        assert_eq!(tally.sum_up(), 0, "all of them have their lines");
        assert_eq!(refused(&mut tally, 59, 100), (15, 0));
        assert_eq!(tally.sum_up(), 85);
        // Connections that end are as cheap as refusals.
        for _ in 0..3 {
            assert_eq!(refused(&mut tally, 59, 1), (0, 0));
            assert_eq!(tally.sum_up(), 0);
        }
        assert_eq!(refused(&mut tally, 60, 21), (20, 3), "of the while before");
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
