//! What time it is, and whether the machine slept: passed in, so that tests can let hours go by.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The clocks that the keystore looks at.
pub trait Clock: Send + Sync {
    /// The time of day: certificates end by it.
    fn now(&self) -> Timestamp;

    /// Since some moment in the past, not counting while the machine slept.
    fn awake(&self) -> Duration;

    /// Since some moment in the past, counting while the machine slept. It runs ahead of [`Clock::awake`] by each sleep.
    fn elapsed(&self) -> Duration;
}

/// The machine's own clocks.
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
    // Neither is ever negative: both count from the machine's start.
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_sleep_counts_in_one_of_them() {
        let clock = SystemClock;
        let (awake, elapsed) = (clock.awake(), clock.elapsed());
        assert!(elapsed >= awake, "{elapsed:?} {awake:?}");
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.awake() > awake && clock.elapsed() > elapsed);
    }
}
