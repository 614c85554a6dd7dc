//! Admission of connections: limits on connections, a work budget for each source, and trusted
//! proxies, which carry the requests of many sources.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::budget::Budget;
use super::connection_limit::{ConnectionLimiter, ConnectionPermit};
use super::limits;
use crate::authority::Networks;

/// The checks of both listeners before they accept a connection.
#[derive(Clone)]
pub(super) struct AdmissionControl {
    limiter: ConnectionLimiter,
    budget: Arc<Budget>,
    proxies: Arc<Networks>,
}

impl AdmissionControl {
    pub(super) fn new(budget: Arc<Budget>, proxies: Networks) -> Self {
        Self { limiter: ConnectionLimiter::default(), budget, proxies: Arc::new(proxies) }
    }

    /// Admits a connection if its source is below its connection limit and, unless it is a proxy,
    /// has budget left. A proxy's requests are charged to the clients that it names.
    pub(super) fn admit(&self, source: IpAddr, is_tls: bool) -> Option<ConnectionPermit> {
        if self.proxies.contains(source) {
            return self.limiter.admit(source, limits::MAX_CONNECTIONS_PER_PROXY);
        }
        let cost = limits::COST_OF_CONNECTION + if is_tls { limits::COST_OF_HANDSHAKE } else { 0 };
        self.budget.take(source, cost, Instant::now()).ok()?;
        self.limiter.admit(source, limits::MAX_CONNECTIONS_PER_SOURCE)
    }

    pub(super) fn proxies(&self) -> Arc<Networks> {
        self.proxies.clone()
    }
}
