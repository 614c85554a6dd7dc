//! The time, and how long the machine slept: passed in, so that tests can advance the clocks.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The clocks that the keystore reads.
pub trait Clock: Send + Sync {
    /// The time of day, which decides whether certificates have expired.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start, excluding sleep.
    fn awake(&self) -> Duration;

    /// Time since an arbitrary start, including sleep. Each sleep increases its lead over
    /// [`Clock::awake`].
    fn elapsed(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn awake(&self) -> Duration {
        read(ClockId::Monotonic)
    }

    fn elapsed(&self) -> Duration {
        read(ClockId::Boottime)
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Neither clock is negative: both count from boot.
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_and_one_includes_sleep() {
        let clock = SystemClock;
        let (awake, elapsed) = (clock.awake(), clock.elapsed());
        assert!(elapsed >= awake, "{elapsed:?} {awake:?}");
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.awake() > awake && clock.elapsed() > elapsed);
    }
}
