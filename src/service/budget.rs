//! A work budget for each source: it limits the work that unauthenticated clients can cause.
//!
//! One unit is about one round of PBKDF2 with SHA-256 (about 0.3 µs of a core). Connections,
//! requests, bytes and signatures of the token are counted in the same unit. Every source has its
//! own token bucket, which refills with time, so a flood from some addresses spends only the budget
//! of these addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::connection_limit::{lock, network};
use super::limits;

/// The buckets of all recently active sources.
pub(super) struct Budget {
    sources: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: u64,
    at: Instant,
}

/// The error of a source without enough budget, with the time until it has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BudgetExhausted {
    pub(super) retry_after: Duration,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { sources: Mutex::default() }
    }

    /// Takes `cost` units from the source's budget and returns the rest. Takes nothing if the
    /// budget is too small.
    pub(super) fn take(&self, source: IpAddr, cost: u64, now: Instant) -> Result<u64, BudgetExhausted> {
        let source = network(source);
        let mut sources = lock(&self.sources);
        if sources.len() >= limits::MAX_TRACKED_SOURCES && !sources.contains_key(&source) {
            evict_idle_sources(&mut sources, now);
        }
        let bucket = sources.entry(source).or_insert(Bucket { left: limits::BUDGET_CAPACITY, at: now });
        bucket.refill(now);
        let Some(left) = bucket.left.checked_sub(cost) else {
            let missing = cost.min(limits::BUDGET_CAPACITY).saturating_sub(bucket.left);
            let retry_after = Duration::from_secs(missing.div_ceil(limits::BUDGET_PER_SECOND).max(1));
            return Err(BudgetExhausted { retry_after });
        };
        bucket.left = left;
        Ok(left)
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let micros = u64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(u64::MAX);
        let earned = micros.saturating_mul(limits::BUDGET_PER_SECOND) / 1_000_000;
        // Fractions of a unit are not lost: the clock keeps running until it has earned one.
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(limits::BUDGET_CAPACITY);
            self.at = now;
        }
    }
}

/// Forgets sources with a full bucket, which do not differ from new ones. If there is none, forgets
/// the source with the fullest bucket.
fn evict_idle_sources(sources: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    sources.retain(|_, bucket| {
        bucket.refill(now);
        bucket.left < limits::BUDGET_CAPACITY
    });
    if sources.len() >= limits::MAX_TRACKED_SOURCES
        && let Some(fullest) = sources.iter().max_by_key(|(_, bucket)| bucket.left).map(|(source, _)| *source)
    {
        sources.remove(&fullest);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_source_that_has_spent_its_budget_takes_nothing_from_others() {
        let budget = Budget::new();
        let start = Instant::now();
        assert_eq!(budget.take(ONE, limits::BUDGET_CAPACITY, start), Ok(0));
        let spent = budget.take(ONE, limits::BUDGET_PER_SECOND * 3, start).unwrap_err();
        assert_eq!(spent.retry_after, Duration::from_secs(3));
        assert_eq!(budget.take(OTHER, 1, start), Ok(limits::BUDGET_CAPACITY - 1));
    }

    #[test]
    fn the_budget_refills_up_to_its_capacity() {
        let budget = Budget::new();
        let start = Instant::now();
        budget.take(ONE, limits::BUDGET_CAPACITY, start).unwrap();
        assert!(budget.take(ONE, limits::BUDGET_PER_SECOND, start + Duration::from_millis(999)).is_err());
        assert_eq!(budget.take(ONE, limits::BUDGET_PER_SECOND, start + Duration::from_secs(1)), Ok(0));
        let later = start + Duration::from_hours(24);
        assert_eq!(budget.take(ONE, limits::BUDGET_CAPACITY, later), Ok(0));
        assert!(budget.take(ONE, 1, later).is_err());
    }

    #[test]
    fn a_network_of_64_bits_has_one_budget() {
        let budget = Budget::new();
        let start = Instant::now();
        budget.take("2001:db8::1".parse().unwrap(), limits::BUDGET_CAPACITY, start).unwrap();
        assert!(budget.take("2001:db8::ffff:2".parse().unwrap(), 1, start).is_err());
        assert!(budget.take("2001:db8:0:1::1".parse().unwrap(), 1, start).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_heaviest_source_is_kept() {
        let budget = Budget::new();
        let start = Instant::now();
        budget.take(ONE, limits::BUDGET_CAPACITY, start).unwrap();
        for i in 0..limits::MAX_TRACKED_SOURCES + 50 {
            let source = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(i).unwrap()));
            budget.take(source, 1_000, start).unwrap();
        }
        assert!(lock(&budget.sources).len() <= limits::MAX_TRACKED_SOURCES);
        assert!(budget.take(ONE, 1, start).is_err());
    }
}
