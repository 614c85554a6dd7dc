//! Length-prefixed messages over a socket, in reusable buffers.

use std::io::{self, Read, Write};

use crate::agent::wiped_buffer::WipedBuffer;

/// Maximum message length in bytes, without its length field: the same as OpenSSH's.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Size of the buffer in bytes, enough for usual messages; an idle connection holds no more.
const INITIAL_BYTES: usize = 4 * 1024;

/// Length of the length field in bytes.
const LENGTH_BYTES: usize = 4;

/// Reads messages. Each is wiped after its answer, because PINs and pass phrases are among them.
pub(super) struct MessageReader {
    buffer: WipedBuffer,
    /// Length of the last message returned, with its length field.
    returned: usize,
}

impl MessageReader {
    pub(super) fn new() -> Self {
        Self { buffer: WipedBuffer::with_capacity(INITIAL_BYTES), returned: 0 }
    }

    /// The next message; `None` if the peer closed the connection. An empty or overlong message is
    /// an error, because the following message boundaries are then unknown.
    pub(super) fn next(&mut self, stream: &mut impl Read) -> io::Result<Option<&[u8]>> {
        self.wipe_message();
        let Some(length) = self.length(stream)? else {
            return Ok(None);
        };
        let whole = LENGTH_BYTES + length;
        while self.buffer.len() < whole {
            if self.fill(stream, whole)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.returned = whole;
        Ok(self.buffer.as_slice().get(LENGTH_BYTES..whole))
    }

    /// Wipes the last message returned. Bytes after it (of a client that does not wait for answers)
    /// move to the front.
    pub(super) fn wipe_message(&mut self) {
        self.buffer.consume(std::mem::take(&mut self.returned));
        if self.buffer.len() <= INITIAL_BYTES {
            self.buffer.shrink_to(INITIAL_BYTES);
        }
    }

    fn length(&mut self, stream: &mut impl Read) -> io::Result<Option<usize>> {
        loop {
            if let Some(length) = self.buffer.as_slice().first_chunk::<LENGTH_BYTES>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length == 0 || length > MAX_MESSAGE_BYTES {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "message length is zero or above the limit",
                    ));
                }
                return Ok(Some(length));
            }
            if self.fill(stream, LENGTH_BYTES)? == 0 {
                return if self.buffer.len() == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads once; `wanted` bytes or more fit into the buffer.
    fn fill(&mut self, stream: &mut impl Read, wanted: usize) -> io::Result<usize> {
        let limit = wanted.max(INITIAL_BYTES).saturating_sub(self.buffer.len());
        loop {
            match self.buffer.read_from(stream, limit) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Writes answers.
pub(super) struct MessageWriter {
    buffer: Vec<u8>,
}

impl MessageWriter {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::with_capacity(INITIAL_BYTES) }
    }

    /// Starts an empty answer, after space for its length.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        &mut self.buffer
    }

    /// Sends the answer in one write. An overlong answer (a token with thousands of keys) is an
    /// error.
    pub(super) fn send(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let length = self.buffer.len().saturating_sub(LENGTH_BYTES);
        if length > MAX_MESSAGE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "answer length is above the limit"));
        }
        if let (Some(destination), Ok(length)) = (self.buffer.get_mut(..LENGTH_BYTES), u32::try_from(length)) {
            destination.copy_from_slice(&length.to_be_bytes());
        }
        stream.write_all(&self.buffer)?;
        if self.buffer.capacity() > INITIAL_BYTES {
            self.buffer = Vec::with_capacity(INITIAL_BYTES);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns its bytes in pieces of one size, as a socket may.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, destination: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(destination.len()).min(self.0.len());
            let (now, later) = self.0.split_at(length);
            destination[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    #[test]
    fn empty_and_oversized_messages_end_the_connection() {
        for length in [0, u32::try_from(MAX_MESSAGE_BYTES).unwrap() + 1, u32::MAX] {
            let bytes = [&length.to_be_bytes()[..], &[11; 64]].concat();
            let error = MessageReader::new().next(&mut bytes.as_slice()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    #[test]
    fn the_longest_message_is_read_and_its_memory_released() {
        let long = vec![7; MAX_MESSAGE_BYTES];
        let bytes = [framed(&long), framed(b"after")].concat();
        let mut stream = bytes.as_slice();
        let mut incoming = MessageReader::new();
        assert_eq!(incoming.next(&mut stream).unwrap(), Some(&long[..]));
        assert_eq!(incoming.next(&mut stream).unwrap(), Some(&b"after"[..]));
        assert_eq!(incoming.buffer.capacity(), INITIAL_BYTES);
        assert_eq!(incoming.next(&mut stream).unwrap(), None);
    }

    #[test]
    fn a_truncated_message_is_an_error() {
        for cut in 1..8 {
            let bytes = &framed(b"four")[..cut];
            let error = MessageReader::new().next(&mut &bytes[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[test]
    fn a_message_is_wiped_and_the_next_one_is_kept() {
        let bytes = [framed(b"a secret PIN"), framed(b"next")].concat();
        let mut stream = bytes.as_slice();
        let mut incoming = MessageReader::new();
        incoming.next(&mut stream).unwrap();
        incoming.wipe_message();
        assert_eq!(incoming.buffer.as_slice(), framed(b"next"));
        assert_eq!(incoming.next(&mut stream).unwrap(), Some(&b"next"[..]));
    }

    #[test]
    fn an_oversized_answer_is_not_sent() {
        let mut outgoing = MessageWriter::new();
        outgoing.begin().resize(LENGTH_BYTES + MAX_MESSAGE_BYTES + 1, 0);
        let mut sent = Vec::new();
        outgoing.send(&mut sent).unwrap_err();
        assert!(sent.is_empty());
        outgoing.begin().push(5);
        outgoing.send(&mut sent).unwrap();
        assert_eq!(sent, [0, 0, 0, 1, 5]);
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9000), 0..6),
            piece in 1..5000_usize,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut stream = Pieces(&bytes, piece);
            let mut incoming = MessageReader::new();
            for message in &messages {
                prop_assert_eq!(incoming.next(&mut stream).unwrap(), Some(&message[..]));
            }
            prop_assert_eq!(incoming.next(&mut stream).unwrap(), None);
        }
    }
}
