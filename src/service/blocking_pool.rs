//! The threads for the authority's blocking work, and their queue, which is fair between sources.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};

use super::connection_limit::{lock, network};
use super::limits;

/// The source and the expected weight of a request's work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// The request's source.
    pub(super) source: IpAddr,
    /// The rest of the source's budget: the source that spent least runs first.
    pub(super) left: u64,
    /// Whether the work starts with much hashing for an unauthenticated client. Few such jobs run
    /// at once.
    pub(super) is_heavy: bool,
}

/// Runs blocking work on a bounded number of threads.
#[derive(Clone)]
pub(super) struct BlockingPool(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    finished: Notify,
}

#[derive(Clone, Copy)]
struct Bounds {
    running: usize,
    running_of_one: usize,
    heavy: usize,
    waiting: usize,
}

#[derive(Default)]
struct State {
    running: usize,
    heavy: usize,
    sources: HashMap<IpAddr, usize>,
    /// In the order of arrival.
    waiting: Vec<Waiting>,
}

struct Waiting {
    job: Job,
    slot: oneshot::Sender<JobSlot>,
}

/// A running job's slot; dropping it starts the next job.
struct JobSlot {
    pool: Arc<Shared>,
    job: Job,
}

/// The reason why a request was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JobError {
    /// The queue is full, or the request has waited too long.
    #[error("too many concurrent requests; try again soon")]
    Overloaded,
    /// The work panicked, which is a bug.
    #[error("internal error; see the authority's log")]
    Panicked,
}

impl BlockingPool {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with(Bounds {
            running: limits::MAX_RUNNING_JOBS,
            running_of_one: limits::MAX_RUNNING_JOBS_PER_SOURCE,
            // At least half of the cores remain for work of authenticated clients.
            heavy: (cores / 2).max(1),
            waiting: limits::MAX_QUEUED_JOBS,
        })
    }

    fn with(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, state: Mutex::default(), finished: Notify::new() }))
    }

    /// Runs blocking work on its own thread. Started work is finished, even if nobody waits for it
    /// any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: Job,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let slot = self.0.enqueue(Job { source: network(job.source), ..job })?;
        let slot = tokio::time::timeout(limits::QUEUE_TIMEOUT, slot).await.map_err(|_| JobError::Overloaded)?;
        // The queue drops the sender of a job that must make room for others.
        let slot = slot.map_err(|_| JobError::Overloaded)?;
        let result = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(slot);
            result
        });
        result.await.map_err(|error| {
            tracing::error!(%error, "a job panicked");
            JobError::Panicked
        })
    }

    /// Waits until no job is running.
    pub(super) async fn idle(&self) {
        loop {
            let finished = self.0.finished.notified();
            if lock(&self.0.state).running == 0 {
                return;
            }
            finished.await;
        }
    }
}

impl Shared {
    /// Adds a job to the queue. If the queue is full, it drops a job of the source with the most
    /// queued jobs, unless that is the new job's source.
    fn enqueue(self: &Arc<Self>, job: Job) -> Result<oneshot::Receiver<JobSlot>, JobError> {
        let (slot, receiver) = oneshot::channel();
        {
            let mut state = lock(&self.state);
            if state.waiting.len() >= self.bounds.waiting && !self.could_start(&state, &job) {
                state.make_room_for(&job)?;
            }
            state.waiting.push(Waiting { job, slot });
        }
        self.dispatch();
        Ok(receiver)
    }

    /// Starts all jobs that the limits allow.
    fn dispatch(self: &Arc<Self>) {
        while let Some((slot, job)) = self.next() {
            // A receiver that no longer waits drops the slot, which passes to the next job.
            let _ = slot.send(JobSlot { pool: Arc::clone(self), job });
        }
    }

    fn next(&self) -> Option<(oneshot::Sender<JobSlot>, Job)> {
        let mut state = lock(&self.state);
        state.waiting.retain(|waiting| !waiting.slot.is_closed());
        let possible = state.waiting.iter().enumerate().filter(|(_, waiting)| self.could_start(&state, &waiting.job));
        let (at, _) = possible.min_by_key(|(at, waiting)| {
            (state.running_of(waiting.job.source), std::cmp::Reverse(waiting.job.left), *at)
        })?;
        let Waiting { job, slot } = state.waiting.remove(at);
        state.running += 1;
        state.heavy += usize::from(job.is_heavy);
        *state.sources.entry(job.source).or_default() += 1;
        Some((slot, job))
    }

    fn could_start(&self, state: &State, job: &Job) -> bool {
        state.running < self.bounds.running
            && state.running_of(job.source) < self.bounds.running_of_one
            && (!job.is_heavy || state.heavy < self.bounds.heavy)
    }
}

impl State {
    fn running_of(&self, source: IpAddr) -> usize {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    fn make_room_for(&mut self, job: &Job) -> Result<(), JobError> {
        let mut waiting: HashMap<IpAddr, usize> = HashMap::new();
        for other in &self.waiting {
            *waiting.entry(other.job.source).or_default() += 1;
        }
        let own = waiting.get(&job.source).copied().unwrap_or_default();
        let (most, count) = waiting.into_iter().max_by_key(|(_, count)| *count).ok_or(JobError::Overloaded)?;
        if count <= own + 1 {
            return Err(JobError::Overloaded);
        }
        let last = self.waiting.iter().rposition(|other| other.job.source == most).ok_or(JobError::Overloaded)?;
        self.waiting.remove(last);
        Ok(())
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.pool.state);
            state.running -= 1;
            state.heavy -= usize::from(self.job.is_heavy);
            if let Some(count) = state.sources.get_mut(&self.job.source) {
                *count -= 1;
                if *count == 0 {
                    state.sources.remove(&self.job.source);
                }
            }
        }
        self.pool.finished.notify_waiters();
        self.pool.dispatch();
    }
}

#[cfg(test)]
mod tests;
