//! How much, how many, how long: every bound of the doors, in one place.

use std::time::Duration;

/// The most bytes of a request's body. An `ir` has about 2,000, a statement 3,000.
pub(super) const BODY: usize = 256 * 1024;

/// The most bytes of a request's head.
pub(super) const HEAD: usize = 16 * 1024;

/// How long a client may take to send a request's head, and how long a connection may rest between two.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's body.
pub(super) const BODY_TIME: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How many TLS handshakes the token may be signing for: each blocks a thread meanwhile.
pub(super) const HANDSHAKES: usize = 32;

/// How long a connection may last, answers that nobody fetches included.
pub(super) const CONNECTION_TIME: Duration = Duration::from_mins(5);

/// How many connections there may be, both doors together.
pub(super) const CONNECTIONS: usize = 512;

/// How many of them from one source. When all places are taken, the source that has most makes room for others.
pub(super) const CONNECTIONS_OF_ONE: usize = 64;

/// How many of them from one of the proxies that the configuration names: it brings many people's.
pub(super) const CONNECTIONS_OF_PROXY: usize = CONNECTIONS / 2;

/// The most units of work that a source can have saved up (see [`super::budget`] for the unit): more than a second
/// of a core, seven messages of OpenSSL's that ask for 262,144 rounds with SHA-512, or three hundred of tokenkeep's.
pub(super) const BUDGET: u64 = 4_000_000;

/// How many units a source earns in a second: about a thirtieth of a core.
pub(super) const BUDGET_PER_SECOND: u64 = 100_000;

/// What a connection costs, in units.
pub(super) const COST_OF_CONNECTION: u64 = 200;

/// What a TLS handshake costs: a signature of the token.
pub(super) const COST_OF_HANDSHAKE: u64 = 2_000;

/// What any request costs: to be read, looked up, logged and answered.
pub(super) const COST_OF_REQUEST: u64 = 2_000;

/// What a statement costs beyond that: its signatures are verified.
pub(super) const COST_OF_STATEMENT: u64 = 3_000;

/// So many bytes of a body cost a unit.
pub(super) const BYTES_OF_A_UNIT: u64 = 64;

/// A message that costs more than this is queued with those that ask for much hashing.
pub(super) const HEAVY: u64 = 25_000;

/// How many connections the control socket has at once.
pub(super) const CONTROL_CONNECTIONS: usize = 8;

/// How long whoever asks through the control socket waits: as long as the queue, and the token's work after that.
pub(super) const CONTROL_ANSWER_TIME: Duration = Duration::from_mins(2);

/// How long whoever has the database checked through the control socket waits.
pub(super) const CONTROL_CHECK_TIME: Duration = Duration::from_hours(2);

/// The most bytes of an answer through the control socket: a list of some ten thousand users.
pub(super) const CONTROL_ANSWER: u64 = 8 * 1024 * 1024;

/// How many requests the authority works on at once; the token does one thing at a time anyway.
pub(super) const WORKERS: usize = 16;

/// How many of them for one source.
pub(super) const WORKERS_OF_ONE: usize = WORKERS / 2;

/// How many more may wait for that; the next is told to come again.
pub(super) const WAITING: usize = 128;

/// How long one may wait for that.
pub(super) const WAITING_TIME: Duration = Duration::from_secs(30);

/// Threads for all that blocks: the workers, handshakes, the sweep, and some to spare.
pub(super) const BLOCKING_THREADS: usize = WORKERS + HANDSHAKES + 8;

/// The longest the authority can have an answer held back (its guard against guessing).
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How many searches one source may make at once, and how often it gets another after that.
pub(super) const SEARCHES: u32 = 20;
/// See [`SEARCHES`].
pub(super) const SEARCH_EVERY: Duration = Duration::from_secs(3);

/// How many sources are remembered; beyond that, those that have rested longest are forgotten.
pub(super) const SOURCES: usize = 10_000;
