//! pinentry, the programs of `GnuPG` that ask for a PIN in a window (gtk, qt, gnome3) or on a
//! terminal (curses, tty).

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::assuan::{AssuanClient, AssuanResponse, command};
use super::prompt_process::PromptProcess;
use super::prompt_request::{PromptRequest, cut};
use super::terminal::{Terminal, flush_input};
use super::{PromptEnvironment, PrompterError};
use crate::token::Pin;

/// Program names in search order: the system's default, then programs with windows, then programs
/// for terminals.
const NAMES: &[&str] =
    &["pinentry", "pinentry-gnome3", "pinentry-gtk-2", "pinentry-qt", "pinentry-curses", "pinentry-tty"];

/// Maximum time for a pinentry to report its flavor.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Extra waiting time beyond the dialog's own timeout.
const EXIT_GRACE: Duration = Duration::from_secs(2);

// Error codes of libgpg-error.
const TIMEOUT: u32 = 62;
const CANCELED: u32 = 99;
const NOT_CONFIRMED: u32 = 114;
const FULLY_CANCELED: u32 = 198;

/// A pinentry that can prompt here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pinentry {
    program: PathBuf,
    flavor: String,
    tty: Option<PathBuf>,
}

impl Pinentry {
    /// Finds a pinentry that has a display or terminal; otherwise returns the reason.
    pub(super) fn find(path: Option<&Path>, environment: &PromptEnvironment) -> Result<Self, String> {
        // `GPG_TTY` is set only if agent.toml names the program (`Dialog::choose`).
        let named = environment.gpg_tty();
        let tty = if environment.variable("GPG_TTY").is_some() { named } else { environment.controlling_terminal() };
        if !environment.has_display()
            && let Err(reason) = &tty
        {
            return Err(format!("neither DISPLAY nor WAYLAND_DISPLAY is set, and {reason}"));
        }
        let probe = |program| Self::probe(program, tty.clone().ok(), environment);
        if let Some(path) = path {
            return environment.program(path).and_then(probe);
        }
        let programs: Vec<_> = NAMES.iter().filter_map(|name| environment.program(Path::new(name)).ok()).collect();
        let mut reasons = Vec::new();
        for program in programs {
            match probe(program) {
                Ok(found) => return Ok(found),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(if reasons.is_empty() { "no pinentry is in PATH".to_owned() } else { reasons.join("; ") })
    }

    fn probe(program: PathBuf, tty: Option<PathBuf>, environment: &PromptEnvironment) -> Result<Self, String> {
        let flavor = Self::flavor(&program, environment).map_err(|error| error.to_string())?;
        // A program with windows that finds no display reports, for example, `gtk2:curses`.
        let needs_terminal = flavor == "tty" || flavor.contains("curses");
        if needs_terminal && tty.is_none() {
            return Err(format!("{} needs a terminal, and the agent has none of its own", program.display()));
        }
        if !needs_terminal && !environment.has_display() && !flavor.is_empty() {
            return Err(format!("{} ({flavor}) needs a display", program.display()));
        }
        Ok(Self { program, flavor, tty })
    }

    /// The flavor: `curses`, `gtk2`, `gnome3:curses` …; empty if the program does not report it.
    fn flavor(program: &Path, environment: &PromptEnvironment) -> Result<String, PrompterError> {
        let mut running = PromptProcess::start(program, &[""; 0], &[], environment, "its kind")?;
        running.within(PROBE_TIMEOUT.min(environment.timeout()));
        let mut assuan_client = AssuanClient::begin(running)?;
        let flavor = match assuan_client.ask("GETINFO", "flavor")? {
            AssuanResponse::Done { data } => cut(&super::showable(&String::from_utf8_lossy(&data)), 40),
            AssuanResponse::Refused(..) => String::new(),
        };
        assuan_client.end();
        Ok(flavor)
    }

    pub(super) fn describe(&self) -> String {
        let kind = if self.flavor.is_empty() { String::new() } else { format!(" ({})", self.flavor) };
        let tty = self.tty.as_ref().map_or(String::new(), |tty| format!(", terminal {}", tty.display()));
        format!("pinentry {}{kind}{tty}", self.program.display())
    }

    pub(super) fn pin(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<Pin, PrompterError> {
        let (pin, assuan_client) = self.pin_and_keep_open(None, ask, environment)?;
        assuan_client.end();
        Ok(pin)
    }

    /// Asks for a PIN, using the kept connection if possible, and returns the connection: after a
    /// wrong PIN the same program asks again.
    pub(super) fn pin_and_keep_open(
        &self,
        open_client: Option<AssuanClient>,
        ask: &PromptRequest,
        environment: &PromptEnvironment,
    ) -> Result<(Pin, AssuanClient), PrompterError> {
        let resumed = open_client.and_then(|assuan_client| self.resume(assuan_client, ask, environment).ok());
        let mut assuan_client = match resumed {
            Some(assuan_client) => assuan_client,
            None => self.begin(ask, false, environment)?,
        };
        let pin = into_pin(&get(&mut assuan_client)?)?;
        assuan_client.0.pause();
        Ok((pin, assuan_client))
    }

    /// Returns whether a kept connection is usable. It is not if another program now reads from the
    /// terminal.
    pub(super) fn is_reusable(&self, assuan_client: &AssuanClient) -> bool {
        assuan_client.0.is_running() && self.tty.as_ref().is_none_or(|tty| Terminal::open_to_ask(tty).is_ok())
    }

    /// Sends the next text to a program that has already answered.
    fn resume(
        &self,
        mut assuan_client: AssuanClient,
        ask: &PromptRequest,
        environment: &PromptEnvironment,
    ) -> Result<AssuanClient, PrompterError> {
        assuan_client.0.resume(environment);
        assuan_client.0.within(environment.timeout().saturating_add(EXIT_GRACE));
        if let Some(tty) = &self.tty {
            flush_input(tty);
        }
        tell(&mut assuan_client, ask, false)?;
        Ok(assuan_client)
    }

    pub(super) fn confirm(&self, ask: &PromptRequest, environment: &PromptEnvironment) -> Result<bool, PrompterError> {
        let mut assuan_client = self.begin(ask, true, environment)?;
        for (name, text) in [("SETOK", "Yes"), ("SETNOTOK", "No"), ("SETCANCEL", "Cancel")] {
            assuan_client.send_expecting_ok(name, text)?;
        }
        let answer = match assuan_client.ask("CONFIRM", "")? {
            AssuanResponse::Done { .. } => true,
            AssuanResponse::Refused(NOT_CONFIRMED, _) => false,
            AssuanResponse::Refused(code, text) => return Err(no_answer(&assuan_client, code, &text)),
        };
        assuan_client.end();
        Ok(answer)
    }

    /// Starts the program and sends the text. Does not offer the desktop's password cache
    /// (`SETKEYINFO`, `allow-external-password-cache`): a PIN is typed for one use.
    fn begin(
        &self,
        ask: &PromptRequest,
        confirm: bool,
        environment: &PromptEnvironment,
    ) -> Result<AssuanClient, PrompterError> {
        let mut running = PromptProcess::start(&self.program, &[""; 0], &[], environment, &ask.what())?;
        running.within(environment.timeout().saturating_add(EXIT_GRACE));
        let mut assuan_client = AssuanClient::begin(running)?;
        let variable = |name: &str| environment.variable(name).and_then(|value| value.to_str());
        if let Some(tty) = self.tty.as_ref().and_then(|tty| tty.to_str()) {
            flush_input(Path::new(tty));
            assuan_client.send_expecting_ok("OPTION", &format!("ttyname={tty}"))?;
            assuan_client.send_expecting_ok("OPTION", &format!("ttytype={}", variable("TERM").unwrap_or("dumb")))?;
        }
        let locale = |category: &str| ["LC_ALL", category, "LANG"].iter().find_map(|name| variable(name));
        let is_utf8 = |locale: &&str| locale.to_uppercase().replace('-', "").contains("UTF8");
        // Without UTF-8, pinentry-curses shows nothing if a name contains an umlaut.
        let characters = locale("LC_CTYPE").filter(is_utf8).unwrap_or("C.UTF-8");
        // Some programs refuse unknown options; these are not essential.
        assuan_client.ask("OPTION", &format!("lc-ctype={characters}"))?;
        if let Some(messages) = locale("LC_MESSAGES") {
            assuan_client.ask("OPTION", &format!("lc-messages={messages}"))?;
        }
        assuan_client.ask("SETTIMEOUT", &environment.timeout().as_secs().max(1).to_string())?;
        assuan_client.send_expecting_ok("SETTITLE", "tokenkeep")?;
        tell(&mut assuan_client, ask, confirm)?;
        Ok(assuan_client)
    }
}

/// Sends the text of the prompt.
fn tell(assuan_client: &mut AssuanClient, ask: &PromptRequest, confirm: bool) -> Result<(), PrompterError> {
    let mut lines = ask.text();
    if confirm {
        // Not every pinentry shows SETERROR in a confirmation.
        lines.extend(ask.warning());
        lines.push(ask.prompt());
    } else {
        assuan_client.send_expecting_ok("SETPROMPT", &format!("{}:", ask.prompt()))?;
        if let Some(warning) = ask.warning() {
            assuan_client.send_expecting_ok("SETERROR", &plain(&warning))?;
        }
    }
    assuan_client.send_expecting_ok("SETDESC", &description(&lines))
}

/// Shortens each line until the text fits into one command.
fn description(lines: &[String]) -> String {
    let cut_to = |longest: usize| lines.iter().map(|line| plain(&cut(line, longest))).collect::<Vec<_>>().join("\n");
    let lengths = (1..=20).rev().map(|tens| tens * 10);
    lengths.map(cut_to).find(|text| command("SETDESC", text).is_some()).unwrap_or_default()
}

/// Replaces angle brackets: Qt would interpret a text with a tag as rich text.
fn plain(text: &str) -> String {
    text.replace('<', "(").replace('>', ")")
}

/// Asks for a PIN. Returns the input.
fn get(assuan_client: &mut AssuanClient) -> Result<Zeroizing<Vec<u8>>, PrompterError> {
    match assuan_client.ask("GETPIN", "")? {
        AssuanResponse::Done { data } if data.is_empty() => Err(assuan_client.0.cancelled()),
        AssuanResponse::Done { data } => Ok(data),
        AssuanResponse::Refused(code, text) => Err(no_answer(assuan_client, code, &text)),
    }
}

fn no_answer(assuan_client: &AssuanClient, code: u32, text: &str) -> PrompterError {
    match code {
        CANCELED | FULLY_CANCELED | NOT_CONFIRMED => assuan_client.0.cancelled(),
        TIMEOUT => assuan_client.0.no_answer(),
        _ => assuan_client.refused(code, text),
    }
}

/// Converts typed bytes into a PIN.
pub(super) fn into_pin(typed: &[u8]) -> Result<Pin, PrompterError> {
    let text = str::from_utf8(typed).map_err(|_| PrompterError::NotUtf8)?;
    Ok(Pin::new(text.to_owned())?)
}
