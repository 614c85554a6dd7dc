//! Handles Ctrl-C: exit code 130, terminal echo restored, no partial file left.
//!
//! Tokens need no clean-up here: the same command resumes. A prompt that Ctrl-C cancels has a short
//! time to report its own outcome ("not re-enrolled").

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::exit::{self, Exit, Failure};
use super::file_io;
use super::spinner;
use crate::prompter::showable;

/// Time that the program may continue after Ctrl-C before it is ended.
const EXIT_DELAY: Duration = Duration::from_millis(400);

/// True while another part, such as the authority's service, handles Ctrl-C itself.
static HANDLED_BY_CALLER: AtomicBool = AtomicBool::new(false);
/// The terminal's settings at the start.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// The message for an interrupt now.
static MESSAGE: Mutex<Option<String>> = Mutex::new(None);

/// Sets the message that Ctrl-C prints from now on: which operation is unfinished, and how to
/// resume it.
pub fn set_message(message: impl Into<String>) {
    *MESSAGE.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.into());
}

/// Saves the terminal's settings and starts the thread that waits for Ctrl-C.
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
            if !HANDLED_BY_CALLER.load(Ordering::SeqCst) {
                std::thread::sleep(EXIT_DELAY);
                end();
            }
        }
    });
    spawned.map(drop).map_err(failed)
}

/// Leaves Ctrl-C to the caller from now on.
pub fn delegate_to_caller() {
    HANDLED_BY_CALLER.store(true, Ordering::SeqCst);
}

fn end() -> ! {
    file_io::discard_unfinished();
    spinner::clear_spinners();
    if let (Ok(terminal), Ok(saved)) = (File::options().write(true).open("/dev/tty"), TERMINAL.lock())
        && let Some(saved) = saved.as_ref()
    {
        // The program ends anyway; the shell can reset a terminal that rejects the settings.
        let _ = tcsetattr(&terminal, OptionalActions::Now, saved);
    }
    // No thread holds this lock for long: messages are set before their operation begins.
    let message = MESSAGE.lock().unwrap_or_else(PoisonError::into_inner).take();
    eprintln!("{}", message.as_deref().map_or_else(|| "interrupted".to_owned(), showable));
    exit::end(Exit::Interrupted)
}
