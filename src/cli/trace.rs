//! The log on stderr: warnings by default, events with `-v`, each step with `-vv`, everything with
//! `-vvv`.

use std::io::{self, IsTerminal};

use super::progress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Standard error, after the spinner is removed from it.
fn stderr() -> io::Stderr {
    progress::clear();
    io::stderr()
}

/// Starts logging. `RUST_LOG` refines it.
pub fn start(verbosity: u8) {
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
