//! Retries modules that failed to load. If one can be loaded now, the worker is restarted to load
//! it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::process::{Signal, getpid, kill_process};

use super::Inner;
use crate::token::check;

/// Tries the modules in a thread of its own, one trial at a time: a hung module takes half a
/// minute, and nothing waits for it.
#[derive(Debug, Default)]
pub(super) struct Trial(Option<JoinHandle<Option<PathBuf>>>);

impl Trial {
    /// Returns the module that the last trial found loadable. Starts a trial if none is running.
    fn of(&mut self, modules: Vec<PathBuf>, is_refused: impl Fn(&Path) -> bool + Send + 'static) -> Option<PathBuf> {
        match self.0.take_if(|trial| trial.is_finished()) {
            Some(ended) => return ended.join().ok().flatten(),
            None if self.0.is_some() || modules.is_empty() => return None,
            None => {}
        }
        let run = move || modules.into_iter().find(|module| !is_refused(module));
        let thread = std::thread::Builder::new().name("trial".to_owned()).stack_size(256 * 1024).spawn(run);
        // If no thread can be started, the next poll tries again.
        self.0 = thread.inspect_err(|error| tracing::debug!(%error, "cannot retry the excluded modules")).ok();
        None
    }
}

impl Inner {
    /// Restarts the worker if an excluded module can be loaded now, unless a session or operation
    /// would be lost.
    pub fn restart_for_recovered_module(&self, trial: &mut Trial) {
        let modules = if self.is_busy() { Vec::new() } else { self.tokens.refused_modules() };
        let Some(module) = trial.of(modules, check::is_refused) else { return };
        // Check again: something may have started during the trial.
        if self.is_busy() {
            return;
        }
        tracing::warn!(module = %module.display(), "the module can be loaded again: restarting the worker to load it");
        let _ = kill_process(getpid(), Signal::KILL);
    }

    /// Returns true if a session is active, or an operation, a login or a signature is running.
    pub fn is_busy(&self) -> bool {
        self.is_in_use() || self.uses.load(Ordering::SeqCst) > 0
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
        let modules = || vec![PathBuf::from("/hangs.so"), PathBuf::from("/well.so")];
        let is_refused = move |module: &Path| {
            let hangs = module == Path::new("/hangs.so");
            if hangs {
                let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
            }
            hangs
        };
        assert_eq!(trial.of(modules(), is_refused), None);
        assert_eq!(trial.of(modules(), |_| panic!("a second trial beside the first")), None);
        go_on.send(()).unwrap();
        let since = Instant::now();
        while !trial.0.as_ref().unwrap().is_finished() {
            assert!(since.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(trial.of(modules(), |_| true), Some("/well.so".into()));
        assert!(trial.0.is_none());
    }
}
