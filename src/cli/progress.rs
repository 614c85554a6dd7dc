//! Something that moves while keys are made: at a terminal only, and only if it takes a moment.

use std::io::{self, IsTerminal};
use std::time::Duration;

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The spinners that are on the screen.
static SHOWN: Mutex<Vec<ProgressBar>> = Mutex::new(Vec::new());

/// Takes every spinner off the screen: before anything else is written there, and at the end, however that comes.
pub fn clear() {
    let shown = std::mem::take(&mut *SHOWN.lock().unwrap_or_else(PoisonError::into_inner));
    for spinner in shown {
        spinner.finish_and_clear();
    }
}

/// Runs `work` with a spinner and these words on stderr. Nothing is shown when stderr is no terminal.
pub fn during<T>(words: &'static str, work: impl FnOnce() -> T) -> T {
    let spinner = spinner(words);
    let result = work();
    spinner.finish_and_clear();
    result
}

/// A spinner that can be hidden while a person is asked something.
pub fn spinner(words: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let spinner = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(words);
    spinner.enable_steady_tick(Duration::from_millis(120));
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner).push(spinner.clone());
    spinner
}
