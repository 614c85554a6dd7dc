//! `tokenkeep agent`: runs the keystore service in the foreground or in the background, reports its
//! status, ends its sessions and stops it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal, setsid};
use serde_json::json;

use super::config::ModuleFiles;
use super::context::Context;
use super::directories::directory;
use super::exit::{Exit, Failure};
use super::hidden_keysets::HiddenKeysets;
use super::{output, startup};
use crate::agent::operations::AgentClient;
use crate::agent::{
    self, AgentProcessError, AgentStatus, Endpoint, Keystore, Link, PromptConfig, SandboxConfig, Settings,
    SocketDirectory, SocketProblem, StartupReport, SupervisorConfig, SystemClock,
};
use crate::ipc::{self, SocketState};
use crate::keyset::{Tokens, UnusableSources};
use crate::prompter::PromptEnvironment;
use crate::token::check::run_checks_by;
use crate::token::{TokenError, TokenOwner, count_calls_in};

/// Time that the agent has to stop or to log off; before it stops, its worker logs off.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The hidden command with which the supervisor starts its worker.
pub const WORKER: &str = "agent-worker";

/// `SSH_AGENTC_REMOVE_ALL_IDENTITIES` and `SSH_AGENT_SUCCESS`, each after its length in four bytes.
const REMOVE_ALL: [u8; 5] = [0, 0, 0, 1, 19];
const SUCCESS: [u8; 5] = [0, 0, 0, 1, 6];

/// Arguments of `tokenkeep agent`.
#[derive(Debug, clap::Args)]
pub struct AgentArguments {
    /// Start in the background unless one runs, and print commands for the shell
    ///
    /// The commands export SSH_AUTH_SOCK and TOKENKEEP_AGENT_API, the paths of the sockets. Use in
    /// a shell: eval "$(tokenkeep agent --env)"
    #[arg(long)]
    env: bool,
    /// Start a new session without the terminal
    #[arg(long, hide = true, conflicts_with = "env")]
    background: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Arguments that the supervisor passes to a worker.
#[derive(Debug, clap::Args)]
pub struct WorkerArguments {
    /// Module not to load, because it crashed earlier workers
    #[arg(long, value_name = "FILE")]
    without: Vec<PathBuf>,
    /// Replace a worker that has served; serve even if no module can be used any more
    #[arg(long)]
    again: bool,
}

/// Commands to a running agent.
#[derive(Debug, Subcommand)]
enum Command {
    /// Report whether an agent runs, and where its sockets are
    Status,
    /// End all sessions, so that the next use asks for the PIN
    ///
    /// Example for a screen locker: xss-lock -- sh -c 'tokenkeep agent log-off; exec i3lock -n'
    LogOff,
    /// Stop the agent, which ends all sessions first
    Stop,
}

/// Runs the subcommand.
pub fn run(arguments: &AgentArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let directory = SocketDirectory::of_this_user();
    match &arguments.command {
        Some(Command::Status) => status(&directory, cx),
        Some(Command::LogOff) => log_off(&directory, cx),
        Some(Command::Stop) => stop(&directory, cx),
        None if arguments.env => environment(&directory, cx),
        None => serve(directory, arguments.background, cx),
    }
}

/// Runs the supervisor until a signal ends it.
fn serve(directory: SocketDirectory, background: bool, cx: &Context<'_>) -> Result<Exit, Failure> {
    if background {
        // It fails for a process that leads a session already, which is as good.
        let _ = setsid();
    }
    let mut worker: Vec<OsString> = vec![WORKER.into()];
    worker.extend(cx.common_arguments());
    let configuration = cx.configuration()?;
    let mut environment = PromptEnvironment::new(env::vars_os()).with_descriptors(startup::descriptors_at_start());
    if let Some(timeout) = configuration.prompter_timeout {
        environment = environment.with_timeout(timeout);
    }
    let modules = cx.modules()?.paths().to_vec();
    for module in configuration.isolated() {
        cx.output.warning(format!(
            "`isolate` has no effect on the module {} any more: all modules share the agent's worker; remove it from \
             agent.toml",
            module.display()
        ));
    }
    let hidden = HiddenKeysets::of_this_user().file();
    let person = PromptConfig { method: configuration.prompter.clone().unwrap_or_default(), environment };
    let setup = SupervisorConfig { directory, inherited: systemd_sockets()?, worker, modules, person, hidden };
    agent::run_supervisor(setup, |open| announce(open, cx))?;
    cx.output.note("Stopped.");
    Ok(Exit::Done)
}

fn announce(open: &StartupReport, cx: &Context<'_>) {
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let (ssh, api) = (shown(&open.ssh), shown(&open.api));
    let line = if cx.output.is_json() {
        json!({ "ssh": ssh, "api": api, "sandbox": open.sandbox }).to_string()
    } else {
        format!("Serving SSH on {ssh} and the API on {api} ({}). Press Ctrl-C to stop.", open.sandbox)
    };
    // The agent serves even if its starter has closed its output.
    let _ = output::print(&mut io::stdout().lock(), &line);
}

/// The sockets that systemd passes. The name in `LISTEN_FDNAMES`, else the file name, tells the SSH
/// endpoint from the API endpoint.
fn systemd_sockets() -> Result<[Option<UnixListener>; 2], Failure> {
    let failed = |error: io::Error| Failure::usage(format!("cannot use a passed socket: {error}"));
    let mut sockets = listenfd::ListenFd::from_env();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let (mut ssh, mut api) = (None, None);
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        let Some(listener) = sockets.take_unix_listener(index).map_err(failed)? else { continue };
        listener.set_nonblocking(false).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let file = address.as_pathname().and_then(Path::file_stem).unwrap_or_default().to_string_lossy().into_owned();
        match [name, &file].iter().find_map(|name| Endpoint::by_name(name)) {
            Some(Endpoint::Ssh) if ssh.is_none() => ssh = Some(listener),
            Some(Endpoint::Api) if api.is_none() => api = Some(listener),
            _ => {
                return Err(Failure::usage(format!("cannot identify the passed socket {name:?} as ssh or api"))
                    .with_remedy(
                        "name it `ssh` or `api` (FileDescriptorName), or its file ssh.sock or \
                         api.sock; at most one of each",
                    ));
            }
        }
    }
    Ok([ssh, api])
}

/// Runs the worker; the supervisor starts it.
pub fn run_worker(arguments: &WorkerArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let (link, sockets) = Link::from_stdin()?;
    set_lock_owner();
    let modules = cx.modules()?;
    let sandbox_config = SandboxConfig {
        modules: modules.paths().to_vec(),
        allow: cx.configuration()?.allow.clone(),
        home: directory("HOME"),
    };
    let sandbox = agent::enter_sandbox(&sandbox_config, directory)?;
    let link = Arc::new(link);
    link.start_reader()?;
    run_checks_by(Arc::clone(&link));
    let mut sockets = sockets.into_iter();
    let mut descriptor = || {
        sockets.next().ok_or_else(|| AgentProcessError::Link("the supervisor passed too few descriptors".to_owned()))
    };
    let listeners = [UnixListener::from(descriptor()?), UnixListener::from(descriptor()?)];
    if let Some(Err(error)) = sockets.next().map(|file| count_calls_in(file, modules.paths())) {
        tracing::warn!(%error, "a crash will not name the module: its calls cannot be counted");
    }
    let tokens = load(&modules, arguments, cx)?;
    let mut settings = Settings { hidden_keysets: HiddenKeysets::of_this_user().file(), ..Settings::default() };
    if let Some(idle_timeout) = cx.configuration()?.idle_timeout {
        settings.idle_timeout = idle_timeout;
    }
    let keystore = Arc::new(Keystore::new(tokens, link.clone(), settings, Arc::new(SystemClock)));
    agent::run_worker(&link, listeners, sandbox, &keystore)?;
    Ok(Exit::Done)
}

/// The tokens in these modules. Modules that cannot be used are left out, with a warning.
fn load(modules: &ModuleFiles, arguments: &WorkerArguments, cx: &Context<'_>) -> Result<Tokens, Failure> {
    let mut errors = Vec::new();
    let leave_out = |error: &TokenError| {
        cx.output.warning(error);
        errors.push(error.clone());
    };
    if !arguments.again {
        let loaded = modules.load(leave_out)?;
        return Ok(Tokens::new(loaded).with_unusable_sources(UnusableSources::of(errors)));
    }
    let (loaded, failed) = modules.without(&arguments.without).load_each();
    failed.iter().for_each(leave_out);
    let unusable = UnusableSources::of(errors);
    // Of the modules that are only registered with the system, some may never have worked.
    let unusable = if modules.are_named() { unusable.all_lost() } else { unusable };
    Ok(Tokens::new(loaded).with_unusable_sources(unusable.with_crashed(&arguments.without)))
}

/// Reports the supervisor, not the worker, as the owner of the tokens: the user started the
/// supervisor.
fn set_lock_owner() {
    if let Some(supervisor) = getppid() {
        let name = format!("the agent (process {})", supervisor.as_raw_nonzero());
        let remedy = "let the agent do this, without `--no-agent` and `--module`, or stop it (`tokenkeep agent stop`)"
            .to_owned();
        TokenOwner { name, remedy, is_authority: false }.register();
    }
}

/// Starts an agent in the background unless one runs; prints the variables with its sockets.
fn environment(directory: &SocketDirectory, cx: &Context<'_>) -> Result<Exit, Failure> {
    let states = [Endpoint::Ssh, Endpoint::Api].map(|endpoint| directory.state(endpoint));
    for state in &states {
        if let Err(SocketProblem { reason, remedy }) = state {
            return Err(Failure::fault(format!("cannot use the agent's sockets: {reason}")).with_remedy(remedy));
        }
    }
    if states.iter().any(|state| *state != Ok(SocketState::Live)) {
        start_in_background(directory, cx)?;
    }
    // Warn while this can still be fixed: every use that needs a person would be refused.
    if let Some(problem) = agent_status(directory, cx).and_then(|status| status.prompter_problem) {
        cx.output.warning(format!("the agent runs, but {problem}"));
    }
    let variables = [("SSH_AUTH_SOCK", Endpoint::Ssh), ("TOKENKEEP_AGENT_API", Endpoint::Api)]
        .map(|(name, endpoint)| (name, directory.socket(endpoint)));
    let lines = variables.iter().map(|(name, path)| format!("{name}={}; export {name};", quoted(path)));
    let value: serde_json::Map<_, _> =
        variables.iter().map(|(name, path)| ((*name).to_owned(), path.display().to_string().into())).collect();
    cx.output.answer(lines.collect::<Vec<_>>().join("\n"), &value)
}

/// Quotes a path for a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Starts this program again, and waits until it serves. Its log goes to the file `log` beside its
/// sockets.
fn start_in_background(directory: &SocketDirectory, cx: &Context<'_>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::fault(format!("cannot start the agent in the background: {error}"));
    let log_file = directory.prepare()?.join("log");
    let log = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&log_file).map_err(failed)?;
    let mut child = Process::new(env::current_exe().map_err(failed)?)
        .args(cx.common_arguments())
        .args(["agent", "--background"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(failed)?;
    }
    if !line.is_empty() {
        return Ok(());
    }
    // It exited without serving; its log has the reason.
    let status = child.wait().map_err(failed)?;
    let log_text = fs::read_to_string(&log_file).unwrap_or_default();
    let reason = log_text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or("it exited at once");
    let failure = Failure::new(Exit::of_status(status), reason);
    let remedy = log_text.lines().rev().find_map(|line| line.strip_prefix("help: "));
    Err(match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    })
}

fn status(directory: &SocketDirectory, cx: &Context<'_>) -> Result<Exit, Failure> {
    let states = [Endpoint::Ssh, Endpoint::Api]
        .map(|endpoint| (endpoint, directory.socket(endpoint), directory.state(endpoint)));
    let process = directory.running();
    let mut lines = vec![match process {
        Some(process) => format!("An agent runs (process {process})."),
        None => "No agent runs.".to_owned(),
    }];
    lines.extend(
        states
            .iter()
            .map(|(endpoint, path, state)| format!("{}: {} ({})", endpoint.name(), path.display(), state_text(state))),
    );
    let sockets: serde_json::Map<_, _> = states
        .iter()
        .map(|(endpoint, path, state)| {
            (endpoint.name().to_owned(), json!({ "path": path.display().to_string(), "state": state_text(state) }))
        })
        .collect();
    let reported = process.and_then(|_| agent_status(directory, cx));
    let (locked, prompter, prompter_problem) =
        reported.map(|status| (Some(status.locked), status.prompter, status.prompter_problem)).unwrap_or_default();
    if locked == Some(true) {
        lines.push("It is locked: no key can be used. `ssh-add -X` unlocks it.".to_owned());
    }
    lines.extend(prompter.iter().map(|prompter| format!("It asks a person by {prompter}.")));
    lines.extend(prompter_problem.iter().map(|problem| format!("It {problem}.")));
    let value = json!({
        "process": process,
        "sockets": sockets,
        "locked": locked,
        "prompter": prompter,
        "prompter_problem": prompter_problem,
    });
    cx.output.answer(lines.join("\n"), &value)?;
    let all_live = states.iter().all(|(_, _, state)| *state == Ok(SocketState::Live));
    Ok(if all_live { Exit::Done } else { Exit::Absent })
}

/// The agent's status. `None` if nothing listens, or, with a warning, if the agent cannot be used:
/// it is another build, for example.
fn agent_status(directory: &SocketDirectory, cx: &Context<'_>) -> Option<AgentStatus> {
    let agent = AgentClient::at(&directory.socket(Endpoint::Api)).transpose()?;
    agent.and_then(|agent| agent.status()).inspect_err(|error| cx.output.warning(error)).ok()
}

fn state_text(state: &Result<SocketState, SocketProblem>) -> &str {
    match state {
        Ok(SocketState::Absent) => "absent",
        Ok(SocketState::Live) => "live",
        Ok(SocketState::Stale) => "stale",
        Err(problem) => &problem.reason,
    }
}

/// Logs off by the SSH agent protocol, which every version of the agent understands.
fn log_off(directory: &SocketDirectory, cx: &Context<'_>) -> Result<Exit, Failure> {
    let connected = ipc::connect(&directory.socket(Endpoint::Ssh));
    let connected = connected.map_err(|error| Failure::fault(format!("cannot reach the agent: {error}")))?;
    let Some(mut stream) = connected else { return Err(AgentProcessError::NotRunning.into()) };
    let failed = |error: io::Error| Failure::fault(format!("cannot log off: the agent does not answer ({error})"));
    let mut answer = [0; 5];
    stream.set_read_timeout(Some(STOP_TIMEOUT)).map_err(failed)?;
    stream.write_all(&REMOVE_ALL).and_then(|()| stream.read_exact(&mut answer)).map_err(failed)?;
    if answer != SUCCESS {
        return Err(Failure::fault("cannot log off: the agent refused").with_remedy("`tokenkeep agent stop` stops it"));
    }
    cx.output.answer("Logged off.", &json!({ "logged_off": true }))
}

fn stop(directory: &SocketDirectory, cx: &Context<'_>) -> Result<Exit, Failure> {
    let process = directory.running().and_then(Pid::from_raw).ok_or(AgentProcessError::NotRunning)?;
    let failed = |error: rustix::io::Errno| Failure::fault(format!("cannot stop the agent: {error}"));
    let handle = pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
    // The pidfd refers to the agent only if the agent still holds its lock now.
    if directory.running() != Some(process.as_raw_nonzero().get()) {
        return Err(AgentProcessError::NotRunning.into());
    }
    pidfd_send_signal(&handle, Signal::TERM).map_err(failed)?;
    let started = Instant::now();
    while directory.running().is_some() {
        if started.elapsed() > STOP_TIMEOUT {
            return Err(Failure::fault(format!(
                "cannot stop the agent: process {} does not exit",
                process.as_raw_nonzero()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    cx.output.answer("Stopped.", &json!({ "stopped": process.as_raw_nonzero().get() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_paths_unchanged() {
        for path in ["/run/user/1000/tokenkeep/agent/ssh.sock", "/a b/$(id)/`x`/it's", "/\"quoted\"/\\n;&|"] {
            let output = Process::new("sh")
                .args(["-c", &format!("SOCK={}; export SOCK; printf %s \"$SOCK\"", quoted(Path::new(path)))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
        }
    }
}
