//! Frames. A frame has a head of 16 bytes, a message in JSON, and a payload:
//!
//! | bytes | |
//! |---|---|
//! | 8 | the build that wrote it; the first byte is 0, which begins no HTTP request |
//! | 4 | length of the message in bytes, big endian |
//! | 4 | length of the payload in bytes, big endian |
//!
//! The payload is what must be wiped or is not JSON: a PIN, a letter, a message to the authority.
//! JSON parsers keep copies. Files travel with the head (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The build of this process, in hexadecimal digits.
const BUILD_ID: &str = env!("BUILD_ID");

/// Maximum length of a message, and of a payload, in bytes: a listing of many keysets with their
/// certificates, and the authority's longest reply.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Number of bytes for which memory is allocated at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The first byte of each frame.
const FIRST_BYTE: u8 = 0;

/// Length of the head in bytes.
const HEAD_BYTES: usize = 16;

/// Maximum number of files in one frame: the agent's two listeners, and the memory file of the
/// calls to modules.
const MAX_FILES: usize = 3;

/// A received frame.
pub struct Frame<T> {
    pub message: T,
    pub payload: Zeroizing<Vec<u8>>,
    pub files: Vec<OwnedFd>,
}

/// A failed exchange with another process of this program.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// The other process is of another build, and nothing that it wrote can be read.
    #[error("the other process is another build of this program")]
    OtherBuild,
    /// The other process has closed the connection, or has exited.
    #[error("the other process closed the connection")]
    Closed,
    /// The other process did not answer in time.
    #[error("the other process does not respond")]
    Timeout,
    /// The other process serves too many connections.
    #[error("it serves too many connections; try again")]
    Busy,
    /// A frame is too long, or its message is not the expected one.
    #[error("unexpected message: {0}")]
    Unexpected(String),
    #[error("{0}")]
    System(io::Error),
}

impl From<io::Error> for IpcError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::System(error),
        }
    }
}

/// Sends a frame.
///
/// # Errors
/// The message or the payload is too long, or the connection failed.
pub fn send(
    stream: &UnixStream,
    message: &impl Serialize,
    payload: &[u8],
    files: &[BorrowedFd<'_>],
) -> Result<(), IpcError> {
    let message = serde_json::to_vec(message).map_err(|error| IpcError::Unexpected(error.to_string()))?;
    let length = |part: &[u8]| {
        u32::try_from(part.len())
            .ok()
            .filter(|_| part.len() <= MAX_BYTES)
            .ok_or_else(|| IpcError::Unexpected(format!("{} bytes are too long", part.len())))
    };
    let lengths = [length(&message)?, length(payload)?];
    // Allocated at its full size: a growing buffer would leave copies of the payload behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + message.len() + payload.len()));
    frame.extend_from_slice(&build_id());
    for length in lengths {
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&message);
    frame.extend_from_slice(payload);
    send_with_files(stream, &frame, files)
}

/// Sends an empty frame, which only names this build: the answer to a process of another build.
///
/// # Errors
/// The connection failed.
pub fn announce_build(stream: &UnixStream) -> Result<(), IpcError> {
    send_with_files(stream, &[build_id(), [0; 8]].concat(), &[])
}

fn send_with_files(mut stream: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), IpcError> {
    let sent = if files.is_empty() {
        0
    } else {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(IpcError::Unexpected(format!("{} files are too many", files.len())));
        }
        let parts = [IoSlice::new(bytes)];
        retry(|| Ok(sendmsg(stream, &parts, &mut ancillary, SendFlags::NOSIGNAL)?))?
    };
    Ok(stream.write_all(bytes.get(sent..).unwrap_or_default())?)
}

/// Receives a frame.
///
/// # Errors
/// The connection failed or ended, the other process is another build, or the message is not the
/// expected one.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> Result<Frame<T>, IpcError> {
    receive_within(stream, ReceiveLimits { max_bytes: MAX_BYTES, deadline: None })
}

/// The limits of one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveLimits {
    /// maximum length of its message, and of its payload, in bytes
    pub(super) max_bytes: usize,
    /// the end of the wait for all of it; `None`: the stream's own time limit counts, for each read
    pub(super) deadline: Option<Instant>,
}

/// Receives a frame within these limits.
///
/// # Errors
/// As [`receive`].
pub(super) fn receive_within<T: DeserializeOwned>(
    stream: &UnixStream,
    limits: ReceiveLimits,
) -> Result<Frame<T>, IpcError> {
    let (head, files) = receive_head(stream, limits.deadline)?;
    let (build, lengths) = head.split_at(8);
    if build != build_id() {
        // An agent with too many connections answers every client alike.
        return Err(if head.starts_with(b"HTTP/1.1 503") { IpcError::Busy } else { IpcError::OtherBuild });
    }
    let (message_length, payload_length) = lengths.split_at(4);
    let [message, payload] = [message_length, payload_length].map(|length| checked_length(length, limits.max_bytes));
    let (message, payload) = (message?, payload?);
    let message = receive_bytes(stream, message, limits.deadline)?;
    let payload = receive_bytes(stream, payload, limits.deadline)?;
    let message = serde_json::from_slice(&message).map_err(|error| IpcError::Unexpected(error.to_string()))?;
    Ok(Frame { message, payload, files })
}

/// Receives this many bytes. Memory is allocated as they arrive: a length alone costs nothing.
fn receive_bytes(
    stream: &UnixStream,
    length: usize,
    deadline: Option<Instant>,
) -> Result<Zeroizing<Vec<u8>>, IpcError> {
    let mut pieces = Vec::new();
    let mut rest = length;
    while rest > 0 {
        let mut piece = Zeroizing::new(vec![0; rest.min(PIECE_BYTES)]);
        read_exact(stream, &mut piece, deadline)?;
        rest -= piece.len();
        pieces.push(piece);
    }
    // Joined at its full size: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for piece in pieces {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Like [`Read::read_exact`], but all reads together end at the deadline.
fn read_exact(mut stream: &UnixStream, mut buffer: &mut [u8], deadline: Option<Instant>) -> Result<(), IpcError> {
    while !buffer.is_empty() {
        wait_until(stream, deadline)?;
        match stream.read(buffer) {
            Ok(0) => return Err(IpcError::Closed),
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Limits the next read to the rest of the time.
fn wait_until(stream: &UnixStream, deadline: Option<Instant>) -> Result<(), IpcError> {
    let Some(deadline) = deadline else { return Ok(()) };
    let rest = deadline.saturating_duration_since(Instant::now());
    if rest.is_zero() {
        return Err(IpcError::Timeout);
    }
    Ok(stream.set_read_timeout(Some(rest))?)
}

/// The head, and the files that came with it.
fn receive_head(stream: &UnixStream, deadline: Option<Instant>) -> Result<([u8; HEAD_BYTES], Vec<OwnedFd>), IpcError> {
    wait_until(stream, deadline)?;
    let mut head = [0; HEAD_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        Ok(recvmsg(stream, &mut [IoSliceMut::new(&mut head)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes)
    })?;
    if received == 0 {
        return Err(IpcError::Closed);
    }
    let files = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    read_exact(stream, head.get_mut(received..).unwrap_or_default(), deadline)?;
    Ok((head, files))
}

fn checked_length(bytes: &[u8], max_bytes: usize) -> Result<usize, IpcError> {
    let length = bytes.iter().fold(0, |length: u32, byte| (length << 8) | u32::from(*byte));
    let checked = usize::try_from(length).ok().filter(|length| *length <= max_bytes);
    checked.ok_or_else(|| IpcError::Unexpected(format!("{length} bytes are too long")))
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Waits for the first byte of a connection, and returns true if a frame begins with it. The byte
/// stays to be read.
///
/// # Errors
/// The connection failed.
pub fn is_frame_next(stream: &impl AsFd) -> io::Result<bool> {
    let mut first = [1];
    let received = retry(|| Ok(rustix::net::recv(stream, &mut first, RecvFlags::PEEK)?.0))?;
    Ok(received > 0 && first == [FIRST_BYTE])
}

/// The build of this process.
fn build_id() -> [u8; 8] {
    let mut id = [FIRST_BYTE; 8];
    let [_, hash @ ..] = &mut id;
    // It has 14 hexadecimal digits; another form would be the same for both processes.
    let _ = hex::decode_to_slice(BUILD_ID, hash);
    id
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn a_frame_carries_message_payload_and_files() {
        let (one, other) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send(&one, &("a message", 7), b"a secret", &[file.as_fd()]).unwrap();
        send(&one, &("no file", 8), b"", &[]).unwrap();
        let frame = receive::<(String, u32)>(&other).unwrap();
        assert_eq!((frame.message, frame.payload.as_slice()), (("a message".to_owned(), 7), &b"a secret"[..]));
        let mut content = String::new();
        let mut received = File::from(frame.files.into_iter().next().unwrap());
        io::Seek::rewind(&mut received).unwrap();
        received.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
        assert!(receive::<(String, u32)>(&other).unwrap().files.is_empty());
    }

    #[test]
    fn another_build_is_recognized_by_both_sides() {
        let (one, other) = pair();
        (&one).write_all(&[b"other ID".as_slice(), &[0, 0, 0, 2, 0, 0, 0, 0], b"{}"].concat()).unwrap();
        assert!(matches!(receive::<()>(&other), Err(IpcError::OtherBuild)));
        announce_build(&other).unwrap();
        // To a process of this build, an empty frame is a malformed message.
        assert!(matches!(receive::<()>(&one), Err(IpcError::Unexpected(_))));
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused() {
        let too_long = u32::try_from(MAX_BYTES + 1).unwrap().to_be_bytes();
        for lengths in [[too_long, [0; 4]], [[0; 4], too_long]] {
            let (one, other) = pair();
            (&one).write_all(&[build_id().as_slice(), &lengths.concat()].concat()).unwrap();
            assert!(matches!(receive::<()>(&other), Err(IpcError::Unexpected(_))));
        }
        let (one, other) = pair();
        send(&one, &7, b"four", &[]).unwrap();
        assert!(matches!(
            receive_within::<u8>(&other, ReceiveLimits { max_bytes: 3, deadline: None }),
            Err(IpcError::Unexpected(_))
        ));
        let (one, _other) = pair();
        assert!(matches!(send(&one, &(), &vec![0; MAX_BYTES + 1], &[]), Err(IpcError::Unexpected(_))));
    }

    #[test]
    fn a_truncated_frame_ends_the_connection() {
        let whole = [build_id().as_slice(), &[0, 0, 0, 4, 0, 0, 0, 1], b"nullx"].concat();
        for length in 0..whole.len() {
            let (one, other) = pair();
            (&one).write_all(&whole[..length]).unwrap();
            drop(one);
            assert!(matches!(receive::<()>(&other), Err(IpcError::Closed)), "{length}");
        }
        let (one, other) = pair();
        (&one).write_all(&whole).unwrap();
        assert_eq!(receive::<()>(&other).unwrap().payload.as_slice(), b"x");
    }
}
