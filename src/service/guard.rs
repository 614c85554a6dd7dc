//! Who may come in, how often, and how many at once.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits;

/// Counts connections, all of them and those of each source, and closes the oldest ones of whoever has most when a
/// source that has fewer comes.
#[derive(Clone, Default)]
pub(super) struct ConnectionLimiter(Arc<Mutex<Connections>>);

#[derive(Default)]
struct Connections {
    total: usize,
    /// The open connections of each source, the oldest first.
    sources: HashMap<IpAddr, VecDeque<Arc<Connection>>>,
}

/// A connection that was let in.
#[derive(Default)]
pub(super) struct Connection {
    /// A whole request has come and is being answered: such a connection is not closed for others.
    answering: AtomicBool,
    must_close: Notify,
}

/// A connection's place among all; free again when this is dropped.
pub(super) struct Permit {
    source: IpAddr,
    connection: Arc<Connection>,
    limiter: ConnectionLimiter,
}

impl ConnectionLimiter {
    /// Lets a connection in, unless its source has `most_of_one` already, or no other source has more than it while all
    /// places are taken.
    pub(super) fn admit(&self, source: IpAddr, most_of_one: usize) -> Option<Permit> {
        let source = network(source);
        let mut connections = lock(&self.0);
        let own = connections.count(source);
        if own >= most_of_one {
            return None;
        }
        if connections.total >= limits::CONNECTIONS {
            connections.close_one_of_whoever_has_more_than(own + 1)?;
        }
        let connection = Arc::new(Connection::default());
        connections.total += 1;
        connections.sources.entry(source).or_default().push_back(connection.clone());
        Some(Permit { source, connection, limiter: self.clone() })
    }
}

impl Connections {
    fn count(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, VecDeque::len)
    }

    /// Its place counts as free from now on, whenever its task gets to end.
    fn close_one_of_whoever_has_more_than(&mut self, count: usize) -> Option<()> {
        let (source, most) = self.sources.iter_mut().max_by_key(|(_, open)| open.len())?;
        if most.len() <= count {
            return None;
        }
        let oldest = most.iter().position(|connection| !connection.answering.load(Ordering::Relaxed))?;
        most.remove(oldest)?.must_close.notify_one();
        self.total -= 1;
        tracing::debug!(%source, "too many connections: the oldest of the source that has most is closed");
        Some(())
    }
}

impl Connection {
    /// While the returned value lives, the connection is not closed to make room.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.answering.store(true, Ordering::Relaxed);
        Answering(self.clone())
    }
}

/// See [`Connection::answering`].
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Relaxed);
    }
}

impl Permit {
    /// The connection.
    pub(super) fn connection(&self) -> Arc<Connection> {
        self.connection.clone()
    }

    /// Returns when the connection must make room for another.
    pub(super) async fn must_close(&self) {
        self.connection.must_close.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut connections = lock(&self.limiter.0);
        let Some(open) = connections.sources.get_mut(&self.source) else { return };
        let before = open.len();
        open.retain(|other| !Arc::ptr_eq(other, &self.connection));
        let is_counted = open.len() < before;
        if open.is_empty() {
            connections.sources.remove(&self.source);
        }
        connections.total -= usize::from(is_counted);
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
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn admit(limiter: &ConnectionLimiter, source: IpAddr) -> Option<Permit> {
        limiter.admit(source, limits::CONNECTIONS_OF_ONE)
    }

    fn source(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))
    }

    #[test]
    fn one_source_cannot_take_all_connections() {
        let limiter = ConnectionLimiter::default();
        let mut held: Vec<Permit> = (0..limits::CONNECTIONS_OF_ONE).map(|_| admit(&limiter, ONE).unwrap()).collect();
        assert!(admit(&limiter, ONE).is_none());
        assert!(admit(&limiter, OTHER).is_some());
        held.pop();
        assert!(admit(&limiter, ONE).is_some());
        drop(held);
        assert!(lock(&limiter.0).sources.is_empty(), "who has gone is forgotten");
        assert_eq!(lock(&limiter.0).total, 0);
    }

    #[test]
    fn all_together_cannot_have_more_than_there_are() {
        let limiter = ConnectionLimiter::default();
        let _held: Vec<Permit> = (0..limits::CONNECTIONS).map(|i| admit(&limiter, source(i)).unwrap()).collect();
        assert!(admit(&limiter, OTHER).is_none());
    }

    #[tokio::test]
    async fn sources_that_hold_everything_make_room_for_another() {
        let limiter = ConnectionLimiter::default();
        let mut held: Vec<Permit> = (0..limits::CONNECTIONS)
            .map(|i| admit(&limiter, source(i / limits::CONNECTIONS_OF_ONE)).unwrap())
            .collect();
        let busy: Vec<Answering> = held.iter().step_by(2).map(|permit| permit.connection().answering()).collect();
        let mut new = Vec::new();
        for _ in 0..limits::CONNECTIONS_OF_ONE / 2 {
            new.push(admit(&limiter, OTHER).expect("there is no place"));
            assert_eq!(lock(&limiter.0).total, limits::CONNECTIONS);
        }
        let mut closed = 0;
        for (at, permit) in held.iter().enumerate() {
            let must_close = tokio::time::timeout(Duration::ZERO, permit.must_close()).await.is_ok();
            assert!(!must_close || at % 2 == 1, "a connection that is being answered was closed");
            closed += usize::from(must_close);
        }
        assert_eq!(closed, new.len());
        drop(busy);
        held.clear();
        assert_eq!(lock(&limiter.0).total, new.len(), "a place was counted twice");
        drop(new);
        assert!(lock(&limiter.0).sources.is_empty());
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
}
