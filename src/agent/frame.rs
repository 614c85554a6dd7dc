//! Frames: the messages between the agent's processes.
//!
//! A frame has two lengths (four bytes each, big endian), JSON of the first length, and a secret of
//! the second length. A PIN is never part of the JSON, because JSON parsers keep copies. Both
//! lengths are limited.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::token::Pin;

/// Maximum length of a secret in bytes.
const MAX_SECRET_BYTES: usize = Pin::MAX_BYTES;

/// Sends a frame whose JSON has at most `max_bytes` bytes.
pub(super) fn write(stream: &mut impl Write, head: &impl Serialize, secret: &[u8], max_bytes: usize) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    if head.len() > max_bytes || secret.len() > MAX_SECRET_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Allocated at its full size: a growing buffer would leave copies of the secret behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(8 + head.len() + secret.len()));
    for part in [&head[..], secret] {
        frame.extend_from_slice(&u32::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes());
    }
    frame.extend_from_slice(&head);
    frame.extend_from_slice(secret);
    stream.write_all(&frame)
}

/// Receives a frame whose JSON has at most `max_bytes` bytes; returns the decoded JSON and the
/// secret.
pub(super) fn read<T: DeserializeOwned>(
    stream: &mut impl Read,
    max_bytes: usize,
) -> io::Result<(T, Zeroizing<Vec<u8>>)> {
    let head = read_length(stream, max_bytes)?;
    let secret = read_length(stream, MAX_SECRET_BYTES)?;
    let mut bytes = vec![0; head];
    stream.read_exact(&mut bytes)?;
    let mut rest = Zeroizing::new(vec![0; secret]);
    stream.read_exact(&mut rest)?;
    Ok((serde_json::from_slice(&bytes)?, rest))
}

fn read_length(stream: &mut impl Read, max_bytes: usize) -> io::Result<usize> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    usize::try_from(u32::from_be_bytes(length))
        .ok()
        .filter(|length| *length <= max_bytes)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
