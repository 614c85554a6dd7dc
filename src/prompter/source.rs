//! PIN sources without a prompt: a file, a descriptor, a systemd credential.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::PrompterError;
use super::deadline::{Deadline, REQUESTER_GONE};
use crate::token::Pin;

/// A source of PINs, in the syntax of `--pin-source` and `--new-pin-source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// `prompt`: the user types it at the terminal, without echo.
    Prompt,
    /// `file:PATH`: the only line of a file that no other user can read.
    File(PathBuf),
    /// `fd:N`: the next line of an open descriptor.
    Descriptor(u32),
    /// `credential:NAME`: a systemd credential (`LoadCredential=`).
    Credential(String),
}

impl FromStr for PinSource {
    type Err = PrompterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let bad = |reason: &str| PrompterError::Source { place: format!("{kind}:{rest}"), reason: reason.to_owned() };
        match kind {
            "prompt" if text == "prompt" => Ok(Self::Prompt),
            "file" if rest.is_empty() => Err(bad("it names no file")),
            "file" => Ok(Self::File(PathBuf::from(rest))),
            "fd" => rest.parse().map(Self::Descriptor).map_err(|_| bad("fd: takes the number of an open descriptor")),
            "credential" if rest.is_empty() || rest.contains('/') || rest.starts_with('.') => {
                Err(bad("credential: takes the plain name of a systemd credential"))
            }
            "credential" => Ok(Self::Credential(rest.to_owned())),
            // Do not repeat the rest: it may be the PIN itself.
            _ => Err(PrompterError::UnknownSource { given: if text.contains(':') { kind } else { "that" }.to_owned() }),
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt => f.write_str("prompt"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl PinSource {
    /// Reads one PIN. `credentials` is `$CREDENTIALS_DIRECTORY`; `descriptors` lists the permitted
    /// descriptors, if known.
    pub(super) fn read(&self, credentials: Option<&Path>, descriptors: Option<&[u32]>) -> Result<Pin, PrompterError> {
        self.read_within(credentials, descriptors, Deadline::default())
    }

    /// Like [`PinSource::read`], with a time limit for a descriptor
    /// ([`PrompterError::NobodyAnswered`]).
    pub(super) fn read_within(
        &self,
        credentials: Option<&Path>,
        descriptors: Option<&[u32]>,
        deadline: Deadline,
    ) -> Result<Pin, PrompterError> {
        let pin = match self {
            Self::Prompt => Err(self.fails("a user has to type it")),
            Self::File(path) => {
                let mut file = self.open(path)?;
                if others_can_read(&self.metadata(&file)?) {
                    return Err(PrompterError::ReadableByOthers { path: path.clone() });
                }
                self.only_line(&mut file)
            }
            Self::Descriptor(number) => {
                if descriptors.is_some_and(|open| !open.contains(number)) {
                    return Err(self.fails("it was not open when this program was started"));
                }
                // Reopens the descriptor by its path, because using its number needs `unsafe`.
                let file = self.open(Path::new(&format!("/dev/fd/{number}")))?;
                self.metadata(&file)?;
                self.pin(&self.line(&mut TimedReader { file, deadline })?.0)
            }
            Self::Credential(name) => {
                let directory = credentials.ok_or_else(|| {
                    self.fails("$CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential=")
                })?;
                let mut file = self.open(&directory.join(name))?;
                self.metadata(&file)?;
                self.only_line(&mut file)
            }
        };
        pin.map(Pin::unattended)
    }

    fn open(&self, path: &Path) -> Result<File, PrompterError> {
        File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.fails("no such file"),
            _ => self.fails(error.to_string()),
        })
    }

    fn metadata(&self, file: &File) -> Result<Metadata, PrompterError> {
        let metadata = file.metadata().map_err(|error| self.fails(error.to_string()))?;
        if metadata.is_dir() { Err(self.fails("it is a directory")) } else { Ok(metadata) }
    }

    /// Reads a source that must contain exactly one line.
    fn only_line(&self, source: &mut impl Read) -> Result<Pin, PrompterError> {
        let (line, ended) = self.line(source)?;
        if ended && self.byte(source)?.is_some() {
            return Err(self.fails("it has more than one line"));
        }
        self.pin(&line)
    }

    /// Reads the next line without its end (LF or CRLF), and whether it had an end. Reads byte by
    /// byte, so that the rest of a pipe remains for the next PIN.
    fn line(&self, source: &mut impl Read) -> Result<(Zeroizing<Vec<u8>>, bool), PrompterError> {
        let mut line = Zeroizing::new(Vec::with_capacity(Pin::MAX_BYTES + 2));
        let ended = loop {
            match self.byte(source)? {
                None => break false,
                Some(b'\n') => break true,
                Some(_) if line.len() > Pin::MAX_BYTES => return Err(self.fails("its line is longer than 255 bytes")),
                Some(byte) => line.push(byte),
            }
        };
        if ended && line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok((line, ended))
    }

    fn byte(&self, source: &mut impl Read) -> Result<Option<u8>, PrompterError> {
        let mut byte = Zeroizing::new([0u8]);
        loop {
            match source.read(byte.as_mut_slice()) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(byte.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(PrompterError::NobodyAnswered { what: self.to_string(), waited: Duration::ZERO });
                }
                Err(error) if error.kind() == REQUESTER_GONE => {
                    return Err(PrompterError::Withdrawn { what: self.to_string() });
                }
                Err(error) => return Err(self.fails(error.to_string())),
            }
        }
    }

    fn pin(&self, line: &[u8]) -> Result<Pin, PrompterError> {
        if line.is_empty() {
            return Err(self.fails("it is empty"));
        }
        let text = std::str::from_utf8(line).map_err(|_| self.fails("it is not UTF-8 text"))?;
        Pin::new(text.to_owned()).map_err(|error| self.fails(error.to_string()))
    }

    fn fails(&self, reason: impl Into<String>) -> PrompterError {
        PrompterError::Source { place: super::showable(&self.to_string()), reason: reason.into() }
    }
}

/// A file whose reads have a time limit.
struct TimedReader {
    file: File,
    deadline: Deadline,
}

impl Read for TimedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.deadline.input(&self.file)?;
        self.file.read(buffer)
    }
}

/// Returns whether the mode permits access for group or others, or the file belongs to another user
/// other than root.
fn others_can_read(metadata: &Metadata) -> bool {
    let me = rustix::process::geteuid();
    let is_anothers = !me.is_root() && metadata.uid() != me.as_raw() && metadata.uid() != 0;
    metadata.mode() & 0o077 != 0 || is_anothers
}
