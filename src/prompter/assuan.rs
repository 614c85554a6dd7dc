//! Assuan, pinentry's protocol: each command is a line, and each response is a series of lines that
//! ends with `OK` or `ERR` (libassuan manual, "Client requests" and "Server responses").
//!
//! The crate `pinentry` is not used: it reads lines and waits without a limit, leaves copies of the
//! PIN in buffers, panics on a long text, and ignores an `INQUIRE`, which then blocks forever.

use zeroize::Zeroizing;

use super::PrompterError;
use super::prompt_process::PromptProcess;

/// Maximum line length in bytes, without the line end.
pub(super) const MAX_LINE_LEN: usize = 1_000;

/// Maximum number of lines in one response.
const MAX_LINES: usize = 64;

/// Maximum number of data bytes in one response. A PIN has at most 255 bytes, each of which may be
/// encoded as three.
const MAX_DATA_BYTES: usize = 1_024;

/// Encodes a command line; `None` if it would be too long.
pub(super) fn command(name: &str, text: &str) -> Option<String> {
    // Some implementations treat a trailing backslash as a line continuation.
    let text: String = text
        .chars()
        .map(|character| match character {
            '%' | '\n' | '\r' | '\\' => format!("%{:02X}", u32::from(character)),
            other => other.to_string(),
        })
        .collect();
    let line = if text.is_empty() { name.to_owned() } else { format!("{name} {text}") };
    (line.len() <= MAX_LINE_LEN).then_some(line)
}

/// One line of a response.
#[derive(PartialEq, Eq)]
pub(super) enum AssuanLine {
    /// The command succeeded.
    Ok,
    /// The command failed: libgpg-error's code without the error source, and its text.
    Err(u32, String),
    /// A part of the data.
    Data(Zeroizing<Vec<u8>>),
    /// A status line, to be ignored.
    Status,
    /// A comment, to be ignored.
    Comment,
}

/// Parses one line strictly. Returns `None` for anything that is not part of a response, including
/// `INQUIRE`: this client never offers data.
pub(super) fn line(bytes: &[u8]) -> Option<AssuanLine> {
    if bytes.first() == Some(&b'#') {
        return Some(AssuanLine::Comment);
    }
    let (word, rest) = match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (bytes.get(..at)?, bytes.get(at + 1..)?),
        None => (bytes, &b""[..]),
    };
    match word {
        b"OK" => Some(AssuanLine::Ok),
        b"ERR" => {
            let text = str::from_utf8(rest).ok()?;
            let (code, description) = text.split_once(' ').unwrap_or((text, ""));
            Some(AssuanLine::Err(code.parse::<u32>().ok()? & 0xffff, description.trim().to_owned()))
        }
        b"D" => decode(rest).map(AssuanLine::Data),
        b"S" => str::from_utf8(rest).ok().map(|_| AssuanLine::Status),
        _ => None,
    }
}

fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut data = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter();
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => data.push(digit(bytes.next())? << 4 | digit(bytes.next())?),
            other => data.push(*other),
        }
    }
    Some(data)
}

/// The response to a command.
pub(super) enum AssuanResponse {
    /// Success.
    Done {
        /// the data; empty if the command returns none
        data: Zeroizing<Vec<u8>>,
    },
    /// Failure, with libgpg-error's code and text.
    Refused(u32, String),
}

/// A connection to a running program.
pub(super) struct AssuanClient(pub(super) PromptProcess);

impl AssuanClient {
    /// Reads the greeting: the program sends `OK` first.
    pub(super) fn begin(running: PromptProcess) -> Result<Self, PrompterError> {
        let mut this = Self(running);
        match this.answer()? {
            AssuanResponse::Done { .. } => Ok(this),
            AssuanResponse::Refused(code, text) => Err(this.refused(code, &text)),
        }
    }

    /// Sends a command and reads the response.
    pub(super) fn ask(&mut self, name: &str, text: &str) -> Result<AssuanResponse, PrompterError> {
        let line = command(name, text).ok_or_else(|| self.0.fails(format!("the text for {name} is too long")))?;
        self.0.tell(format!("{line}\n").as_bytes());
        self.answer()
    }

    /// Sends a command that must succeed.
    pub(super) fn send_expecting_ok(&mut self, name: &str, text: &str) -> Result<(), PrompterError> {
        match self.ask(name, text)? {
            AssuanResponse::Done { .. } => Ok(()),
            AssuanResponse::Refused(code, text) => Err(self.refused(code, &text)),
        }
    }

    /// Reports a failure that is neither a no nor a cancellation.
    pub(super) fn refused(&self, code: u32, text: &str) -> PrompterError {
        let text = super::prompt_request::cut(&super::showable(text), 80);
        self.0.fails(if text.is_empty() { format!("error {code}") } else { format!("error {code}, {text}") })
    }

    /// Sends `BYE` and lets the program exit by itself.
    pub(super) fn end(mut self) {
        self.0.tell(b"BYE\n");
        self.0.mark_done();
    }

    fn answer(&mut self) -> Result<AssuanResponse, PrompterError> {
        let mut data = Zeroizing::new(Vec::with_capacity(MAX_DATA_BYTES));
        for _ in 0..MAX_LINES {
            let Some(bytes) = self.0.line(MAX_LINE_LEN)? else {
                return Err(self.0.fails("it exited during the dialog"));
            };
            match line(&bytes) {
                Some(AssuanLine::Ok) => return Ok(AssuanResponse::Done { data }),
                // Omit the text after data was received, so that no message contains a part of a
                // PIN.
                Some(AssuanLine::Err(code, _)) if !data.is_empty() => {
                    return Ok(AssuanResponse::Refused(code, String::new()));
                }
                Some(AssuanLine::Err(code, text)) => return Ok(AssuanResponse::Refused(code, text)),
                Some(AssuanLine::Data(more)) if data.len() + more.len() <= MAX_DATA_BYTES => {
                    data.extend_from_slice(&more);
                }
                Some(AssuanLine::Data(_)) => {
                    return Err(self.0.fails(format!("its response is longer than {MAX_DATA_BYTES} bytes")));
                }
                Some(AssuanLine::Status | AssuanLine::Comment) => {}
                None => return Err(self.0.fails("it does not speak Assuan, pinentry's protocol")),
            }
        }
        Err(self.0.fails(format!("its response has more than {MAX_LINES} lines")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_a_second_command() {
        assert_eq!(command("SETDESC", "a\nGETPIN\r\n100 %").unwrap(), "SETDESC a%0AGETPIN%0D%0A100 %25");
        assert_eq!(command("SETDESC", "end\\").unwrap(), "SETDESC end%5C");
        assert_eq!(command("GETPIN", "").unwrap(), "GETPIN");
        assert_eq!(command("SETDESC", "Jürgen").unwrap(), "SETDESC Jürgen");
    }

    #[test]
    fn a_line_is_never_too_long() {
        assert_eq!(command("X", &"a".repeat(998)).unwrap().len(), 1_000);
        assert!(command("X", &"a".repeat(999)).is_none());
        assert!(command("X", &"%".repeat(400)).is_none());
    }

    #[test]
    fn lines_of_an_answer_are_read() {
        assert!(line(b"OK") == Some(AssuanLine::Ok) && line(b"OK closing connection") == Some(AssuanLine::Ok));
        assert!(line(b"# anything \xff") == Some(AssuanLine::Comment));
        assert!(line(b"S PIN_REPEATED") == Some(AssuanLine::Status));
        let cancelled = AssuanLine::Err(99, "Operation cancelled <Pinentry>".to_owned());
        assert!(line(b"ERR 83886179 Operation cancelled <Pinentry>") == Some(cancelled));
        assert!(line(b"ERR 83886194") == Some(AssuanLine::Err(114, String::new())));
        let data = |bytes: &[u8]| Some(AssuanLine::Data(Zeroizing::new(bytes.to_vec())));
        assert!(line(b"D 12%2534%0a%C3%BC ") == data("12%34\nü ".as_bytes()));
        assert!(line(b"D ") == data(b"") && line(b"D") == data(b""));
    }

    #[test]
    fn an_invalid_response_line_is_refused() {
        for bytes in [
            &b""[..],
            b" ",
            b"ok",
            b"OKAY",
            b"ERR",
            b"ERR ",
            b"ERR x",
            b"ERR -1",
            b"ERR 99999999999999999999",
            b"ERR 1\xff",
            b"D %",
            b"D %4",
            b"D %zz",
            b"S \xff",
            b"INQUIRE QUALITY 1234",
            b"12345678",
            b"\x1b[2J",
        ] {
            assert!(line(bytes).is_none(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
