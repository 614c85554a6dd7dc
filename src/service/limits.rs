//! All limits of the listeners and the control socket, in one place.

use std::time::Duration;

/// The largest request body, in bytes. An `ir` has about 2,000, a statement 3,000.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;

/// The largest request head, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The time limit for a request's head, and for a connection's idle time between two requests.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit for a request's body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit for a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of TLS handshakes for which the token may be signing; each blocks a thread meanwhile.
pub(super) const MAX_HANDSHAKES: usize = 32;

/// The time limit for a connection, including responses that the client does not read.
pub(super) const MAX_CONNECTION_TIME: Duration = Duration::from_mins(5);

/// The number of connections of both listeners together.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// The number of connections from one source. When all slots are taken, the source with the largest
/// share gives one up.
pub(super) const MAX_CONNECTIONS_PER_SOURCE: usize = 64;

/// The number of connections from one configured proxy, which carries the connections of many
/// people.
pub(super) const MAX_CONNECTIONS_PER_PROXY: usize = MAX_CONNECTIONS / 2;

/// The capacity of a source's budget, in units of work (see [`super::budget`]): more than a second
/// of a core, seven OpenSSL messages with 262,144 rounds of SHA-512, or three hundred messages of
/// tokenkeep.
pub(super) const BUDGET_CAPACITY: u64 = 4_000_000;

/// The units that a source earns in a second: about a thirtieth of a core.
pub(super) const BUDGET_PER_SECOND: u64 = 100_000;

/// The cost of a connection, in units.
pub(super) const COST_OF_CONNECTION: u64 = 200;

/// The cost of a TLS handshake, in units: a signature by the token.
pub(super) const COST_OF_HANDSHAKE: u64 = 2_000;

/// The cost of any request, in units: reading, lookup, logging and response.
pub(super) const COST_OF_REQUEST: u64 = 2_000;

/// The additional cost of a statement, in units: its signatures are verified.
pub(super) const COST_OF_STATEMENT: u64 = 3_000;

/// The bytes of a body that cost one unit.
pub(super) const BYTES_PER_UNIT: u64 = 64;

/// The cost above which a message is queued as heavy, because it asks for much hashing.
pub(super) const HEAVY_JOB_COST: u64 = 25_000;

/// The number of concurrent connections of the control socket.
pub(super) const MAX_CONTROL_CONNECTIONS: usize = 8;

/// The time limit for a response through the control socket: the queue's time plus the token's
/// work.
pub(super) const CONTROL_RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);

/// The time limit for a database check through the control socket.
pub(super) const CONTROL_CHECK_TIMEOUT: Duration = Duration::from_hours(2);

/// The largest response through the control socket, in bytes: a list of about ten thousand users.
pub(super) const MAX_CONTROL_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// The number of requests that run concurrently; the token does one thing at a time anyway.
pub(super) const MAX_RUNNING_JOBS: usize = 16;

/// The number of concurrent requests of one source.
pub(super) const MAX_RUNNING_JOBS_PER_SOURCE: usize = MAX_RUNNING_JOBS / 2;

/// The number of queued requests; further ones are refused with a hint to try again.
pub(super) const MAX_QUEUED_JOBS: usize = 128;

/// The time limit in the queue.
pub(super) const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// The threads for blocking work: requests, handshakes, connections of the control socket, the
/// sweep, and some spare ones.
pub(super) const BLOCKING_THREADS: usize = MAX_RUNNING_JOBS + MAX_HANDSHAKES + MAX_CONTROL_CONNECTIONS + 8;

/// The longest delay of a reply that the authority may ask for (against guessing).
pub(super) const MAX_REPLY_DELAY: Duration = Duration::from_secs(30);

/// The number of searches that one source may make at once.
pub(super) const SEARCH_BURST: u32 = 20;
/// The interval after which a source gets another search, up to [`SEARCH_BURST`].
pub(super) const SEARCH_REFILL_INTERVAL: Duration = Duration::from_secs(3);

/// The number of remembered sources; beyond it, the longest idle ones are forgotten.
pub(super) const MAX_TRACKED_SOURCES: usize = 10_000;
