//! Limits on the number of connections and on the rate of searches.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits;

/// Counts connections, in total and by source. When the total is reached and another source
/// connects, the limiter closes the connection that has been idle longest, of the source with the
/// largest share. So many sources with one slow connection each cannot lock others out.
#[derive(Clone, Default)]
pub(super) struct ConnectionLimiter(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    total: usize,
    sources: HashMap<IpAddr, SourceConnections>,
}

/// The open connections of one source.
struct SourceConnections {
    open: Vec<Arc<TrackedConnection>>,
    /// The connection limit of this source.
    most: usize,
}

/// An admitted connection.
pub(super) struct TrackedConnection {
    /// Whether a complete request is being answered: such a connection is not closed for others.
    is_busy: AtomicBool,
    /// The time since which no complete request has arrived.
    idle_since: Mutex<Instant>,
    must_close: Notify,
}

impl Default for TrackedConnection {
    fn default() -> Self {
        Self { is_busy: AtomicBool::default(), idle_since: Mutex::new(Instant::now()), must_close: Notify::default() }
    }
}

/// One connection's slot, released on drop.
pub(super) struct ConnectionPermit {
    source: IpAddr,
    connection: Arc<TrackedConnection>,
    limiter: ConnectionLimiter,
}

impl ConnectionLimiter {
    /// Admits a connection. Refuses it if its source already has `max_per_source`, or if the total
    /// is reached and no source with at least the same share has an idle connection.
    pub(super) fn admit(&self, source: IpAddr, max_per_source: usize) -> Option<ConnectionPermit> {
        let source = network(source);
        let mut connections = lock(&self.0);
        let own = connections.count(source);
        if own >= max_per_source {
            return None;
        }
        if connections.total >= limits::MAX_CONNECTIONS {
            connections.close_an_idle_one(share(own + 1, max_per_source))?;
        }
        let connection = Arc::new(TrackedConnection::default());
        connections.total += 1;
        let of_source =
            connections.sources.entry(source).or_insert(SourceConnections { open: Vec::new(), most: max_per_source });
        of_source.open.push(connection.clone());
        Some(ConnectionPermit { source, connection, limiter: self.clone() })
    }
}

impl Connections {
    fn count(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, |source| source.open.len())
    }

    /// Closes the connection that has been idle longest, of the source with the largest share that
    /// is at least `least` and has an idle connection. Its slot counts as free at once, even if its
    /// task ends later.
    fn close_an_idle_one(&mut self, least: usize) -> Option<()> {
        let idlest = |(source, of_source): (&IpAddr, &SourceConnections)| {
            let share = of_source.share();
            let idle = of_source.open.iter().enumerate().filter(|(_, connection)| connection.is_idle());
            let (at, since) =
                idle.map(|(at, connection)| (at, *lock(&connection.idle_since))).min_by_key(|(_, s)| *s)?;
            (share >= least).then_some((Reverse(share), since, *source, at))
        };
        let (_, _, source, at) = self.sources.iter().filter_map(idlest).min()?;
        self.sources.get_mut(&source)?.open.remove(at).must_close.notify_one();
        self.total -= 1;
        tracing::debug!(
            %source,
            "too many connections: closed the longest idle one of the source with the largest share"
        );
        Some(())
    }
}

impl SourceConnections {
    fn share(&self) -> usize {
        share(self.open.len(), self.most)
    }
}

/// The share of its limit that a source uses: a proxy, which carries the connections of many
/// people, may have more.
fn share(open: usize, most: usize) -> usize {
    open * limits::MAX_CONNECTIONS_PER_PROXY / most.max(1)
}

impl TrackedConnection {
    /// Marks the connection as busy while the returned guard lives, so that it is not closed for
    /// others.
    pub(super) fn mark_busy(self: &Arc<Self>) -> BusyGuard {
        self.is_busy.store(true, Ordering::Relaxed);
        BusyGuard(self.clone())
    }

    fn is_idle(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
    }
}

/// Marks a connection as busy; see [`TrackedConnection::mark_busy`].
pub(super) struct BusyGuard(Arc<TrackedConnection>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Instant::now();
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

impl ConnectionPermit {
    /// The permit's connection.
    pub(super) fn connection(&self) -> Arc<TrackedConnection> {
        self.connection.clone()
    }

    /// Returns when the connection must close to make room for another one.
    pub(super) async fn must_close(&self) {
        self.connection.must_close.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut connections = lock(&self.limiter.0);
        let Some(of_source) = connections.sources.get_mut(&self.source) else { return };
        let before = of_source.open.len();
        of_source.open.retain(|other| !Arc::ptr_eq(other, &self.connection));
        let is_counted = of_source.open.len() < before;
        if of_source.open.is_empty() {
            connections.sources.remove(&self.source);
        }
        connections.total -= usize::from(is_counted);
    }
}

/// Limits the rate of searches by source.
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

    /// Takes one search of this source; otherwise returns the time until the next one is available.
    pub(super) fn take(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut sources = lock(&self.sources);
        if sources.len() >= limits::MAX_TRACKED_SOURCES && !sources.contains_key(&network(source)) {
            // A source with all searches left does not differ from a new one.
            sources.retain(|_, bucket| bucket.refilled(now) < limits::SEARCH_BURST);
            if sources.len() >= limits::MAX_TRACKED_SOURCES {
                return Err(limits::SEARCH_REFILL_INTERVAL);
            }
        }
        let bucket = sources.entry(network(source)).or_insert(Bucket { left: limits::SEARCH_BURST, since: now });
        let left = bucket.refilled(now);
        if left > bucket.left {
            // The time towards the next search counts only while the bucket is not full.
            let earned = limits::SEARCH_REFILL_INTERVAL * (left - bucket.left);
            bucket.since = if left == limits::SEARCH_BURST { now } else { bucket.since + earned };
        }
        if left == 0 {
            return Err(limits::SEARCH_REFILL_INTERVAL.saturating_sub(now.saturating_duration_since(bucket.since)));
        }
        if left == limits::SEARCH_BURST {
            bucket.since = now;
        }
        bucket.left = left - 1;
        Ok(())
    }
}

impl Bucket {
    fn refilled(&self, now: Instant) -> u32 {
        let earned =
            now.saturating_duration_since(self.since).as_millis() / limits::SEARCH_REFILL_INTERVAL.as_millis().max(1);
        self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(limits::SEARCH_BURST)
    }
}

/// The network that counts as one source: an IPv4-mapped address as the IPv4 address, and an IPv6
/// address as its /64, within which one host can choose.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Locks the mutex even if a thread panicked while holding it: a counter stays usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn admit(limiter: &ConnectionLimiter, source: IpAddr) -> Option<ConnectionPermit> {
        limiter.admit(source, limits::MAX_CONNECTIONS_PER_SOURCE)
    }

    fn source(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))
    }

    #[test]
    fn one_source_cannot_take_all_connections() {
        let limiter = ConnectionLimiter::default();
        let mut held: Vec<ConnectionPermit> =
            (0..limits::MAX_CONNECTIONS_PER_SOURCE).map(|_| admit(&limiter, ONE).unwrap()).collect();
        assert!(admit(&limiter, ONE).is_none());
        assert!(admit(&limiter, OTHER).is_some());
        held.pop();
        assert!(admit(&limiter, ONE).is_some());
        drop(held);
        assert!(lock(&limiter.0).sources.is_empty(), "idle sources are forgotten");
        assert_eq!(lock(&limiter.0).total, 0);
    }

    async fn is_closed(permit: &ConnectionPermit) -> bool {
        tokio::time::timeout(Duration::ZERO, permit.must_close()).await.is_ok()
    }

    #[tokio::test]
    async fn as_many_sources_as_places_make_room_by_who_was_idle_longest() {
        let limiter = ConnectionLimiter::default();
        let mut held: Vec<ConnectionPermit> =
            (0..limits::MAX_CONNECTIONS).map(|i| admit(&limiter, source(i)).unwrap()).collect();
        drop(held[0].connection().mark_busy());
        let busy = held[1].connection().mark_busy();
        let new = admit(&limiter, OTHER).expect("one slow connection of each source locks others out");
        assert_eq!(lock(&limiter.0).total, limits::MAX_CONNECTIONS);
        let mut closed = Vec::new();
        for (at, permit) in held.iter().enumerate() {
            closed.extend(is_closed(permit).await.then_some(at));
        }
        assert_eq!(closed, [2], "the first was just answered, the second is busy");
        // A source with as many connections as the others cannot close theirs.
        assert!(admit(&limiter, OTHER).is_none());
        drop((busy, new));
        // If all are busy, no connection is admitted.
        let _all: Vec<BusyGuard> = held.iter().map(|permit| permit.connection().mark_busy()).collect();
        held.push(admit(&limiter, source(limits::MAX_CONNECTIONS + 1)).unwrap());
        let _last = held[limits::MAX_CONNECTIONS].connection().mark_busy();
        assert!(admit(&limiter, OTHER).is_none());
    }

    #[tokio::test]
    async fn a_proxy_is_weighed_by_its_limit_and_busy_sources_are_skipped() {
        let limiter = ConnectionLimiter::default();
        let proxy = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
        let of_proxy = |_| limiter.admit(proxy, limits::MAX_CONNECTIONS_PER_PROXY).unwrap();
        let of_proxy: Vec<ConnectionPermit> = (0..limits::MAX_CONNECTIONS_PER_SOURCE).map(of_proxy).collect();
        // Half the limit of each source; the proxy has a quarter of its own.
        let rest = limits::MAX_CONNECTIONS - limits::MAX_CONNECTIONS_PER_SOURCE;
        let half = limits::MAX_CONNECTIONS_PER_SOURCE / 2;
        let others: Vec<ConnectionPermit> = (0..rest).map(|i| admit(&limiter, source(i / half)).unwrap()).collect();
        let busy: Vec<BusyGuard> = others[half..].iter().map(|permit| permit.connection().mark_busy()).collect();
        let _new: Vec<ConnectionPermit> = (0..=half - limits::MAX_CONNECTIONS_PER_SOURCE / 4)
            .map(|i| admit(&limiter, source(10_000 + i)).unwrap())
            .collect();
        let mut closed = 0;
        for permit in &others {
            closed += usize::from(is_closed(permit).await);
        }
        assert_eq!(
            closed,
            half - limits::MAX_CONNECTIONS_PER_SOURCE / 4,
            "of the idle source with the largest share, down to that of the new one"
        );
        assert!(is_closed(&of_proxy[0]).await, "then the proxy's, because the others with a larger share are busy");
        drop(busy);
    }

    #[tokio::test]
    async fn full_sources_yield_a_connection_to_a_new_one() {
        let limiter = ConnectionLimiter::default();
        let mut held: Vec<ConnectionPermit> = (0..limits::MAX_CONNECTIONS)
            .map(|i| admit(&limiter, source(i / limits::MAX_CONNECTIONS_PER_SOURCE)).unwrap())
            .collect();
        let busy: Vec<BusyGuard> = held.iter().step_by(2).map(|permit| permit.connection().mark_busy()).collect();
        let mut new = Vec::new();
        for _ in 0..limits::MAX_CONNECTIONS_PER_SOURCE / 2 {
            new.push(admit(&limiter, OTHER).expect("no slot is free"));
            assert_eq!(lock(&limiter.0).total, limits::MAX_CONNECTIONS);
        }
        let mut closed = 0;
        for (at, permit) in held.iter().enumerate() {
            let must_close = is_closed(permit).await;
            assert!(!must_close || at % 2 == 1, "a busy connection was closed");
            closed += usize::from(must_close);
        }
        assert_eq!(closed, new.len());
        drop(busy);
        held.clear();
        assert_eq!(lock(&limiter.0).total, new.len(), "a slot was counted twice");
        drop(new);
        assert!(lock(&limiter.0).sources.is_empty());
    }

    #[test]
    fn searches_refill_one_by_one() {
        let limit = SearchLimit::new();
        let start = Instant::now();
        for _ in 0..limits::SEARCH_BURST {
            assert_eq!(limit.take(ONE, start), Ok(()));
        }
        assert_eq!(limit.take(ONE, start), Err(limits::SEARCH_REFILL_INTERVAL));
        assert_eq!(limit.take(OTHER, start), Ok(()));
        let later = start + limits::SEARCH_REFILL_INTERVAL + Duration::from_secs(1);
        assert_eq!(limit.take(ONE, later), Ok(()));
        assert_eq!(limit.take(ONE, later), Err(Duration::from_secs(2)), "fractions of time are not lost");
        let much_later = later + Duration::from_hours(24);
        for _ in 0..limits::SEARCH_BURST {
            assert_eq!(limit.take(ONE, much_later), Ok(()));
        }
        assert!(limit.take(ONE, much_later).is_err(), "idle time is not saved up");
    }

    #[test]
    fn idle_sources_are_forgotten_and_busy_ones_block_nobody() {
        let limit = SearchLimit::new();
        let start = Instant::now();
        for i in 0..limits::MAX_TRACKED_SOURCES {
            let source = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(i).unwrap()));
            assert_eq!(limit.take(source, start), Ok(()));
        }
        assert!(limit.take(OTHER, start).is_err());
        assert_eq!(limit.take(OTHER, start + limits::SEARCH_REFILL_INTERVAL), Ok(()));
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
}
