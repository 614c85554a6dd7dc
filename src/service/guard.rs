//! Who may come in, how often, and how many at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits;

/// Counts connections, all of them and those of each source.
#[derive(Clone)]
pub(super) struct Guard {
    places: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that was let in; its place is free again when this is dropped.
pub(super) struct Admission {
    source: IpAddr,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _place: OwnedSemaphorePermit,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(limits::CONNECTIONS)), sources: Arc::default() }
    }

    /// Lets a connection in, unless there are too many, or too many of its source.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Admission> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let source = network(source);
        let mut sources = lock(&self.sources);
        let count = sources.entry(source).or_default();
        if *count >= limits::CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        drop(sources);
        Some(Admission { source, sources: self.sources.clone(), _place: place })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut sources = lock(&self.sources);
        if let Some(count) = sources.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// The threads on which the authority works, and the queue before them.
#[derive(Clone)]
pub(super) struct Workers {
    queue: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// Why the authority did not get to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotDone {
    /// Too many are waiting, or it has waited too long.
    Busy,
    /// The work broke off: a fault of ours.
    BrokeOff,
}

impl Workers {
    pub(super) fn new() -> Self {
        Self::with(limits::WORKERS, limits::WAITING)
    }

    fn with(working: usize, waiting: usize) -> Self {
        Self { queue: Arc::new(Semaphore::new(working + waiting)), working: Arc::new(Semaphore::new(working)) }
    }

    /// Does what blocks on a thread of its own. What is begun is finished, whether or not someone still waits for it.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotDone> {
        let place = self.queue.clone().try_acquire_owned().map_err(|_| NotDone::Busy)?;
        let turn = tokio::time::timeout(limits::WAITING_TIME, self.working.clone().acquire_owned())
            .await
            .map_err(|_| NotDone::Busy)?
            .map_err(|_| NotDone::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a request's work broke off");
            NotDone::BrokeOff
        })
    }

    /// Waits until nothing is being worked on.
    pub(super) async fn idle(&self) {
        // Closed is as good as idle.
        let _ = self.working.acquire_many(u32::try_from(limits::WORKERS).unwrap_or(u32::MAX)).await;
    }
}

/// Lets each source search now and then.
pub(super) struct SearchLimit {
    sources: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: u32,
    since: Instant,
}

impl SearchLimit {
    pub(super) fn new() -> Self {
        Self { sources: Mutex::default() }
    }

    /// Takes one search of this source's; otherwise says how long until there is one again.
    pub(super) fn take(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut sources = lock(&self.sources);
        if sources.len() >= limits::SOURCES && !sources.contains_key(&network(source)) {
            // Whoever has all searches left is not different from someone who never came.
            sources.retain(|_, bucket| bucket.refilled(now) < limits::SEARCHES);
            if sources.len() >= limits::SOURCES {
                return Err(limits::SEARCH_EVERY);
            }
        }
        let bucket = sources.entry(network(source)).or_insert(Bucket { left: limits::SEARCHES, since: now });
        let left = bucket.refilled(now);
        if left > bucket.left {
            // The time that did not make a whole search is kept only while the bucket is not full.
            let earned = limits::SEARCH_EVERY * (left - bucket.left);
            bucket.since = if left == limits::SEARCHES { now } else { bucket.since + earned };
        }
        if left == 0 {
            return Err(limits::SEARCH_EVERY.saturating_sub(now.saturating_duration_since(bucket.since)));
        }
        if left == limits::SEARCHES {
            bucket.since = now;
        }
        bucket.left = left - 1;
        Ok(())
    }
}

impl Bucket {
    fn refilled(&self, now: Instant) -> u32 {
        let earned = now.saturating_duration_since(self.since).as_millis() / limits::SEARCH_EVERY.as_millis().max(1);
        self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(limits::SEARCHES)
    }
}

/// Whom an address belongs to: an IPv4 address also in its IPv6 form, and a whole /64, which is one host's to choose in.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A count that someone left behind while panicking is still a count.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_source_cannot_take_all_connections() {
        let guard = Guard::new();
        let mut held: Vec<Admission> = (0..limits::CONNECTIONS_OF_ONE).map(|_| guard.admit(ONE).unwrap()).collect();
        assert!(guard.admit(ONE).is_none());
        assert!(guard.admit(OTHER).is_some());
        held.pop();
        assert!(guard.admit(ONE).is_some());
        drop(held);
        assert!(lock(&guard.sources).is_empty(), "whoever has gone is forgotten");
    }

    #[test]
    fn all_together_cannot_have_more_than_there_are() {
        let guard = Guard::new();
        let source = |i: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(i).unwrap()));
        let _held: Vec<Admission> = (0..limits::CONNECTIONS).map(|i| guard.admit(source(i)).unwrap()).collect();
        assert!(guard.admit(OTHER).is_none());
    }

    #[test]
    fn searches_run_out_and_come_back_one_by_one() {
        let limit = SearchLimit::new();
        let start = Instant::now();
        for _ in 0..limits::SEARCHES {
            assert_eq!(limit.take(ONE, start), Ok(()));
        }
        assert_eq!(limit.take(ONE, start), Err(limits::SEARCH_EVERY));
        assert_eq!(limit.take(OTHER, start), Ok(()));
        let later = start + limits::SEARCH_EVERY + Duration::from_secs(1);
        assert_eq!(limit.take(ONE, later), Ok(()));
        assert_eq!(limit.take(ONE, later), Err(Duration::from_secs(2)), "time is not lost");
        let much_later = later + Duration::from_hours(24);
        for _ in 0..limits::SEARCHES {
            assert_eq!(limit.take(ONE, much_later), Ok(()));
        }
        assert!(limit.take(ONE, much_later).is_err(), "rest is not saved up");
    }

    #[test]
    fn sources_that_rest_are_forgotten_and_those_that_do_not_keep_others_out() {
        let limit = SearchLimit::new();
        let start = Instant::now();
        for i in 0..limits::SOURCES {
            let source = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(i).unwrap()));
            assert_eq!(limit.take(source, start), Ok(()));
        }
        assert!(limit.take(OTHER, start).is_err());
        assert_eq!(limit.take(OTHER, start + limits::SEARCH_EVERY), Ok(()));
        assert_eq!(lock(&limit.sources).len(), 1);
    }

    #[test]
    fn a_network_is_one_source() {
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let two: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let far: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(network(one), network(two));
        assert_ne!(network(one), network(far));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), ONE);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_is_bounded_and_the_queue_too() {
        let workers = Workers::with(1, 1);
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(move || blocked.recv().is_ok()).await }
        });
        while workers.working.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(|| 2).await }
        });
        while workers.queue.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.run(|| 3).await, Err(NotDone::Busy));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        assert_eq!(second.await.unwrap(), Ok(2));
        assert_eq!(workers.run(|| 4).await, Ok(4));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_panics_gives_its_place_back() {
        let workers = Workers::with(1, 0);
        assert_eq!(workers.run(|| panic!("a fault")).await, Err::<(), _>(NotDone::BrokeOff));
        assert_eq!(workers.run(|| 1).await, Ok(1));
    }
}
