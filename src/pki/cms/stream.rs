//! Reading in pieces, so that a content of any length takes constant memory.

use std::io::{ErrorKind, Read, Result};

use zeroize::Zeroizing;

/// The length of a piece, in octets; a multiple of all block lengths.
const PIECE: usize = 1 << 16;

/// A buffer for one piece, which may hold plaintext.
pub(crate) fn piece_buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; PIECE])
}

/// Fills the buffer, and returns its filled part. Only the last piece of an input is shorter than
/// the buffer.
pub(crate) fn fill<'a>(input: &mut impl Read, buffer: &'a mut [u8]) -> Result<&'a mut [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get_mut(..filled).unwrap_or_default())
}
