//! Assuan, the protocol of pinentry: a command a line, answered by lines of which the last is `OK` or `ERR` (libassuan's
//! manual, "Client requests" and "Server responses").
//!
//! Not the crate `pinentry`: it reads lines without a bound, waits without one, leaves copies of the PIN in buffers, panics at a
//! long text, and passes over an `INQUIRE`, which waits for ever.

use zeroize::Zeroizing;

use super::PrompterError;
use super::child::Running;

/// The longest line, without its end.
pub(super) const LONGEST_LINE: usize = 1_000;

/// The most lines that answer one command.
const MOST_LINES: usize = 64;

/// The most bytes that an answer carries. A PIN has at most 255, each of which may be written as three.
const MOST_DATA: usize = 1_024;

/// A command line; none if it would be too long.
pub(super) fn command(name: &str, text: &str) -> Option<String> {
    // A trailing backslash would continue the line, in the implementations that know that.
    let text: String = text
        .chars()
        .map(|character| match character {
            '%' | '\n' | '\r' | '\\' => format!("%{:02X}", u32::from(character)),
            other => other.to_string(),
        })
        .collect();
    let line = if text.is_empty() { name.to_owned() } else { format!("{name} {text}") };
    (line.len() <= LONGEST_LINE).then_some(line)
}

/// One line of an answer.
#[derive(PartialEq, Eq)]
pub(super) enum Line {
    /// The command is done.
    Ok,
    /// The command is refused: libgpg-error's code without the source of the error, and its text.
    Err(u32, String),
    /// A part of the data.
    Data(Zeroizing<Vec<u8>>),
    /// How it goes, and its keyword.
    Status(String),
    /// For whoever reads along.
    Comment,
}

/// Reads one line. Nothing is guessed: what is no line of an answer is none (`INQUIRE` among it: nothing was offered to be
/// inquired after).
pub(super) fn line(bytes: &[u8]) -> Option<Line> {
    if bytes.first() == Some(&b'#') {
        return Some(Line::Comment);
    }
    let (word, rest) = match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (bytes.get(..at)?, bytes.get(at + 1..)?),
        None => (bytes, &b""[..]),
    };
    match word {
        b"OK" => Some(Line::Ok),
        b"ERR" => {
            let text = str::from_utf8(rest).ok()?;
            let (code, description) = text.split_once(' ').unwrap_or((text, ""));
            Some(Line::Err(code.parse::<u32>().ok()? & 0xffff, description.trim().to_owned()))
        }
        b"D" => decode(rest).map(Line::Data),
        b"S" => Some(Line::Status(str::from_utf8(rest).ok()?.split(' ').next()?.to_owned())),
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

/// What a command was answered.
pub(super) enum Answer {
    /// Done: the data, and the keywords of how it went.
    Done {
        /// what was asked for; empty if there was none
        data: Zeroizing<Vec<u8>>,
        /// keywords of the status lines
        status: Vec<String>,
    },
    /// Refused, with libgpg-error's code and text.
    Refused(u32, String),
}

/// A conversation with a program that has been started.
pub(super) struct Conversation(pub(super) Running);

impl Conversation {
    /// Begins: the program says `OK` first.
    pub(super) fn begin(running: Running) -> Result<Self, PrompterError> {
        let mut this = Self(running);
        match this.answer()? {
            Answer::Done { .. } => Ok(this),
            Answer::Refused(code, text) => Err(this.refused(code, &text)),
        }
    }

    /// Sends a command and reads its answer.
    pub(super) fn ask(&mut self, name: &str, text: &str) -> Result<Answer, PrompterError> {
        let line = command(name, text).ok_or_else(|| self.0.fails(format!("the text for {name} is too long")))?;
        self.0.tell(format!("{line}\n").as_bytes());
        self.answer()
    }

    /// Sends a command that has to be obeyed.
    pub(super) fn must(&mut self, name: &str, text: &str) -> Result<(), PrompterError> {
        match self.ask(name, text)? {
            Answer::Done { .. } => Ok(()),
            Answer::Refused(code, text) => Err(self.refused(code, &text)),
        }
    }

    /// It refused, and that is neither a no nor a person who cancelled.
    pub(super) fn refused(&self, code: u32, text: &str) -> PrompterError {
        let text = super::ask::cut(&super::showable(text), 80);
        self.0.fails(if text.is_empty() { format!("error {code}") } else { format!("error {code}, {text}") })
    }

    /// Takes leave; the program ends by itself.
    pub(super) fn end(mut self) {
        self.0.tell(b"BYE\n");
        self.0.done();
    }

    fn answer(&mut self) -> Result<Answer, PrompterError> {
        let mut data = Zeroizing::new(Vec::with_capacity(MOST_DATA));
        let mut status = Vec::new();
        for _ in 0..MOST_LINES {
            let Some(bytes) = self.0.line(LONGEST_LINE)? else {
                return Err(self.0.fails("it ended in mid-dialog"));
            };
            match line(&bytes) {
                Some(Line::Ok) => return Ok(Answer::Done { data, status }),
                // Its text is not repeated once there was data: no message holds a part of a PIN.
                Some(Line::Err(code, _)) if !data.is_empty() => return Ok(Answer::Refused(code, String::new())),
                Some(Line::Err(code, text)) => return Ok(Answer::Refused(code, text)),
                Some(Line::Data(more)) if data.len() + more.len() <= MOST_DATA => data.extend_from_slice(&more),
                Some(Line::Data(_)) => {
                    return Err(self.0.fails(format!("its answer is longer than {MOST_DATA} bytes")));
                }
                Some(Line::Status(keyword)) => status.push(keyword),
                Some(Line::Comment) => {}
                None => return Err(self.0.fails("it does not speak Assuan, pinentry's protocol")),
            }
        }
        Err(self.0.fails(format!("its answer has more than {MOST_LINES} lines")))
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
        assert!(line(b"OK") == Some(Line::Ok) && line(b"OK closing connection") == Some(Line::Ok));
        assert!(line(b"# anything \xff") == Some(Line::Comment));
        assert!(line(b"S PIN_REPEATED") == Some(Line::Status("PIN_REPEATED".to_owned())));
        let cancelled = Line::Err(99, "Operation cancelled <Pinentry>".to_owned());
        assert!(line(b"ERR 83886179 Operation cancelled <Pinentry>") == Some(cancelled));
        assert!(line(b"ERR 83886194") == Some(Line::Err(114, String::new())));
        let data = |bytes: &[u8]| Some(Line::Data(Zeroizing::new(bytes.to_vec())));
        assert!(line(b"D 12%2534%0a%C3%BC ") == data("12%34\nü ".as_bytes()));
        assert!(line(b"D ") == data(b"") && line(b"D") == data(b""));
    }

    #[test]
    fn what_is_no_line_of_an_answer_is_none() {
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
