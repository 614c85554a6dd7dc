//! A growing buffer that wipes its memory, because requests and answers can hold PINs, letters and
//! decrypted content.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes that are wiped when dropped, and when the buffer grows and moves.
#[derive(Debug, Default)]
pub struct WipedBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl WipedBuffer {
    /// With capacity for this many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(capacity)) }
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of bytes written so far.
    #[allow(clippy::len_without_is_empty, reason = "unused")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The capacity in bytes.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Wipes and empties the buffer; keeps its capacity.
    pub fn clear(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
    }

    /// Removes the first `count` bytes; moves the rest to the front and wipes the space behind it.
    pub fn consume(&mut self, count: usize) {
        let length = self.bytes.len();
        let count = count.min(length);
        self.bytes.copy_within(count.., 0);
        if let Some(rest) = self.bytes.get_mut(length - count..) {
            rest.zeroize();
        }
        self.bytes.truncate(length - count);
    }

    /// Ensures capacity for this many more bytes.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.bytes.capacity().saturating_mul(2)));
            larger.extend_from_slice(&self.bytes);
            // The old buffer is wiped when dropped.
            self.bytes = Zeroizing::new(larger);
        }
    }

    /// Removes this suffix, if present.
    pub fn unwrite(&mut self, end: &[u8]) {
        if self.bytes.ends_with(end) {
            let length = self.bytes.len() - end.len();
            self.bytes.truncate(length);
        }
    }

    /// Appends bytes as base64 (RFC 4648 §4).
    pub fn write_base64(&mut self, bytes: &[u8]) {
        let before = self.bytes.len();
        let length = bytes.len().div_ceil(3) * 4;
        self.reserve(length);
        self.bytes.resize(before + length, 0);
        // The space has the exact length, so encoding cannot fail.
        let _ = STANDARD.encode_slice(bytes, self.bytes.get_mut(before..).unwrap_or_default());
    }

    /// Appends one read of at most `limit` bytes; returns the number read.
    ///
    /// # Errors
    /// The source's error.
    pub fn read_from(&mut self, source: &mut impl Read, limit: usize) -> io::Result<usize> {
        let before = self.bytes.len();
        self.reserve(limit);
        self.bytes.resize(before + limit, 0);
        let read = source.read(self.bytes.get_mut(before..).unwrap_or_default());
        self.bytes.truncate(before + read.as_ref().copied().unwrap_or(0));
        read
    }
}

impl Write for WipedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_are_kept_in_order() {
        let mut buffer = WipedBuffer::with_capacity(2);
        buffer.write_all(b"abc").unwrap();
        assert_eq!(buffer.read_from(&mut b"defg".as_slice(), 3).unwrap(), 3);
        assert_eq!(buffer.as_slice(), b"abcdef");
        buffer.consume(4);
        assert_eq!(buffer.as_slice(), b"ef");
        buffer.consume(9);
        assert_eq!(buffer.len(), 0);
        assert_eq!(buffer.read_from(&mut b"".as_slice(), 3).unwrap(), 0);
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn base64_is_appended_and_a_suffix_can_be_removed() {
        for length in 0..10 {
            let bytes = &b"\0\xff secret"[..length];
            let mut buffer = WipedBuffer::with_capacity(1);
            buffer.write_all(b"before}").unwrap();
            buffer.unwrite(b"}");
            buffer.unwrite(b"}");
            buffer.write_base64(bytes);
            assert_eq!(buffer.as_slice(), [b"before", STANDARD.encode(bytes).as_bytes()].concat());
        }
    }

    #[test]
    fn a_cleared_buffer_is_empty_and_keeps_its_capacity() {
        let mut buffer = WipedBuffer::with_capacity(16);
        buffer.write_all(b"secret").unwrap();
        buffer.clear();
        assert!(buffer.len() == 0 && buffer.bytes.capacity() >= 16);
    }
}
