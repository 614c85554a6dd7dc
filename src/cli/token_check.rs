//! `tokenkeep token-check`: a short-lived child of this program that loads one module in a fresh
//! process, answers one question about it and exits ([`crate::token::check`]). The command is
//! hidden. It is sandboxed like the agent's worker, and reads the question, which may include a
//! PIN, from stdin.

use std::io;

use rustix::thread::set_no_new_privs;

use super::context::Context;
use super::directories::directory;
use super::exit::{Exit, Failure};
use crate::agent::{self, SandboxConfig};
use crate::token;

/// Answers the question from stdin on stdout.
pub fn run(cx: &Context<'_>) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::fault(format!("cannot answer a question about a module: {error}"));
    let (request, pin) = token::take_check_request(&mut io::stdin().lock()).map_err(failed)?;
    // The parent reports a configuration that cannot be read.
    let allow = cx.configuration().map(|configuration| configuration.allow.clone()).unwrap_or_default();
    let sandbox_config = SandboxConfig { modules: vec![request.module.clone()], allow, home: directory("HOME") };
    set_no_new_privs(true).map_err(|error| failed(error.into()))?;
    agent::enter_sandbox(&sandbox_config, directory)?;
    token::answer_check(&request, pin.as_ref(), &mut io::stdout().lock()).map_err(failed)?;
    Ok(Exit::Done)
}
