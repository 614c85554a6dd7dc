//! Length-prefixed messages over a socket, in reusable buffers.

use std::io::{self, Read, Write};

use zeroize::{Zeroize, Zeroizing};

/// Maximum message length in bytes, without its length field: the same as OpenSSH's.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Size of the buffer in bytes, enough for usual messages; an idle connection holds no more.
const INITIAL_BYTES: usize = 4 * 1024;

/// Length of the length field in bytes.
const LENGTH_BYTES: usize = 4;

/// Reads messages. Its buffer is wiped when dropped, because PINs and pass phrases pass through it.
pub(super) struct MessageReader {
    buffer: Zeroizing<Vec<u8>>,
    /// Start and end of the last message returned.
    message: (usize, usize),
    /// Number of bytes received.
    filled: usize,
}

impl MessageReader {
    pub(super) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; INITIAL_BYTES]), message: (0, 0), filled: 0 }
    }

    /// The next message; `None` if the peer closed the connection. An empty or overlong message is
    /// an error, because the following message boundaries are then unknown.
    pub(super) fn next(&mut self, stream: &mut impl Read) -> io::Result<Option<&[u8]>> {
        self.forget_message();
        let Some(length) = self.length(stream)? else {
            return Ok(None);
        };
        let whole = LENGTH_BYTES + length;
        self.grow_to(whole);
        while self.filled < whole {
            if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.message = (LENGTH_BYTES, whole);
        Ok(self.buffer.get(LENGTH_BYTES..whole))
    }

    /// Wipes the last message returned, which held a secret.
    pub(super) fn wipe_message(&mut self) {
        let (start, end) = self.message;
        if let Some(message) = self.buffer.get_mut(start..end) {
            message.zeroize();
        }
    }

    fn length(&mut self, stream: &mut impl Read) -> io::Result<Option<usize>> {
        loop {
            if let Some(length) = self.buffer.get(..self.filled).and_then(|bytes| bytes.first_chunk::<LENGTH_BYTES>()) {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length == 0 || length > MAX_MESSAGE_BYTES {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "message length is zero or above the limit",
                    ));
                }
                return Ok(Some(length));
            }
            if self.fill(stream)? == 0 {
                return if self.filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let destination = self.buffer.get_mut(self.filled..).unwrap_or_default();
        loop {
            match stream.read(destination) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(read) => {
                    self.filled += read;
                    return Ok(read);
                }
            }
        }
    }

    /// Moves bytes after the last message to the front (none, unless a client does not wait for
    /// answers).
    fn forget_message(&mut self) {
        let (_, end) = std::mem::take(&mut self.message);
        self.buffer.copy_within(end..self.filled, 0);
        self.filled -= end;
        if self.buffer.len() > INITIAL_BYTES && self.filled <= INITIAL_BYTES {
            self.resize(INITIAL_BYTES);
        }
    }

    fn grow_to(&mut self, size: usize) {
        if size > self.buffer.len() {
            self.resize(size);
        }
    }

    /// Moves to a new buffer, so that the old one is wiped.
    fn resize(&mut self, size: usize) {
        let mut larger = Zeroizing::new(vec![0; size]);
        for (destination, byte) in larger.iter_mut().zip(self.buffer.iter().take(self.filled)) {
            *destination = *byte;
        }
        self.buffer = larger;
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
        assert_eq!(incoming.buffer.len(), INITIAL_BYTES);
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
    fn a_secret_is_wiped_and_the_next_message_is_kept() {
        let bytes = [framed(b"a secret PIN"), framed(b"next")].concat();
        let mut stream = bytes.as_slice();
        let mut incoming = MessageReader::new();
        incoming.next(&mut stream).unwrap();
        incoming.wipe_message();
        assert!(!incoming.buffer.windows(6).any(|window| window == b"secret"));
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
