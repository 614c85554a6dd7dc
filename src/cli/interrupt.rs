//! Ctrl-C: exit code 130, a terminal that still echoes, and no half-written file.
//!
//! What is on a token needs no clean-up here: running the same command again finishes it. A prompt that Ctrl-C cancels
//! gives its own answer within the moment that is waited for ("not re-enrolled").

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::exit::{self, Exit, Failure};
use super::{output, progress};
use crate::prompter::showable;

/// How long the program may go on after Ctrl-C before it is ended.
const GRACE: Duration = Duration::from_millis(400);

/// True while somebody else (the authority's service) ends the program in its own order.
static HANDLED_ELSEWHERE: AtomicBool = AtomicBool::new(false);
/// How the terminal was at the start.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// What is said when it is interrupted now.
static WORDS: Mutex<Option<String>> = Mutex::new(None);

/// What is said from now on when Ctrl-C ends the program: which operation did not get to its end, and how it goes on.
pub fn says(words: impl Into<String>) {
    *WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.into());
}

/// Begins to watch for Ctrl-C.
pub fn watch() -> Result<(), Failure> {
    if let (Ok(terminal), Ok(mut saved)) = (File::open("/dev/tty"), TERMINAL.lock()) {
        *saved = tcgetattr(&terminal).ok();
    }
    let failed = |error| Failure::fault(format!("cannot watch for Ctrl-C: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let interrupts = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(failed)?
    };
    let spawned = std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        let mut interrupts = interrupts;
        while runtime.block_on(interrupts.recv()).is_some() {
            if !HANDLED_ELSEWHERE.load(Ordering::SeqCst) {
                std::thread::sleep(GRACE);
                end();
            }
        }
    });
    spawned.map(drop).map_err(failed)
}

/// From now on Ctrl-C is the business of whoever calls this.
pub fn leave_to_caller() {
    HANDLED_ELSEWHERE.store(true, Ordering::SeqCst);
}

fn end() -> ! {
    output::discard_unfinished();
    progress::clear();
    if let (Ok(terminal), Ok(saved)) = (File::options().write(true).open("/dev/tty"), TERMINAL.lock())
        && let Some(saved) = saved.as_ref()
    {
        // The program ends: a terminal that does not take it back is the shell's to mend.
        let _ = tcsetattr(&terminal, OptionalActions::Now, saved);
    }
    // The words are put there before anything is begun: nobody holds them for long.
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner).take();
    eprintln!("{}", words.as_deref().map_or_else(|| "interrupted".to_owned(), showable));
    exit::end(Exit::Interrupted)
}
