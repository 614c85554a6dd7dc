//! A message in an input of any length: it is recognized, but not loaded.

use std::fmt;
use std::io::{Cursor, Read, Seek};

use super::read::{Recognized, STRUCTURE_BEGINNING, recognize};
use super::{Message, MessageFormat, MessageKind};
use crate::pki::cms::stream::fill;
use crate::smime::SmimeError;
use crate::smime::entity::to_canonical_lines;
use crate::smime::source::{EncodedSpan, MessageSource, Span, input_error};

/// A message in an input, which is read when it is needed.
pub struct MessageFile<R> {
    about: Message,
    source: MessageSource<R>,
    structure: EncodedSpan,
    detached_content: Option<Span>,
}

impl<R> fmt::Debug for MessageFile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageFile({:?}, {:?})", self.about.format, self.about.kind)
    }
}

impl<R: Read + Seek> MessageFile<R> {
    /// Recognizes the form of an input, from its present position, by the rules of
    /// [`Message::read`]. A header section longer than 1 MiB is refused.
    pub fn open(input: R) -> Result<Self, SmimeError> {
        let (mut source, whole) = MessageSource::new(input)?;
        let recognized = recognize(&mut source, whole)?;
        let Recognized { format, structure, detached_content, header, header_within, outside } = recognized;
        let mut beginning = vec![0; STRUCTURE_BEGINNING];
        let beginning = fill(&mut source.decoder(&structure)?, &mut beginning).map_err(input_error)?;
        let kind = MessageKind::of(beginning).map_err(|error| match error {
            // The mail claims to be a message of this kind.
            SmimeError::NoMessage(reason) if format == MessageFormat::Smime => SmimeError::Unreadable(reason),
            other => other,
        })?;
        let about = Message { format, kind, cms: Vec::new(), detached_content: None, header, header_within, outside };
        Ok(Self { about, source, structure, detached_content })
    }

    /// The form, kind and headers of the message. Its structure and content remain in the input:
    /// both are empty here.
    pub fn about(&self) -> &Message {
        &self.about
    }

    /// Loads the whole message.
    fn load(mut self) -> Result<Message, SmimeError> {
        let mut cms = Vec::new();
        self.source.decoder(&self.structure)?.read_to_end(&mut cms).map_err(input_error)?;
        let content = self.detached_content.map(|content| self.source.load(content)).transpose()?;
        Ok(Message { cms, detached_content: content.as_deref().map(to_canonical_lines), ..self.about })
    }

    /// The input, and the structure's place in it.
    pub(in crate::smime) fn structure(&mut self) -> (&mut MessageSource<R>, &EncodedSpan) {
        (&mut self.source, &self.structure)
    }
}

impl Message {
    /// Recognizes the form of `bytes` by the outermost structure: DER; a mail or MIME entity, if
    /// the text begins with a header that has a Content-Type; PEM, if the first line that is not
    /// blank begins a block (with the labels CMS, PKCS7 and those of `gpgsm`). In a mail, the
    /// signed or encrypted part may be in a `multipart/mixed`, as mailing lists send it, and there
    /// also in a `multipart/related`. In a list's mail it may be in the only `message/rfc822`,
    /// whose top may be a `multipart/related` too.
    pub fn read(bytes: &[u8]) -> Result<Self, SmimeError> {
        MessageFile::open(Cursor::new(bytes))?.load()
    }
}
