//! Prepares the process before a command runs: disables core dumps, records inherited descriptors,
//! starts the log.

use std::fs;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::exit::Failure;
use super::spinner;

/// The file descriptors that were open when the program started: `fd:N` may name only these.
static OPEN_AT_START: OnceLock<Vec<u32>> = OnceLock::new();

/// Disables core dumps, and keeps other processes of the same user from reading this process's
/// memory. Call this before any secret is read. Children are dumpable again, but inherit the core
/// size limit of zero.
pub fn harden() -> Result<(), Failure> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::fault(format!("cannot disable core dumps: {error}")))
}

/// Records the open descriptors. Call this before the program opens a file.
pub fn record_descriptors() {
    let _ = descriptors_at_start();
}

/// The descriptors that were open at the start.
pub fn descriptors_at_start() -> Vec<u32> {
    OPEN_AT_START.get_or_init(open_descriptors).clone()
}

fn open_descriptors() -> Vec<u32> {
    let listed: Vec<u32> = fs::read_dir("/dev/fd")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    // One of them was the directory's own, and is closed again.
    listed.into_iter().filter(|number| fs::metadata(format!("/dev/fd/{number}")).is_ok()).collect()
}

/// Standard error, after the spinner is removed from it.
fn stderr() -> io::Stderr {
    spinner::clear_spinners();
    io::stderr()
}

/// Starts the log on stderr: warnings by default, events with `-v`, each step with `-vv`,
/// everything with `-vvv`. `RUST_LOG` refines it.
pub fn start_log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "tokenkeep=info,warn",
        2 => "tokenkeep=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(verbosity > 1)
        .with_span_events(FmtSpan::NONE);
    // This fails only if logging was started before, which does not happen.
    if verbosity == 0 {
        let _ = subscriber.without_time().try_init();
    } else {
        let _ = subscriber.try_init();
    }
}
