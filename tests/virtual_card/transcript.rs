//! The transcript: all commands and responses, without secrets, one line each.

use std::fmt;

use super::apdu::{Command, Status, instruction};
use super::management_key::MANAGEMENT_KEY;
use super::objects::{object_tag, tag};
use super::tlv::{elements, find};

/// A command and its response.
#[derive(Clone, Debug)]
pub struct Entry {
    pub instruction: u8,
    pub p1: u8,
    pub p2: u8,
    /// Whether more data followed in another command.
    pub is_chained: bool,
    /// Length of the data of the command, in bytes.
    pub sent: usize,
    /// Length of the data of the response, in bytes.
    pub received: usize,
    /// The status; none if the card was pulled.
    pub status: Option<Status>,
    /// How requests for a touch ended during the command.
    pub touches: Vec<bool>,
    // The data of the command and of the response; none if they may be secret.
    command: Option<Vec<u8>>,
    response: Option<Vec<u8>>,
}

impl Entry {
    fn new(command: &Command, response: &[u8], status: Option<Status>, touches: &[bool]) -> Self {
        Self {
            instruction: command.instruction,
            p1: command.p1,
            p2: command.p2,
            is_chained: command.is_chained(),
            sent: command.data.len(),
            received: response.len(),
            status,
            touches: touches.to_vec(),
            command: None,
            response: None,
        }
    }

    /// The entry with all data that are no secret, in hexadecimal.
    pub fn with_data(&self) -> String {
        let shown = |data: &Option<Vec<u8>>| data.as_ref().map_or("secret".to_owned(), hex::encode);
        format!("{self} | {} | {}", shown(&self.command), shown(&self.response))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02x} {:02x}", name(self.instruction), self.p1, self.p2)?;
        let data = self.command.as_deref().unwrap_or_default();
        match self.instruction {
            instruction::SELECT => write!(f, " {}", hex::encode(data))?,
            instruction::GET_DATA | instruction::PUT_DATA => {
                if let Some(tag) = requested_object(data) {
                    write!(f, " {tag:x}")?;
                }
            }
            _ => {}
        }
        if self.sent > 0 {
            write!(f, " [{}]", self.sent)?;
        }
        if self.is_chained {
            write!(f, " …")?;
        }
        for is_touched in &self.touches {
            write!(f, "{}", if *is_touched { " touched" } else { " not touched" })?;
        }
        write!(f, " →")?;
        if self.received > 0 {
            write!(f, " [{}]", self.received)?;
        }
        match self.status {
            Some(status) => write!(f, " {status}"),
            None => write!(f, " pulled"),
        }
    }
}

/// All commands since the start or the last [`Self::clear`].
#[derive(Debug, Default)]
pub struct Transcript {
    entries: Vec<Entry>,
    is_secret: bool,
}

impl Transcript {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Number of completed commands with this instruction, whatever their status.
    pub fn count(&self, instruction: u8) -> usize {
        self.complete(instruction).count()
    }

    /// Number of verifications of a PIN, right or wrong. Requests for the number of tries do not
    /// count.
    pub fn verifications(&self) -> usize {
        self.complete(instruction::VERIFY).filter(|entry| entry.sent > 0).count()
    }

    /// Number of successful operations with a private key: signatures, decryptions, agreements.
    pub fn key_uses(&self) -> usize {
        let uses = self.complete(instruction::GENERAL_AUTHENTICATE).filter(|entry| entry.p2 != MANAGEMENT_KEY);
        uses.filter(|entry| entry.status.is_some_and(Status::is_success)).count()
    }

    /// Number of requests for a touch, with and without success.
    pub fn touches(&self) -> usize {
        self.entries.iter().map(|entry| entry.touches.len()).sum()
    }

    fn complete(&self, instruction: u8) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.instruction == instruction && !entry.is_chained)
    }

    /// Adds a command. `status` is none if the card was pulled.
    pub(super) fn add(&mut self, command: &Command, response: &[u8], status: Option<Status>, touches: &[bool]) {
        let mut entry = Entry::new(command, response, status, touches);
        // Only the first part of a chain says what the data are.
        let continues_chain = self.entries.last().is_some_and(|last| last.is_chained);
        if shows_command(command) && !continues_chain {
            entry.command = Some(command.data.clone());
        }
        // GET RESPONSE continues the response to the command before it.
        if command.instruction != instruction::GET_RESPONSE {
            self.is_secret = !shows_response(command);
        }
        if !self.is_secret {
            entry.response = Some(response.to_vec());
        }
        self.entries.push(entry);
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// Whether the data of a command may be shown. The list has commands without secrets: an unknown
/// one may have some.
fn shows_command(command: &Command) -> bool {
    let has_no_secret = matches!(
        command.instruction,
        instruction::SELECT
            | instruction::GET_RESPONSE
            | instruction::GET_DATA
            | instruction::GENERATE
            | instruction::MOVE_KEY
            | instruction::GET_METADATA
            | instruction::GET_SERIAL
            | instruction::ATTEST
            | instruction::GET_VERSION
    );
    // The first part of an object names it. Only printed information is a secret there: YubiKeys
    // keep a management key in it that the PIN protects.
    let is_public_object = command.instruction == instruction::PUT_DATA
        && requested_object(&command.data).is_some_and(|object| object != tag::PRINTED);
    has_no_secret || is_public_object
}

/// Whether the data of a response may be shown.
fn shows_response(command: &Command) -> bool {
    let is_secret_object = command.instruction == instruction::GET_DATA
        && requested_object(&command.data).is_none_or(|object| object == tag::PRINTED);
    shows_command(command) && !is_secret_object
}

/// The object that GET DATA or PUT DATA names. The element with the content may be incomplete.
fn requested_object(data: &[u8]) -> Option<u32> {
    let [0x5c, length, ..] = data else { return None };
    let named = data.get(..2 + usize::from(*length))?;
    object_tag(&find(&elements(named).ok()?, 0x5c)?).ok()
}

fn name(instruction: u8) -> String {
    let name = match instruction {
        instruction::VERIFY => "VERIFY",
        instruction::CHANGE_REFERENCE_DATA => "CHANGE REFERENCE DATA",
        instruction::RESET_RETRY_COUNTER => "RESET RETRY COUNTER",
        instruction::GENERATE => "GENERATE",
        instruction::GENERAL_AUTHENTICATE => "GENERAL AUTHENTICATE",
        instruction::SELECT => "SELECT",
        instruction::GET_RESPONSE => "GET RESPONSE",
        instruction::GET_DATA => "GET DATA",
        instruction::PUT_DATA => "PUT DATA",
        instruction::MOVE_KEY => "MOVE KEY",
        instruction::GET_METADATA => "GET METADATA",
        instruction::GET_SERIAL => "GET SERIAL",
        instruction::ATTEST => "ATTEST",
        instruction::SET_PIN_RETRIES => "SET PIN RETRIES",
        instruction::RESET => "RESET",
        instruction::GET_VERSION => "GET VERSION",
        instruction::IMPORT_KEY => "IMPORT KEY",
        instruction::SET_MANAGEMENT_KEY => "SET MANAGEMENT KEY",
        other => return format!("{other:02x}"),
    };
    name.to_owned()
}
