//! A growing buffer that wipes its memory, because requests and answers can hold PINs, letters and
//! decrypted content.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes that are wiped when they are removed, when the buffer grows and moves, and when it is
/// dropped.
#[derive(Debug, Default)]
pub struct WipedBuffer {
    // The whole capacity; zero behind the content.
    bytes: Zeroizing<Vec<u8>>,
    length: usize,
}

impl WipedBuffer {
    /// With capacity for this many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Zeroizing::new(vec![0; capacity]), length: 0 }
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The number of bytes written so far.
    #[allow(clippy::len_without_is_empty, reason = "unused")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Empties the buffer; keeps its capacity.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes the first `count` bytes; moves the rest to the front.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.bytes.copy_within(count..self.length, 0);
        self.truncate(self.length - count);
    }

    /// Ensures capacity for this many more bytes.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.length.saturating_add(more);
        if needed > self.capacity() {
            self.move_to(needed.max(self.capacity().saturating_mul(2)));
        }
    }

    /// Reduces the capacity to this many bytes, or to those written so far if they are more.
    pub fn shrink_to(&mut self, capacity: usize) {
        let capacity = capacity.max(self.length);
        if capacity < self.capacity() {
            self.move_to(capacity);
        }
    }

    /// Removes this suffix, if present.
    pub fn unwrite(&mut self, end: &[u8]) {
        if self.as_slice().ends_with(end) {
            self.truncate(self.length - end.len());
        }
    }

    /// Appends bytes as base64 (RFC 4648 §4).
    pub fn write_base64(&mut self, bytes: &[u8]) {
        let length = bytes.len().div_ceil(3) * 4;
        // The space has the exact length, so encoding cannot fail.
        let _ = STANDARD.encode_slice(bytes, self.space(length));
        self.length += length;
    }

    /// Appends one read of at most `limit` bytes; returns the number read.
    ///
    /// # Errors
    /// The source's error.
    pub fn read_from(&mut self, source: &mut impl Read, limit: usize) -> io::Result<usize> {
        let read = source.read(self.space(limit))?;
        self.length += read.min(limit);
        Ok(read)
    }

    /// Space for this many more bytes.
    fn space(&mut self, more: usize) -> &mut [u8] {
        self.reserve(more);
        self.bytes.get_mut(self.length..self.length + more).unwrap_or_default()
    }

    fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.bytes.get_mut(length..self.length) {
            rest.zeroize();
        }
        self.length = length;
    }

    /// The old memory is wiped.
    fn move_to(&mut self, capacity: usize) {
        let mut bytes = Zeroizing::new(vec![0; capacity]);
        if let (Some(destination), Some(source)) = (bytes.get_mut(..self.length), self.bytes.get(..self.length)) {
            destination.copy_from_slice(source);
        }
        self.bytes = bytes;
    }
}

impl Write for WipedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.length += bytes.len();
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
    fn removed_bytes_are_wiped_and_the_capacity_is_kept() {
        let mut buffer = WipedBuffer::with_capacity(16);
        buffer.write_all(b"secret next").unwrap();
        buffer.consume(7);
        assert_eq!(buffer.bytes.as_slice(), b"next\0\0\0\0\0\0\0\0\0\0\0\0");
        buffer.clear();
        assert_eq!((buffer.len(), buffer.bytes.as_slice()), (0, &[0; 16][..]));
    }

    #[test]
    fn a_buffer_shrinks_to_its_content_at_most() {
        let mut buffer = WipedBuffer::with_capacity(16);
        buffer.write_all(b"secret").unwrap();
        buffer.shrink_to(4);
        assert_eq!((buffer.as_slice(), buffer.capacity()), (&b"secret"[..], 6));
        buffer.shrink_to(32);
        assert_eq!(buffer.capacity(), 6);
    }
}
