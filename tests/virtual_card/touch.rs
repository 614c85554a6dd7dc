//! The touch sensor. The test decides in advance how each request for a touch ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::apdu::Status;
use super::keys::TouchPolicy;

/// How long a touch counts for keys with the policy "cached" (Yubico, "PIN and touch policies").
const CACHE_DURATION: Duration = Duration::from_secs(15);

/// The sensor with the answers of the test.
#[derive(Debug, Default)]
pub struct Touch {
    answers: VecDeque<bool>,
    last: Option<Instant>,
    requests: Vec<bool>,
}

impl Touch {
    /// Appends an answer to a later request: touched, or not touched in time. Without an answer
    /// nobody touches.
    pub fn answer(&mut self, is_touched: bool) {
        self.answers.push_back(is_touched);
    }

    /// Forgets the last touch, as if more than 15 seconds had passed.
    pub fn expire(&mut self) {
        self.last = None;
    }

    /// Number of requests for a touch so far, with and without success.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// How each request ended, from this one on.
    pub(super) fn requests_since(&self, first: usize) -> &[bool] {
        &self.requests[first..]
    }

    /// Asks for a touch if the policy demands one now.
    pub(super) fn require(&mut self, policy: TouchPolicy) -> Result<(), Status> {
        let is_cached = self.last.is_some_and(|last| last.elapsed() < CACHE_DURATION);
        if policy == TouchPolicy::Never || policy == TouchPolicy::Cached && is_cached {
            return Ok(());
        }
        let is_touched = self.answers.pop_front().unwrap_or(false);
        self.requests.push(is_touched);
        if !is_touched {
            return Err(Status::NOT_PERMITTED);
        }
        self.last = Some(Instant::now());
        Ok(())
    }
}
