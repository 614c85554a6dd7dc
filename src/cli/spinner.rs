//! The spinner on stderr during long steps, such as generating keys.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The visible spinners.
static SPINNERS: Mutex<Vec<ProgressBar>> = Mutex::new(Vec::new());

/// Removes all spinners from the terminal. Called before any other output and at every exit.
pub fn clear_spinners() {
    let shown = std::mem::take(&mut *SPINNERS.lock().unwrap_or_else(PoisonError::into_inner));
    for spinner in shown {
        spinner.finish_and_clear();
    }
}

/// Runs `work` with a spinner and this label on stderr, if stderr is a terminal.
pub fn with_spinner<T>(label: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = spinner(label);
    let result = work();
    spinner.finish_and_clear();
    result
}

/// A spinner on stderr, which the caller can stop during a prompt. Hidden if stderr is not a
/// terminal.
pub fn spinner(label: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(label);
    spinner.enable_steady_tick(Duration::from_millis(120));
    SPINNERS.lock().unwrap_or_else(PoisonError::into_inner).push(spinner.clone());
    spinner
}
