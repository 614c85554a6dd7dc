//! Retries sources that failed to load. If one can be loaded now, the worker is restarted to load
//! it.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::process::{Signal, getpid, kill_process};

use super::Keystore;
use crate::token::check;

/// Tries the sources in a thread of its own, one trial at a time: a hung source takes half a
/// minute, and nothing waits for it.
#[derive(Debug, Default)]
pub(super) struct Trial(Option<JoinHandle<Option<PathBuf>>>);

impl Trial {
    /// Restarts the worker if an excluded source can be loaded now, unless a session or operation
    /// would be lost.
    pub fn restart_for_recovered_source(&mut self, keystore: &Keystore) {
        let sources = if keystore.is_busy() { Vec::new() } else { keystore.tokens.unusable_sources().refused() };
        let Some(source) = self.of(sources, check::is_refused) else { return };
        // Check again: something may have started during the trial.
        if keystore.is_busy() {
            return;
        }
        tracing::warn!(source = %source.display(), "the module can be loaded again: restarting the worker to load it");
        let _ = kill_process(getpid(), Signal::KILL);
    }

    /// Returns the source that the last trial found loadable. Starts a trial if none is running.
    fn of(&mut self, sources: Vec<PathBuf>, is_refused: impl Fn(&Path) -> bool + Send + 'static) -> Option<PathBuf> {
        match self.0.take_if(|trial| trial.is_finished()) {
            Some(ended) => return ended.join().ok().flatten(),
            None if self.0.is_some() || sources.is_empty() => return None,
            None => {}
        }
        let run = move || sources.into_iter().find(|source| !is_refused(source));
        let thread = std::thread::Builder::new().name("trial".to_owned()).stack_size(256 * 1024).spawn(run);
        // If no thread can be started, the next poll tries again.
        self.0 = thread.inspect_err(|error| tracing::debug!(%error, "cannot retry the excluded modules")).ok();
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_trial_blocks_no_thread_and_reports_its_result_later() {
        let mut trial = Trial::default();
        assert_eq!(trial.of(Vec::new(), |_| false), None);
        assert!(trial.0.is_none(), "a thread for nothing");
        let (go_on, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let sources = || vec![PathBuf::from("/hangs.so"), PathBuf::from("/well.so")];
        let is_refused = move |source: &Path| {
            let hangs = source == Path::new("/hangs.so");
            if hangs {
                let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
            }
            hangs
        };
        assert_eq!(trial.of(sources(), is_refused), None);
        assert_eq!(trial.of(sources(), |_| panic!("a second trial beside the first")), None);
        go_on.send(()).unwrap();
        let since = Instant::now();
        while !trial.0.as_ref().unwrap().is_finished() {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(trial.of(sources(), |_| true), Some("/well.so".into()));
        assert!(trial.0.is_none());
    }
}
