//! Command and response APDUs (ISO/IEC 7816-4): short and extended length, command chaining, and
//! long responses in pieces.

use std::fmt;

/// Largest response to a command of short length, in bytes.
const SHORT_RESPONSE: usize = 256;
/// Largest response to a command of extended length, in bytes.
const EXTENDED_RESPONSE: usize = 65536;
/// Largest data of a chain of commands, in bytes: the buffer of a YubiKey.
const MAX_CHAIN: usize = 3072;

/// Instruction bytes: first those of SP 800-73-4 part 2, then those of YubiKeys, as published in
/// the APDU pages of Yubico's .NET SDK manual.
pub mod instruction {
    pub const VERIFY: u8 = 0x20;
    pub const CHANGE_REFERENCE_DATA: u8 = 0x24;
    pub const RESET_RETRY_COUNTER: u8 = 0x2c;
    pub const GENERATE: u8 = 0x47;
    pub const GENERAL_AUTHENTICATE: u8 = 0x87;
    pub const SELECT: u8 = 0xa4;
    pub const GET_RESPONSE: u8 = 0xc0;
    pub const GET_DATA: u8 = 0xcb;
    pub const PUT_DATA: u8 = 0xdb;

    pub const MOVE_KEY: u8 = 0xf6;
    pub const GET_METADATA: u8 = 0xf7;
    pub const GET_SERIAL: u8 = 0xf8;
    pub const ATTEST: u8 = 0xf9;
    pub const SET_PIN_RETRIES: u8 = 0xfa;
    pub const RESET: u8 = 0xfb;
    pub const GET_VERSION: u8 = 0xfd;
    pub const IMPORT_KEY: u8 = 0xfe;
    pub const SET_MANAGEMENT_KEY: u8 = 0xff;
}

/// The two status bytes of a response (ISO/IEC 7816-4 section 5.6; SP 800-73-4 part 2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    pub const OK: Self = Self(0x9000);
    pub const NOT_PERMITTED: Self = Self(0x6982);
    pub const BLOCKED: Self = Self(0x6983);
    pub const CONDITIONS_NOT_SATISFIED: Self = Self(0x6985);
    pub const WRONG_LENGTH: Self = Self(0x6700);
    pub const LAST_OF_CHAIN_EXPECTED: Self = Self(0x6883);
    pub const WRONG_DATA: Self = Self(0x6a80);
    pub const NOT_FOUND: Self = Self(0x6a82);
    pub const NOT_ENOUGH_MEMORY: Self = Self(0x6a84);
    pub const WRONG_PARAMETERS: Self = Self(0x6a86);
    pub const NO_SUCH_KEY: Self = Self(0x6a88);
    pub const NO_SUCH_INSTRUCTION: Self = Self(0x6d00);
    pub const NO_SUCH_CLASS: Self = Self(0x6e00);

    /// `63Cx`: a wrong PIN or PUK, with this number of remaining tries.
    pub fn tries_left(tries: u8) -> Self {
        Self(0x63c0 | u16::from(tries.min(15)))
    }

    /// `61xx`: more bytes of the response are available. 0 means 256 or more.
    fn more(bytes: usize) -> Self {
        Self(0x6100 | u16::from(u8::try_from(bytes).unwrap_or(0)))
    }

    /// Whether the command was carried out; a response in pieces also counts.
    pub fn is_success(self) -> bool {
        self == Self::OK || self.0 & 0xff00 == 0x6100
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A command APDU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub class: u8,
    pub instruction: u8,
    pub p1: u8,
    pub p2: u8,
    pub data: Vec<u8>,
    /// The largest permitted response, in bytes. Without the field Le: what fits into a response of
    /// the command's kind of length, because cards answer such commands completely.
    pub max_response: usize,
}

impl Command {
    /// Parses the cases 1 to 4 of ISO/IEC 7816-4 section 5.1, short and extended.
    pub fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let [class, instruction, p1, p2, body @ ..] = bytes else { return Err(Status::WRONG_LENGTH) };
        let (data, max_response): (&[u8], usize) = match body {
            [] => (&[], SHORT_RESPONSE),
            [expected] => (&[], short_expectation(*expected)),
            [0, high, low] => (&[], extended_expectation(*high, *low)),
            [0, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let (data, end) = rest.split_at_checked(length).ok_or(Status::WRONG_LENGTH)?;
                match end {
                    [] => (data, EXTENDED_RESPONSE),
                    [high, low] => (data, extended_expectation(*high, *low)),
                    _ => return Err(Status::WRONG_LENGTH),
                }
            }
            [length, rest @ ..] => {
                let (data, end) = rest.split_at_checked(usize::from(*length)).ok_or(Status::WRONG_LENGTH)?;
                match end {
                    [] => (data, SHORT_RESPONSE),
                    [expected] => (data, short_expectation(*expected)),
                    _ => return Err(Status::WRONG_LENGTH),
                }
            }
        };
        let data = data.to_vec();
        Ok(Self { class: *class, instruction: *instruction, p1: *p1, p2: *p2, data, max_response })
    }

    /// Whether more data follow in another command.
    pub fn is_chained(&self) -> bool {
        self.class & 0x10 != 0
    }

    fn header(&self) -> [u8; 3] {
        [self.instruction, self.p1, self.p2]
    }
}

/// The field Le of one byte: 0 means 256.
fn short_expectation(field: u8) -> usize {
    if field == 0 { SHORT_RESPONSE } else { usize::from(field) }
}

/// The field Le of two bytes: 0 means 65,536.
fn extended_expectation(high: u8, low: u8) -> usize {
    match u16::from_be_bytes([high, low]) {
        0 => EXTENDED_RESPONSE,
        length => usize::from(length),
    }
}

/// Splits data into commands of at most 255 bytes of data, as a host that uses command chaining.
pub fn chain(instruction: u8, p1: u8, p2: u8, data: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<&[u8]> = data.chunks(255).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let command = |(index, piece): (usize, &&[u8])| {
        let class = if index < last { 0x10 } else { 0x00 };
        let mut command = vec![class, instruction, p1, p2];
        if !piece.is_empty() {
            command.push(u8::try_from(piece.len()).unwrap());
            command.extend(*piece);
        }
        if index == last {
            command.push(0);
        }
        command
    };
    pieces.iter().enumerate().map(command).collect()
}

/// The commands of a chain so far (ISO/IEC 7816-4 section 5.3.3).
#[derive(Debug, Default)]
pub struct CommandChain {
    begun: Option<([u8; 3], Vec<u8>)>,
}

impl CommandChain {
    /// Adds a command. Returns the complete one, or `None` if more follow.
    pub fn add(&mut self, mut command: Command) -> Result<Option<Command>, Status> {
        let mut data = match self.begun.take() {
            Some((header, data)) if header == command.header() => data,
            // Another command in the middle of a chain ends it, and is refused if it begins none.
            Some(_) if !command.is_chained() => return Err(Status::LAST_OF_CHAIN_EXPECTED),
            _ => Vec::new(),
        };
        data.append(&mut command.data);
        if data.len() > MAX_CHAIN {
            return Err(Status::WRONG_LENGTH);
        }
        if command.is_chained() {
            self.begun = Some((command.header(), data));
            return Ok(None);
        }
        command.data = data;
        Ok(Some(command))
    }
}

/// The rest of a response that was too long for its command (GET RESPONSE).
#[derive(Debug, Default)]
pub struct PendingResponse {
    rest: Vec<u8>,
}

impl PendingResponse {
    /// Cuts the response to the permitted length. The rest waits for GET RESPONSE.
    pub fn cut(&mut self, mut response: Vec<u8>, max_response: usize) -> (Vec<u8>, Status) {
        self.rest = if response.len() > max_response { response.split_off(max_response) } else { Vec::new() };
        let status = if self.rest.is_empty() { Status::OK } else { Status::more(self.rest.len()) };
        (response, status)
    }

    /// The next piece.
    pub fn next(&mut self, max_response: usize) -> (Vec<u8>, Status) {
        if self.rest.is_empty() {
            return (Vec::new(), Status::CONDITIONS_NOT_SATISFIED);
        }
        let rest = std::mem::take(&mut self.rest);
        self.cut(rest, max_response)
    }

    pub fn clear(&mut self) {
        self.rest.clear();
    }
}
