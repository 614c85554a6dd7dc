//! Minimal reading and writing of DER: a sequence of elements that keep their received bytes.
//!
//! All tags in CMS fit into one octet. This module compares that octet, including the class and the
//! "constructed" bit.

use crate::pki::PkiError;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The primitive tag `[number]`.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The constructed tag `[number]`.
pub(crate) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// One element: tag, length and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// The element's bytes, including tag and length.
    pub(crate) whole: &'a [u8],
    /// The contents octets.
    pub(crate) value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The tag octet.
    pub(crate) fn tag(&self) -> u8 {
        self.whole.first().copied().unwrap_or_default()
    }

    /// The elements inside; `what` names the structure in errors.
    pub(crate) fn inside(&self, what: &'static str) -> Elements<'a> {
        Elements { rest: self.value, what }
    }
}

/// A sequence of elements, in definite-length encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Elements<'a> {
    /// Reads the elements in `bytes`. `what` names the structure in errors, with its article.
    pub(crate) fn of(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    fn malformed(&self, reason: &str) -> PkiError {
        PkiError::malformed(self.what, reason)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, of any kind.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, PkiError> {
        let (header, length) = header(self.rest).ok_or_else(|| self.malformed("an element's header is malformed"))?;
        let length = length.ok_or_else(|| self.malformed("it is not in DER"))?;
        let split = header.checked_add(length).and_then(|end| self.rest.split_at_checked(end));
        let (whole, rest) = split.ok_or_else(|| self.malformed("it ends too early"))?;
        self.rest = rest;
        Ok(Element { whole, value: whole.get(header..).unwrap_or_default() })
    }

    /// The next element, which must have this tag.
    pub(crate) fn required(&mut self, tag: u8) -> Result<Element<'a>, PkiError> {
        let element = self.any()?;
        if element.tag() == tag {
            Ok(element)
        } else {
            Err(self.malformed(&format!("it has an element with tag {:#04x} instead of {tag:#04x}", element.tag())))
        }
    }

    /// The next element, if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, PkiError> {
        if self.rest.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// All remaining elements.
    pub(crate) fn all(mut self) -> Result<Vec<Element<'a>>, PkiError> {
        let mut elements = Vec::new();
        while !self.is_empty() {
            elements.push(self.any()?);
        }
        Ok(elements)
    }

    /// The only element, as in an attribute with one value.
    pub(crate) fn only(mut self) -> Result<Element<'a>, PkiError> {
        let value = self.any()?;
        self.end()?;
        Ok(value)
    }

    /// Checks that no element follows.
    pub(crate) fn end(self) -> Result<(), PkiError> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed("data follows its end")) }
    }
}

/// The lengths of a header (tag and length octets) and of the value. The value's length is `None`
/// if it is indefinite.
pub(crate) fn header(bytes: &[u8]) -> Option<(usize, Option<usize>)> {
    let (tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    match *first {
        length @ 0..=0x7f => Some((2, Some(usize::from(length)))),
        0x80 => Some((2, None)),
        long => {
            let count = usize::from(long & 0x7f);
            let octets = rest.get(..count)?;
            // Up to four octets may begin with zeros, as some programs write them.
            if count > 4 && (count > size_of::<usize>() || octets.first() == Some(&0)) {
                return None;
            }
            let length = octets.iter().fold(0_usize, |length, octet| (length << 8) | usize::from(*octet));
            Some((2 + count, Some(length)))
        }
    }
}

/// Makes an element with this tag and these parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut element = Vec::with_capacity(length + 6);
    push_header(&mut element, tag, length as u64);
    for part in parts {
        element.extend_from_slice(part);
    }
    element
}

/// Makes the tag and length of an element; the caller appends the value.
pub(crate) fn header_of(tag: u8, length: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(10);
    push_header(&mut header, tag, length);
    header
}

fn push_header(to: &mut Vec<u8>, tag: u8, length: u64) {
    to.push(tag);
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        to.push(short);
    } else {
        let octets = length.to_be_bytes();
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        to.push(0x80 | u8::try_from(octets.len() - zeros).unwrap_or(8));
        to.extend(octets.into_iter().skip(zeros));
    }
}

/// Makes a SET OF, or another tag in its place, with these elements sorted as DER requires.
pub(crate) fn set_of(tag: u8, mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    elements.dedup();
    let parts: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    element(tag, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_round_trip() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let value = vec![7; length];
            let written = element(OCTET_STRING, &[&value]);
            let mut elements = Elements::of(&written, "a test");
            assert_eq!(elements.required(OCTET_STRING).unwrap().value, value);
            elements.end().unwrap();
            assert_eq!(written, der::Encode::to_der(&der::asn1::OctetString::new(value).unwrap()).unwrap());
        }
    }

    #[test]
    fn broken_elements_are_refused() {
        for bytes in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x80, 0, 0],
            &[4, 0x85, 0, 0, 0, 0, 0],
            &[0x1f, 0x81, 0],
            &[4, 0x84, 255, 255, 255, 255],
        ] {
            assert!(Elements::of(bytes, "a test").any().is_err(), "{bytes:?}");
        }
        assert!(Elements::of(&[4, 0], "a test").required(SEQUENCE).is_err());
        assert!(Elements::of(&[4, 0], "a test").end().is_err());
        assert_eq!(Elements::of(&[4, 0], "a test").optional(SEQUENCE).unwrap(), None);
    }
}
