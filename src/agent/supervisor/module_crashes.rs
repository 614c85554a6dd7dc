//! Attributes the worker's crashes to PKCS#11 modules, and leaves out a module that keeps crashing.
//!
//! A crash belongs to a module if the worker ended by itself while it called that module and no
//! other. A worker that ended by SIGKILL, SIGTERM or another signal that is no fault counts for no
//! module.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::token::CallCounts;

/// Number of crashes within [`PERIOD`] after which a module is left out.
const MAX_CRASHES: usize = 3;

/// Time for which a crash counts.
const PERIOD: Duration = Duration::from_mins(10);

/// When each module crashed the worker.
#[derive(Debug)]
pub(super) struct ModuleCrashes {
    /// the modules of the agent; no other is named, whatever the worker writes into the file
    modules: BTreeMap<PathBuf, ModuleHistory>,
    calls: Option<CallCounts>,
}

#[derive(Debug, Default)]
struct ModuleHistory {
    crashes: VecDeque<Instant>,
    is_left_out: bool,
}

impl ModuleCrashes {
    /// For these modules.
    pub(super) fn of(modules: Vec<PathBuf>) -> Self {
        Self { modules: modules.into_iter().map(|module| (module, ModuleHistory::default())).collect(), calls: None }
    }

    /// Begins a worker's run; returns the memory file in which it counts its calls. `None` if the
    /// kernel refuses one: then no crash names a module.
    pub(super) fn begin_run(&mut self) -> Option<OwnedFd> {
        let created = CallCounts::create();
        self.calls = created.inspect_err(|error| tracing::warn!(%error, "a crash will not name the module")).ok();
        self.calls.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// The modules that the worker must not load.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &PathBuf> {
        self.modules.iter().filter(|(_, history)| history.is_left_out).map(|(module, _)| module)
    }

    /// Records how the worker exited. Returns the end of a sentence that names the modules that it
    /// was calling.
    pub(super) fn note_exit(&mut self, status: ExitStatus) -> String {
        self.note_exit_at(status, Instant::now())
    }

    fn note_exit_at(&mut self, status: ExitStatus, now: Instant) -> String {
        if !is_crash(status) {
            return String::new();
        }
        let mut called = self.calls.as_ref().map(CallCounts::called_modules).unwrap_or_default();
        called.retain(|module| self.modules.contains_key(module));
        if let [module] = called.as_slice() {
            self.note_crash(module, now);
        }
        let names: Vec<_> = called.iter().map(|module| module.display().to_string()).collect();
        if names.is_empty() { String::new() } else { format!(", while it called {}", names.join(" and ")) }
    }

    fn note_crash(&mut self, module: &Path, now: Instant) {
        let history = self.modules.entry(module.to_owned()).or_default();
        history.crashes.retain(|crash| now.saturating_duration_since(*crash) < PERIOD);
        history.crashes.push_back(now);
        if history.crashes.len() >= MAX_CRASHES && !history.is_left_out {
            history.is_left_out = true;
            tracing::error!(
                "the module {} crashed the worker {MAX_CRASHES} times in ten minutes: it is left out until the agent \
                 restarts; `tokenkeep doctor` checks it",
                module.display()
            );
        }
    }
}

/// Whether the worker ended by a signal of its own fault. It exits with a code if its link closes
/// or it cannot start. It is killed by other signals: if a module hangs, or by the kernel if memory
/// is short.
fn is_crash(status: ExitStatus) -> bool {
    let own = [Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::ILL, Signal::FPE, Signal::TRAP, Signal::SYS];
    status.signal().is_some_and(|signal| own.map(Signal::as_raw).contains(&signal))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn killed_by(signal: Signal) -> ExitStatus {
        ExitStatus::from_raw(signal.as_raw())
    }

    /// A worker's run that ends while it calls these modules. The file is written as the worker
    /// writes it.
    fn run(crashes: &mut ModuleCrashes, called: &[&str], status: ExitStatus, now: Instant) -> String {
        let file = File::from(crashes.begin_run().unwrap());
        for (place, module) in called.iter().enumerate() {
            let place = u64::try_from(place).unwrap();
            file.write_all_at(&1_u32.to_ne_bytes(), 4 * place).unwrap();
            file.write_all_at(module.as_bytes(), 4096 + 8 * place).unwrap();
        }
        crashes.note_exit_at(status, now)
    }

    #[test]
    fn a_module_is_left_out_after_three_crashes_in_ten_minutes() {
        let mut crashes = ModuleCrashes::of(vec!["/one.so".into(), "/two.so".into()]);
        let began = Instant::now();
        let mut crash = |minutes, module| {
            let now = began + Duration::from_mins(minutes);
            let said = run(&mut crashes, &[module], killed_by(Signal::SEGV), now);
            assert_eq!(said, format!(", while it called {module}"));
            crashes.left_out().cloned().collect::<Vec<_>>()
        };
        assert!(crash(0, "/one.so").is_empty() && crash(1, "/two.so").is_empty() && crash(9, "/one.so").is_empty());
        assert!(crash(11, "/one.so").is_empty(), "the first crash still counts");
        assert_eq!(crash(18, "/one.so"), [PathBuf::from("/one.so")]);
    }

    #[test]
    fn a_signal_of_its_own_fault_is_a_crash() {
        for signal in [Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::ILL, Signal::FPE, Signal::TRAP, Signal::SYS] {
            assert!(is_crash(killed_by(signal)), "{signal:?}");
        }
    }

    #[test]
    fn a_module_is_blamed_only_if_it_alone_was_called() {
        let mut crashes = ModuleCrashes::of(vec!["/one.so".into(), "/two.so".into()]);
        for _ in 0..4 {
            let both = run(&mut crashes, &["/one.so", "/two.so"], killed_by(Signal::SEGV), Instant::now());
            assert_eq!(both, ", while it called /one.so and /two.so");
            assert_eq!(run(&mut crashes, &[], killed_by(Signal::SEGV), Instant::now()), "");
            for signal in [Signal::KILL, Signal::TERM, Signal::HUP, Signal::INT] {
                assert_eq!(run(&mut crashes, &["/one.so"], killed_by(signal), Instant::now()), "");
            }
            // Exit codes 0 and 1.
            for status in [0, 1 << 8] {
                assert_eq!(run(&mut crashes, &["/one.so"], ExitStatus::from_raw(status), Instant::now()), "");
            }
            assert_eq!(run(&mut crashes, &["/unknown.so"], killed_by(Signal::SEGV), Instant::now()), "");
        }
        assert_eq!(crashes.left_out().count(), 0);
    }
}
