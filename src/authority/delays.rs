//! Delays the replies to wrong temporary keys by source address. A reference is never locked:
//! otherwise anybody could block anybody's enrollment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The delay after a source's first failure; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The time without failures after which a source is forgotten.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// The maximum number of remembered sources; the oldest one is evicted.
const MAX_SOURCES: usize = 10_000;

/// The number of failures and the time of the last one, by source address.
#[derive(Debug, Default)]
pub(super) struct GuessDelays(Mutex<HashMap<IpAddr, (u32, Timestamp)>>);

impl GuessDelays {
    /// Counts a failure and returns the delay of its reply.
    pub(super) fn after_failure(&self, source: IpAddr, now: Timestamp) -> Duration {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network_of(source);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, (_, last)| now.duration_since(*last) < FORGET_AFTER);
            if sources.len() >= MAX_SOURCES
                && let Some(oldest) = sources.iter().min_by_key(|(_, (_, last))| *last).map(|(source, _)| *source)
            {
                sources.remove(&oldest);
            }
        }
        let (failures, last) = sources.entry(source).or_insert((0, now));
        if now.duration_since(*last) >= FORGET_AFTER {
            *failures = 0;
        }
        *failures = failures.saturating_add(1);
        *last = now;
        FIRST_DELAY.saturating_mul(1 << (*failures - 1).min(10)).min(MAX_DELAY)
    }
}

/// Reduces an IPv6 address to its /64, which one customer usually has as a whole.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn each_failure_of_a_source_doubles_its_delay_up_to_a_bound() {
        let delays = GuessDelays::default();
        let source = "192.0.2.1".parse().unwrap();
        assert_eq!(delays.after_failure(source, now()), FIRST_DELAY);
        assert_eq!(delays.after_failure(source, now()), FIRST_DELAY * 2);
        assert_eq!((0..100).map(|_| delays.after_failure(source, now())).last(), Some(MAX_DELAY));
        assert_eq!(delays.after_failure("192.0.2.2".parse().unwrap(), now()), FIRST_DELAY, "another source");
        assert_eq!(delays.after_failure(source, now() + FORGET_AFTER), FIRST_DELAY, "forgotten");
    }

    #[test]
    fn a_source_is_a_64_bit_network_and_memory_is_bounded() {
        let delays = GuessDelays::default();
        delays.after_failure("2001:db8::1".parse().unwrap(), now());
        assert_eq!(delays.after_failure("2001:db8::2".parse().unwrap(), now()), FIRST_DELAY * 2);
        for source in 0..u32::try_from(MAX_SOURCES + 10).unwrap() {
            delays.after_failure(IpAddr::V4(source.into()), now());
        }
        assert!(delays.0.lock().unwrap().len() <= MAX_SOURCES);
    }
}
