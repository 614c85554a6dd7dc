//! Reads a BER structure of any length from an input. Its small elements are loaded, and its one
//! long octet string is read in pieces, whether or not the sender split it into segments.
//!
//! The reader accepts what [`ber::to_definite`] accepts.

use std::io::{self, Read};

use super::ber::{self, CONSTRUCTED_OCTET_STRING, MAX_DEPTH};
use super::stream::{fill, piece_buffer};
use crate::pki::PkiError;
use crate::pki::tlv::{OCTET_STRING, header};

/// The maximum length of an element that is loaded, in octets.
const LONGEST_ELEMENT: usize = 1 << 20;

/// Reads the elements of a structure in their order.
pub(crate) struct BerReader<R> {
    input: R,
    what: &'static str,
    /// The number of octets read.
    position: u64,
    /// The constructed elements around the position, outermost first.
    open: Vec<OpenElement>,
    /// The header of the next element, if it has been read.
    next: Option<Head>,
}

/// A constructed element whose end has not been reached.
#[derive(Clone, Copy)]
struct OpenElement {
    /// The position of its end; `None` if its length is indefinite.
    end: Option<u64>,
    /// Whether the end-of-contents octets of an indefinite length have been read.
    is_ended: bool,
}

/// The header of an element.
#[derive(Clone)]
struct Head {
    tag: u8,
    /// The length of the value; `None` if it is indefinite.
    length: Option<u64>,
    /// The octets of the header.
    octets: Vec<u8>,
}

impl<R: Read> BerReader<R> {
    /// `what` names the structure in errors, with its article.
    pub(crate) fn new(input: R, what: &'static str) -> Self {
        Self { input, what, position: 0, open: Vec::new(), next: None }
    }

    fn malformed(&self, reason: &str) -> PkiError {
        PkiError::malformed(self.what, reason)
    }

    fn neither(&self) -> PkiError {
        self.malformed("it is neither DER nor BER")
    }

    /// Enters a constructed element, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<(), PkiError> {
        let head = self.next_head()?;
        if head.tag != tag {
            return Err(self.unexpected(head.tag, tag));
        }
        self.open(&head)
    }

    /// Leaves the innermost element, which must have no further elements.
    pub(crate) fn leave(&mut self) -> Result<(), PkiError> {
        if self.peek()?.is_some() {
            return Err(self.malformed("data follows its end"));
        }
        self.open.pop();
        Ok(())
    }

    /// Loads the next element with definite lengths. It must have this tag.
    pub(crate) fn required(&mut self, tag: u8) -> Result<Vec<u8>, PkiError> {
        let head = self.next_head()?;
        let mut element = Vec::new();
        self.load(&head, &mut element, self.open.len())?;
        let element = ber::to_definite(&element, self.what)?;
        match element.first() {
            Some(found) if *found == tag => Ok(element),
            found => Err(self.unexpected(found.copied().unwrap_or_default(), tag)),
        }
    }

    /// Loads the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Vec<u8>>, PkiError> {
        if self.peek()?.is_some_and(|head| head.tag == tag) { self.required(tag).map(Some) } else { Ok(None) }
    }

    /// Begins the next element as an octet string: `primitive`, or `constructed` of segments.
    /// `None` if it has another tag.
    pub(crate) fn octets(mut self, primitive: u8, constructed: u8) -> Result<Option<BerOctets<R>>, PkiError> {
        let base = self.open.len();
        let Some(head) = self.peek()?.filter(|head| head.tag == primitive || head.tag == constructed).cloned() else {
            return Ok(None);
        };
        self.next = None;
        let rest = if head.tag == primitive { head.length.ok_or_else(|| self.neither())? } else { 0 };
        if head.tag == constructed {
            self.open(&head)?;
        }
        Ok(Some(BerOctets { reader: self, base, rest }))
    }

    /// Checks that the outermost element ends with the input.
    pub(crate) fn end(mut self) -> Result<(), PkiError> {
        let mut after = [0];
        let after = fill(&mut self.input, &mut after).map_err(PkiError::input(self.what))?.len();
        if after == 0 && self.open.is_empty() { Ok(()) } else { Err(self.malformed("data follows its end")) }
    }

    fn unexpected(&self, found: u8, wanted: u8) -> PkiError {
        self.malformed(&format!("it has an element with tag {found:#04x} instead of {wanted:#04x}"))
    }

    /// The header of the next element in the innermost open one; `None` at its end.
    fn peek(&mut self) -> Result<Option<&Head>, PkiError> {
        if self.next.is_none() {
            match self.open.last() {
                Some(OpenElement { is_ended: true, .. }) => return Ok(None),
                Some(OpenElement { end: Some(end), .. }) if *end == self.position => return Ok(None),
                _ => {}
            }
            let head = self.head()?;
            if let Some(OpenElement { end: None, is_ended }) = self.open.last_mut()
                && head.octets == [0, 0]
            {
                *is_ended = true;
                return Ok(None);
            }
            self.next = Some(head);
        }
        Ok(self.next.as_ref())
    }

    fn next_head(&mut self) -> Result<Head, PkiError> {
        self.peek()?;
        self.next.take().ok_or_else(|| self.malformed("it ends too early"))
    }

    /// Reads a header.
    fn head(&mut self) -> Result<Head, PkiError> {
        let mut octets = vec![0; 2];
        self.read_all(&mut octets)?;
        if let [tag, first @ 0x81..=0xff] = *octets {
            let mut length = vec![0; usize::from(first & 0x7f).min(size_of::<usize>() + 1)];
            self.read_all(&mut length)?;
            octets = [&[tag, first][..], &length].concat();
        }
        let (_, length) = header(&octets).ok_or_else(|| self.neither())?;
        let tag = octets.first().copied().unwrap_or_default();
        if length.is_none() && tag & 0x20 == 0 {
            return Err(self.neither());
        }
        Ok(Head { tag, length: length.map(|length| length as u64), octets })
    }

    fn open(&mut self, head: &Head) -> Result<(), PkiError> {
        let end = match head.length {
            None => None,
            Some(length) => Some(self.end_of(length)?),
        };
        if self.open.len() >= MAX_DEPTH {
            return Err(self.neither());
        }
        self.open.push(OpenElement { end, is_ended: false });
        Ok(())
    }

    /// The position after the next octets, which must be inside the open elements.
    fn end_of(&self, length: u64) -> Result<u64, PkiError> {
        let limit = self.open.iter().rev().find_map(|element| element.end).unwrap_or(u64::MAX);
        let end = self.position.checked_add(length).filter(|end| *end <= limit);
        end.ok_or_else(|| self.malformed("it ends too early"))
    }

    fn read_all(&mut self, octets: &mut [u8]) -> Result<(), PkiError> {
        self.end_of(octets.len() as u64)?;
        let wanted = octets.len();
        let count = fill(&mut self.input, octets).map_err(PkiError::input(self.what))?.len();
        self.position += count as u64;
        if count == wanted { Ok(()) } else { Err(self.malformed("it ends too early")) }
    }

    /// Appends an element, whose header has been read, to `loaded`.
    fn load(&mut self, head: &Head, loaded: &mut Vec<u8>, depth: usize) -> Result<(), PkiError> {
        loaded.extend_from_slice(&head.octets);
        if let Some(length) = head.length {
            self.end_of(length)?;
            let begin = loaded.len();
            let end = usize::try_from(length).ok().and_then(|length| begin.checked_add(length));
            let end = end.filter(|end| *end <= LONGEST_ELEMENT).ok_or_else(|| self.too_long())?;
            loaded.resize(end, 0);
            return self.read_all(loaded.get_mut(begin..).unwrap_or_default());
        }
        if depth >= MAX_DEPTH {
            return Err(self.neither());
        }
        loop {
            let inside = self.head()?;
            if inside.octets == [0, 0] {
                loaded.extend_from_slice(&inside.octets);
                return Ok(());
            }
            self.load(&inside, loaded, depth + 1)?;
            if loaded.len() > LONGEST_ELEMENT {
                return Err(self.too_long());
            }
        }
    }

    fn too_long(&self) -> PkiError {
        self.malformed("a part other than the content is longer than 1 MiB")
    }
}

/// The octets of a string of any length, without the headers of its segments.
pub(crate) struct BerOctets<R> {
    reader: BerReader<R>,
    /// The number of open elements around the string.
    base: usize,
    /// The number of octets left in the segment.
    rest: u64,
}

/// The beginning of a string, to read it again.
#[derive(Clone)]
pub(crate) struct OctetsStart {
    position: u64,
    open: Vec<OpenElement>,
    base: usize,
    rest: u64,
}

impl<R: Read> BerOctets<R> {
    /// The present position.
    pub(crate) fn start(&self) -> OctetsStart {
        let Self { reader: BerReader { position, open, .. }, base, rest } = self;
        OctetsStart { position: *position, open: open.clone(), base: *base, rest: *rest }
    }

    /// Reads a string again, from the beginning of the same input.
    pub(crate) fn read_again(mut input: R, start: &OctetsStart, what: &'static str) -> Result<Self, PkiError> {
        io::copy(&mut input.by_ref().take(start.position), &mut io::sink()).map_err(PkiError::input(what))?;
        let OctetsStart { position, open, base, rest } = start.clone();
        Ok(Self { reader: BerReader { input, what, position, open, next: None }, base, rest })
    }

    /// Reads to the end of the string, and returns the number of octets.
    pub(crate) fn skip(mut self) -> Result<(u64, BerReader<R>), PkiError> {
        let (mut buffer, mut length) = (piece_buffer(), 0);
        loop {
            match self.next_octets(&mut buffer)? {
                0 => return Ok((length, self.reader)),
                count => length += count as u64,
            }
        }
    }

    /// Reads some octets; 0 at the end of the string.
    fn next_octets(&mut self, buffer: &mut [u8]) -> Result<usize, PkiError> {
        let reader = &mut self.reader;
        while self.rest == 0 {
            if reader.open.len() == self.base {
                return Ok(0);
            }
            let Some(head) = reader.peek()?.cloned() else {
                reader.open.pop();
                continue;
            };
            reader.next = None;
            match (head.tag, head.length) {
                (OCTET_STRING, Some(length)) => self.rest = length,
                (CONSTRUCTED_OCTET_STRING, _) => reader.open(&head)?,
                (found, _) => return Err(reader.unexpected(found, OCTET_STRING)),
            }
        }
        let count = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buffer.len());
        reader.read_all(buffer.get_mut(..count).unwrap_or_default())?;
        self.rest -= count as u64;
        Ok(count)
    }
}

impl<R: Read> Read for BerOctets<R> {
    /// An input whose structure is no longer what it was is [`io::ErrorKind::InvalidData`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next_octets(buffer).map_err(|error| match error {
            PkiError::Input { source, .. } => source,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        })
    }
}

#[cfg(test)]
mod tests;
