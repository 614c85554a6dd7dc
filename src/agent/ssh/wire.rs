//! The data types of RFC 4251 §5: a reader without copies, and a writer into a reusable buffer.

/// Reads a message in order. A read returns `None` for malformed data; discard the fields read
/// before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// RFC 4251 allows any byte but 0 for true. All known programs write 1, so other values are
    /// rejected.
    pub(super) fn boolean(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn uint32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    pub(super) fn uint64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.uint32()?).ok()?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(string)
    }

    /// A `string` that is UTF-8.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// The magnitude of a positive `mpint` in its only encoding: a leading zero byte only where the
    /// sign bit requires it.
    pub(super) fn positive_mpint(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [0, magnitude @ ..] => magnitude.first().is_some_and(|first| first & 0x80 != 0).then_some(magnitude),
            magnitude => magnitude.first().is_some_and(|first| first & 0x80 == 0).then_some(magnitude),
        }
    }

    /// The number of bytes left.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that no bytes are left.
    pub(super) fn end(self) -> Option<()> {
        self.is_at_end().then_some(())
    }
}

/// Appends to a message.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn uint32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends bytes without their length.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn string(&mut self, bytes: &[u8]) {
        self.nested(|inner| inner.bytes(bytes));
    }

    /// Appends a positive `mpint` from a big-endian magnitude; ignores leading zeros.
    pub(super) fn positive_mpint(&mut self, magnitude: &[u8]) {
        let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
        let magnitude = magnitude.get(zeros..).unwrap_or_default();
        self.nested(|inner| {
            if magnitude.first().is_some_and(|first| first & 0x80 != 0) {
                inner.byte(0);
            }
            inner.bytes.extend_from_slice(magnitude);
        });
    }

    /// Appends a `string` with the content that `write` appends.
    pub(super) fn nested(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let start = self.bytes.len();
        self.uint32(0);
        let inside = self.bytes.len();
        write(&mut Writer { bytes: self.bytes });
        // It never exceeds 4 GiB: an overlong reply is not sent (see `framing`).
        let length = u32::try_from(self.bytes.len() - inside).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..inside) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        bytes
    }

    #[test]
    fn mpints_are_written_as_in_rfc_4251() {
        for (magnitude, expected) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (&[0x09, 0xa3, 0x78, 0xf9], &[0, 0, 0, 4, 0x09, 0xa3, 0x78, 0xf9]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
            (&[0, 0, 0x7f], &[0, 0, 0, 1, 0x7f]),
        ] {
            assert_eq!(written(|writer| writer.positive_mpint(magnitude)), expected);
        }
    }

    #[test]
    fn an_mpint_has_one_encoding() {
        for wrong in
            [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 0], &[0, 0, 0, 2, 0, 1], &[0, 0, 0, 1, 0x80], &[0, 0, 0, 2, 0, 0]]
        {
            assert_eq!(Reader::new(wrong).positive_mpint(), None, "{wrong:?}");
        }
        assert_eq!(Reader::new(&[0, 0, 0, 2, 0, 0x80]).positive_mpint(), Some(&[0x80][..]));
    }

    #[test]
    fn false_lengths_and_invalid_booleans_are_refused() {
        assert_eq!(Reader::new(&[0, 0, 0, 5, 1, 2, 3, 4]).string(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string(), None);
        assert_eq!(Reader::new(&[0, 0, 0]).uint32(), None);
        assert_eq!(Reader::new(&[2]).boolean(), None);
        assert_eq!(Reader::new(&[0, 0, 0, 1, 0xff]).text(), None);
        assert_eq!(Reader::new(&[1]).end(), None);
    }

    proptest! {
        #[test]
        fn elements_round_trip(
            number in any::<u32>(),
            flag in any::<bool>(),
            string in prop::collection::vec(any::<u8>(), 0..300),
            magnitude in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            let bytes = written(|writer| {
                writer.uint32(number);
                writer.byte(u8::from(flag));
                writer.nested(|inner| inner.string(&string));
                writer.positive_mpint(&magnitude);
            });
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.uint32(), Some(number));
            prop_assert_eq!(reader.boolean(), Some(flag));
            prop_assert_eq!(reader.string().and_then(|inner| Reader::new(inner).string()), Some(&string[..]));
            let zeros = magnitude.iter().take_while(|byte| **byte == 0).count();
            let expected = Some(&magnitude[zeros..]).filter(|magnitude| !magnitude.is_empty());
            prop_assert_eq!(reader.positive_mpint(), expected);
            prop_assert!(reader.is_at_end());
        }
    }
}
