//! An input of any length that can be read several times, and parts of it. Lines and loaded parts
//! have bounded lengths.

use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Take};

use super::SmimeError;
use super::header::take_line;
use super::transfer_encoding::{EncodingDamage, TransferDecoder, TransferEncoding};
use crate::pki::PkiError;
use crate::pki::cms::stream::fill;

/// The maximum length of a line that is compared with anything, in octets.
const LONGEST_LINE: u64 = 1 << 16;

/// A part of an input: from a position up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn empty() -> Self {
        Self { start: 0, end: 0 }
    }

    pub(super) fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// The part without its first octets.
    pub(super) fn without(self, octets: usize) -> Self {
        Self { start: self.end.min(self.start + octets as u64), ..self }
    }
}

/// A part of an input that encodes a structure.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedSpan {
    pub(super) span: Span,
    pub(super) encoding: TransferEncoding,
    /// The description of a damage of the encoding, for people.
    pub(super) damage: &'static str,
}

/// The input.
#[derive(Clone, Debug)]
pub(super) struct MessageSource<R> {
    input: R,
}

/// Converts an error on reading the input.
pub(super) fn input_error(error: std::io::Error) -> SmimeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<EncodingDamage>()) {
        Some(damage) => SmimeError::Unreadable(damage.0.to_owned()),
        None => PkiError::Input { what: "the message", source: error }.into(),
    }
}

impl<'a> MessageSource<Cursor<&'a [u8]>> {
    /// A structure in memory.
    pub(super) fn in_memory(cms: &'a [u8]) -> (Self, EncodedSpan) {
        let span = Span { start: 0, end: cms.len() as u64 };
        (Self { input: Cursor::new(cms) }, EncodedSpan { span, encoding: TransferEncoding::Identity, damage: "" })
    }
}

impl<R: Read + Seek> MessageSource<R> {
    /// The input from its present position to its end.
    pub(super) fn new(mut input: R) -> Result<(Self, Span), SmimeError> {
        let start = input.stream_position().map_err(input_error)?;
        let end = input.seek(SeekFrom::End(0)).map_err(input_error)?;
        Ok((Self { input }, Span { start, end }))
    }

    fn reader(&mut self, span: Span) -> Result<Take<&mut R>, SmimeError> {
        self.input.seek(SeekFrom::Start(span.start)).map_err(input_error)?;
        Ok(self.input.by_ref().take(span.length()))
    }

    /// The beginning of a part: at most `most` octets.
    pub(super) fn beginning(&mut self, span: Span, most: usize) -> Result<Vec<u8>, SmimeError> {
        let mut octets = vec![0; usize::try_from(span.length()).unwrap_or(most).min(most)];
        let count = fill(&mut self.reader(span)?, &mut octets).map_err(input_error)?.len();
        octets.truncate(count);
        Ok(octets)
    }

    /// A whole part, for messages in memory.
    pub(super) fn load(&mut self, span: Span) -> Result<Vec<u8>, SmimeError> {
        self.beginning(span, usize::MAX)
    }

    /// The octets of a structure.
    pub(super) fn decoder(&mut self, encoded: &EncodedSpan) -> Result<TransferDecoder<Take<&mut R>>, SmimeError> {
        Ok(TransferDecoder::new(self.reader(encoded.span)?, encoded.encoding, encoded.damage))
    }

    pub(super) fn lines(&mut self, span: Span) -> Result<Lines<Take<&mut R>>, SmimeError> {
        Ok(Lines { input: BufReader::new(self.reader(span)?), position: span.start, line: Vec::new() })
    }

    /// The part without blank lines at its beginning.
    pub(super) fn without_blank_lines(&mut self, span: Span) -> Result<Span, SmimeError> {
        let mut lines = self.lines(span)?;
        while let Some(line) = lines.next()? {
            if !line.is_blank() {
                return Ok(Span { start: line.start, ..span });
            }
        }
        Ok(Span { start: span.end, ..span })
    }

    /// Whether a part has only white space.
    pub(super) fn is_blank(&mut self, span: Span) -> Result<bool, SmimeError> {
        Ok(self.without_blank_lines(span)?.length() == 0)
    }

    /// The part without a line end at its end.
    pub(super) fn without_line_end(&mut self, span: Span) -> Result<Span, SmimeError> {
        let end = Span { start: span.start.max(span.end.saturating_sub(2)), ..span };
        let end = match self.load(end)?.as_slice() {
            [b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        };
        Ok(Span { end: span.end - end, ..span })
    }
}

/// The lines of a part.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    position: u64,
    line: Vec<u8>,
}

/// A line without its line end.
pub(super) struct Line<'a> {
    /// The position of the line.
    pub(super) start: u64,
    /// The position of the next line.
    pub(super) next: u64,
    /// The line; `None` if it is longer than [`LONGEST_LINE`].
    pub(super) text: Option<&'a [u8]>,
}

impl Line<'_> {
    pub(super) fn is_blank(&self) -> bool {
        self.text.is_some_and(|text| text.trim_ascii().is_empty())
    }
}

impl<R: Read> Lines<R> {
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, SmimeError> {
        self.line.clear();
        let start = self.position;
        let kept = self.input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.line).map_err(input_error)?;
        if kept == 0 {
            return Ok(None);
        }
        let mut skipped = 0;
        if kept as u64 == LONGEST_LINE && self.line.last() != Some(&b'\n') {
            skipped = self.input.skip_until(b'\n').map_err(input_error)?;
        }
        self.position += (kept + skipped) as u64;
        let text = (skipped == 0).then(|| take_line(&self.line).0);
        Ok(Some(Line { start, next: self.position, text }))
    }
}
