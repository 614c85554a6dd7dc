//! pinentry, the programs of `GnuPG` that ask for a PIN in a window (gtk, qt, gnome3) or on a
//! terminal (curses, tty).

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::ask::{Ask, cut};
use super::assuan::{Answer, Conversation, command};
use super::child::Running;
use super::terminal::{Terminal, forget_what_was_typed_ahead};
use super::{Environment, NEW_PIN_ROUNDS, PrompterError};
use crate::token::Pin;

/// Program names in search order: the system's default, then programs with windows, then programs
/// for terminals.
const NAMES: &[&str] =
    &["pinentry", "pinentry-gnome3", "pinentry-gtk-2", "pinentry-qt", "pinentry-curses", "pinentry-tty"];

/// Maximum time for a pinentry to report its flavor.
const PROBE: Duration = Duration::from_secs(5);

/// Extra waiting time beyond the dialog's own timeout.
const GRACE: Duration = Duration::from_secs(2);

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
    pub(super) fn find(path: Option<&Path>, environment: &Environment) -> Result<Self, String> {
        // `GPG_TTY` is set only if agent.toml names the program (`Dialog::choose`).
        let named = environment.gpg_tty();
        let tty = if environment.variable("GPG_TTY").is_some() { named } else { environment.own_terminal() };
        if !environment.has_display()
            && let Err(reason) = &tty
        {
            return Err(format!("neither DISPLAY nor WAYLAND_DISPLAY is set, and {reason}"));
        }
        let probe = |program| Self::probe(program, tty.clone().ok(), environment);
        if let Some(path) = path {
            return environment.program(path).and_then(probe);
        }
        let there: Vec<_> = NAMES.iter().filter_map(|name| environment.program(Path::new(name)).ok()).collect();
        let mut reasons = Vec::new();
        for program in there {
            match probe(program) {
                Ok(found) => return Ok(found),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(if reasons.is_empty() { "no pinentry is in PATH".to_owned() } else { reasons.join("; ") })
    }

    fn probe(program: PathBuf, tty: Option<PathBuf>, environment: &Environment) -> Result<Self, String> {
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
    fn flavor(program: &Path, environment: &Environment) -> Result<String, PrompterError> {
        let mut running = Running::start(program, &[""; 0], &[], environment, "its kind")?;
        running.within(PROBE.min(environment.patience()));
        let mut conversation = Conversation::begin(running)?;
        let flavor = match conversation.ask("GETINFO", "flavor")? {
            Answer::Done { data, .. } => cut(&super::showable(&String::from_utf8_lossy(&data)), 40),
            Answer::Refused(..) => String::new(),
        };
        conversation.end();
        Ok(flavor)
    }

    pub(super) fn describe(&self) -> String {
        let kind = if self.flavor.is_empty() { String::new() } else { format!(" ({})", self.flavor) };
        let tty = self.tty.as_ref().map_or(String::new(), |tty| format!(", terminal {}", tty.display()));
        format!("pinentry {}{kind}{tty}", self.program.display())
    }

    pub(super) fn pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        let (pin, conversation) = self.pin_keeping(None, ask, environment)?;
        conversation.end();
        Ok(pin)
    }

    /// Asks for a PIN, using the kept connection if possible, and returns the connection: a user
    /// who typed a wrong PIN is asked again by the same program.
    pub(super) fn pin_keeping(
        &self,
        kept: Option<Conversation>,
        ask: &Ask,
        environment: &Environment,
    ) -> Result<(Pin, Conversation), PrompterError> {
        let resumed = kept.and_then(|conversation| self.resume(conversation, ask, environment).ok());
        let mut conversation = match resumed {
            Some(conversation) => conversation,
            None => self.begin(ask, false, environment)?,
        };
        let (typed, _) = get(&mut conversation)?;
        let pin = into_pin(&typed)?;
        conversation.0.pause();
        Ok((pin, conversation))
    }

    /// Returns whether a kept connection is usable. It is not if another program now reads from the
    /// terminal.
    pub(super) fn goes_on(&self, conversation: &Conversation) -> bool {
        conversation.0.is_running() && self.tty.as_ref().is_none_or(|tty| Terminal::open_to_ask(tty).is_ok())
    }

    /// Sends the next text to a program that has already answered.
    fn resume(
        &self,
        mut conversation: Conversation,
        ask: &Ask,
        environment: &Environment,
    ) -> Result<Conversation, PrompterError> {
        conversation.0.resume(environment);
        conversation.0.within(environment.patience().saturating_add(GRACE));
        if let Some(tty) = &self.tty {
            forget_what_was_typed_ahead(tty);
        }
        tell(&mut conversation, ask, false)?;
        Ok(conversation)
    }

    /// Some programs ask twice themselves and report it (`PIN_REPEATED`); the others are asked
    /// twice.
    pub(super) fn new_pin(&self, ask: &Ask, environment: &Environment) -> Result<Pin, PrompterError> {
        let mut conversation = self.begin(ask, false, environment)?;
        for _ in 0..NEW_PIN_ROUNDS {
            conversation.must("SETPROMPT", &format!("{}:", ask.prompt()))?;
            // Unknown to some programs, which are asked a second time below.
            conversation.ask("SETREPEAT", "Once more:")?;
            conversation.ask("SETREPEATERROR", "The two entries differ.")?;
            let (first, repeated) = get(&mut conversation)?;
            let same = repeated || {
                conversation.must("SETPROMPT", "Once more:")?;
                get(&mut conversation)?.0 == first
            };
            if same {
                conversation.end();
                return into_pin(&first);
            }
            conversation.must("SETERROR", "The two entries differ.")?;
        }
        conversation.end();
        Err(PrompterError::Differ)
    }

    pub(super) fn confirm(&self, ask: &Ask, environment: &Environment) -> Result<bool, PrompterError> {
        let mut conversation = self.begin(ask, true, environment)?;
        for (name, text) in [("SETOK", "Yes"), ("SETNOTOK", "No"), ("SETCANCEL", "Cancel")] {
            conversation.must(name, text)?;
        }
        let answer = match conversation.ask("CONFIRM", "")? {
            Answer::Done { .. } => true,
            Answer::Refused(NOT_CONFIRMED, _) => false,
            Answer::Refused(code, text) => return Err(no_answer(&conversation, code, &text)),
        };
        conversation.end();
        Ok(answer)
    }

    /// Starts the program and sends the text. Does not offer the desktop's password cache
    /// (`SETKEYINFO`, `allow-external-password-cache`): a PIN is typed for one use.
    fn begin(&self, ask: &Ask, confirm: bool, environment: &Environment) -> Result<Conversation, PrompterError> {
        let mut running = Running::start(&self.program, &[""; 0], &[], environment, &ask.what())?;
        running.within(environment.patience().saturating_add(GRACE));
        let mut conversation = Conversation::begin(running)?;
        let variable = |name: &str| environment.variable(name).and_then(|value| value.to_str());
        if let Some(tty) = self.tty.as_ref().and_then(|tty| tty.to_str()) {
            forget_what_was_typed_ahead(Path::new(tty));
            conversation.must("OPTION", &format!("ttyname={tty}"))?;
            conversation.must("OPTION", &format!("ttytype={}", variable("TERM").unwrap_or("dumb")))?;
        }
        let locale = |category: &str| ["LC_ALL", category, "LANG"].iter().find_map(|name| variable(name));
        let is_utf8 = |locale: &&str| locale.to_uppercase().replace('-', "").contains("UTF8");
        // Without UTF-8, pinentry-curses shows nothing if a name contains an umlaut.
        let characters = locale("LC_CTYPE").filter(is_utf8).unwrap_or("C.UTF-8");
        // Some programs refuse unknown options; these are not essential.
        conversation.ask("OPTION", &format!("lc-ctype={characters}"))?;
        if let Some(messages) = locale("LC_MESSAGES") {
            conversation.ask("OPTION", &format!("lc-messages={messages}"))?;
        }
        conversation.ask("SETTIMEOUT", &environment.patience().as_secs().max(1).to_string())?;
        conversation.must("SETTITLE", "tokenkeep")?;
        tell(&mut conversation, ask, confirm)?;
        Ok(conversation)
    }
}

/// Sends the text of the prompt.
fn tell(conversation: &mut Conversation, ask: &Ask, confirm: bool) -> Result<(), PrompterError> {
    let mut lines = ask.text();
    if confirm {
        // Not every pinentry shows SETERROR in a confirmation.
        lines.extend(ask.warning());
        lines.push(ask.prompt());
    } else {
        conversation.must("SETPROMPT", &format!("{}:", ask.prompt()))?;
        if let Some(warning) = ask.warning() {
            conversation.must("SETERROR", &plain(&warning))?;
        }
    }
    conversation.must("SETDESC", &description(&lines))
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

/// Asks for a PIN. Returns the input, and whether the program asked twice.
fn get(conversation: &mut Conversation) -> Result<(Zeroizing<Vec<u8>>, bool), PrompterError> {
    match conversation.ask("GETPIN", "")? {
        Answer::Done { data, .. } if data.is_empty() => Err(conversation.0.cancelled()),
        Answer::Done { data, status } => Ok((data, status.iter().any(|keyword| keyword == "PIN_REPEATED"))),
        Answer::Refused(code, text) => Err(no_answer(conversation, code, &text)),
    }
}

fn no_answer(conversation: &Conversation, code: u32, text: &str) -> PrompterError {
    match code {
        CANCELED | FULLY_CANCELED | NOT_CONFIRMED => conversation.0.cancelled(),
        TIMEOUT => conversation.0.nobody(),
        _ => conversation.refused(code, text),
    }
}

/// Converts typed bytes into a PIN.
pub(super) fn into_pin(typed: &[u8]) -> Result<Pin, PrompterError> {
    let text = str::from_utf8(typed).map_err(|_| PrompterError::NotUtf8)?;
    Ok(Pin::new(text.to_owned())?)
}
