//! An operation: what a user asks of keysets and tokens, as a value.
//!
//! An operation is one type in one file of [`super::ops`]: its arguments, what it needs to be
//! present, what it does, and its output. It runs in the command, or in the agent that owns the
//! tokens, with the same result. Content comes in and goes out as files, secrets as bytes that are
//! wiped; neither is ever a part of the arguments or of the output. In the agent, an operation
//! reaches the network and the person through the command that asked. Only the agent's own prompter
//! confirms a use in a session, and asks where a command cannot.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ErrorKind, FoundKeyset, KeysetChoice, KeysetError, KeysetRef, TokenSelector, Tokens, UserPrompter};
use crate::token::TokenInfo;
use crate::transport::Transport;

/// The name of an operation's type, by which [`super::ops::dispatch`] finds it.
pub trait OperationName {
    const ID: &'static str;
}

/// A user's request. It runs in the command or in the agent, with the same result.
pub trait Operation: OperationName + Serialize + DeserializeOwned {
    /// completes "cannot …"
    const NAME: &'static str;
    /// true if tokens or public indexes may be others afterwards; the agent then reads them again
    const CHANGES_LISTINGS: bool = false;
    /// what [`Operation::select`] found
    type Target;
    /// the result: small, without content and without secrets
    type Output: Serialize + DeserializeOwned;

    /// Finds the keyset or token that the operation needs.
    ///
    /// # Errors
    /// It is not present, or the choice is ambiguous.
    fn select(&self, inventory: &Inventory<'_>) -> Result<Self::Target, KeysetError>;

    /// Runs the operation on what was selected.
    ///
    /// # Errors
    /// A fault, or no PIN. A refusal by a rule or by the authority may be an outcome instead.
    fn run(self, target: Self::Target, cx: &mut OperationContext<'_>) -> Result<Outcome<Self::Output>, KeysetError>;
}

/// The end of an operation.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome<T> {
    Done(T),
    /// A rule or the authority refused it.
    Refused(Refusal),
}

impl<T> Outcome<T> {
    /// Converts the output.
    ///
    /// # Errors
    /// Those of `convert`.
    pub fn try_map<U, E>(self, convert: impl FnOnce(T) -> Result<U, E>) -> Result<Outcome<U>, E> {
        Ok(match self {
            Self::Done(output) => Outcome::Done(convert(output)?),
            Self::Refused(refusal) => Outcome::Refused(refusal),
        })
    }
}

/// A refusal, as a complete sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// decides the exit code
    pub kind: ErrorKind,
    pub message: String,
}

/// The surroundings of a running operation.
pub struct OperationContext<'a> {
    pub tokens: &'a Tokens,
    pub person: &'a mut dyn UserPrompter,
    pub transport: &'a dyn Transport,
    pub attachments: &'a mut Attachments,
    pub now: Timestamp,
}

/// What accompanies an operation or its result: files and a secret.
#[derive(Default)]
pub struct Attachments {
    /// the content that goes in: a regular file, read from its beginning
    pub input: Option<File>,
    /// the content that comes out: written from its present position
    pub output: Option<File>,
    /// in: the text of a letter; out: the text of a letter
    pub secret: Zeroizing<Vec<u8>>,
    /// asked before each piece of content is read or written; an error ends the operation
    pub watch: Option<ContentWatch>,
}

/// Tells whether a content is still wanted.
pub type ContentWatch = Box<dyn Fn() -> io::Result<()>>;

/// A file with content, while the content is wanted.
pub struct ContentFile<'a> {
    file: &'a mut File,
    watch: Option<&'a ContentWatch>,
}

impl ContentFile<'_> {
    fn check(&self) -> io::Result<()> {
        self.watch.map_or(Ok(()), |watch| watch())
    }
}

impl Read for ContentFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.file.read(buffer)
    }
}

impl Write for ContentFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for ContentFile<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// What the owner of the tokens does before an operation looks for a keyset or a token. A command
/// has just read its tokens and needs none of this; an agent may have to search.
pub trait TokenSearch {
    /// Searches for the chosen keyset or token, if it is missing.
    fn ensure_present(&self, choice: &KeysetChoice);

    /// The keysets that are hidden on this machine, besides those that the command has hidden.
    fn hidden_keysets(&self) -> Vec<KeysetRef>;
}

/// The tokens and keysets that are present.
pub struct Inventory<'a> {
    pub tokens: &'a Tokens,
    search: Option<&'a dyn TokenSearch>,
}

impl<'a> Inventory<'a> {
    /// The tokens as they are.
    pub fn of(tokens: &'a Tokens) -> Self {
        Self { tokens, search: None }
    }

    /// With a search for what is missing.
    pub fn with_search(tokens: &'a Tokens, search: &'a dyn TokenSearch) -> Self {
        Self { tokens, search: Some(search) }
    }

    /// Makes all tokens present that can be.
    pub fn refresh(&self) {
        self.prepare(&KeysetChoice::default());
    }

    /// The one keyset that the choice selects.
    pub fn keyset(&self, choice: &KeysetChoice) -> Result<FoundKeyset, KeysetError> {
        self.tokens.choose(&self.prepare(choice))
    }

    /// The selected token, else the only one.
    pub fn token_or_only(&self, selector: Option<&TokenSelector>) -> Result<TokenInfo, KeysetError> {
        self.prepare(&KeysetChoice { token: selector.cloned(), ..KeysetChoice::default() });
        self.tokens.token_or_only(selector)
    }

    /// Searches for what the choice names, and completes it with this machine's hidden keysets.
    pub fn prepare(&self, choice: &KeysetChoice) -> KeysetChoice {
        let mut choice = choice.clone();
        if let Some(search) = self.search {
            choice.hidden.extend(search.hidden_keysets());
            search.ensure_present(&choice);
        }
        choice
    }
}

impl Attachments {
    /// Only a secret.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self { secret: Zeroizing::new(secret.to_vec()), ..Self::default() }
    }

    /// The files with the content and for the result.
    ///
    /// # Errors
    /// The caller attached none.
    pub fn files(&mut self, operation: &'static str) -> Result<(ContentFile<'_>, ContentFile<'_>), KeysetError> {
        let watch = self.watch.as_ref();
        let (input, output) = self.input.as_mut().zip(self.output.as_mut()).ok_or_else(|| no_file(operation))?;
        Ok((ContentFile { file: input, watch }, ContentFile { file: output, watch }))
    }

    /// Takes the file with the result back.
    ///
    /// # Errors
    /// The caller attached none.
    pub fn take_output(self) -> Result<File, KeysetError> {
        self.output.ok_or_else(|| no_file("read the result"))
    }
}

fn no_file(operation: &'static str) -> KeysetError {
    KeysetError::Message { operation, reason: "the command attached no file".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// A file with content as input, an empty one as output, and a watch that permits this many
    /// pieces.
    fn attachments(pieces: usize) -> Attachments {
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(&[7; 1000]).and_then(|()| input.rewind()).unwrap();
        let left = Cell::new(pieces);
        let watch: ContentWatch = Box::new(move || match left.get().checked_sub(1) {
            Some(less) => {
                left.set(less);
                Ok(())
            }
            None => Err(io::Error::other("nobody waits")),
        });
        Attachments {
            input: Some(input),
            output: Some(tempfile::tempfile().unwrap()),
            watch: Some(watch),
            ..Attachments::default()
        }
    }

    #[test]
    fn content_is_read_and_written_only_while_it_is_wanted() {
        let mut attachments = attachments(3);
        let (mut input, mut output) = attachments.files("sign").unwrap();
        let mut piece = [0; 100];
        assert_eq!(input.read(&mut piece).unwrap(), 100);
        assert_eq!(output.write(&piece).unwrap(), 100);
        assert_eq!(input.read(&mut piece).unwrap(), 100);
        for error in [input.read(&mut piece).unwrap_err(), output.write(&piece).unwrap_err()] {
            assert_eq!(error.to_string(), "nobody waits");
        }
        // What was refused is neither read nor written.
        assert_eq!(input.stream_position().unwrap(), 200);
        assert_eq!(attachments.take_output().unwrap().metadata().unwrap().len(), 100);
    }

    #[test]
    fn the_watch_is_asked_before_each_piece() {
        let mut attachments = attachments(0);
        let asked = Rc::new(Cell::new(0));
        let counter = Rc::clone(&asked);
        attachments.watch = Some(Box::new(move || {
            counter.set(counter.get() + 1);
            Ok(())
        }));
        let (mut input, mut output) = attachments.files("sign").unwrap();
        io::copy(&mut input, &mut output).unwrap();
        // One piece with the content and the end of the input; each is read, the first is written.
        assert!(asked.get() >= 3, "asked {} times", asked.get());
        attachments.watch = None;
        let (mut input, mut output) = attachments.files("sign").unwrap();
        input.rewind().unwrap();
        assert_eq!(io::copy(&mut input, &mut output).unwrap(), 1000, "content without a watch");
    }

    #[test]
    fn an_operation_without_its_files_is_refused() {
        assert!(Attachments::default().files("sign").is_err());
        let mut only_input = Attachments { output: None, ..attachments(1) };
        assert!(only_input.files("sign").is_err());
        assert!(only_input.take_output().is_err());
    }
}
