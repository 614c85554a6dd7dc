//! Converts BER to definite lengths. Programs that do not know a message's length in advance write
//! indefinite ones, as RFC 5652 §5.2 allows and `openssl cms` does by default.

use crate::pki::PkiError;
use crate::pki::tlv::{OCTET_STRING, element, header};

/// The maximum nesting of elements, far above that of real messages.
pub(super) const MAX_DEPTH: usize = 32;

pub(super) const CONSTRUCTED_OCTET_STRING: u8 = 0x24;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// Converts all indefinite lengths to definite ones, and joins octet strings that consist of
/// segments.
///
/// Elements without either are unchanged to the byte, so that signed bytes remain intact. The input
/// must be exactly one element, without trailing bytes.
pub(crate) fn to_definite(bytes: &[u8], what: &'static str) -> Result<Vec<u8>, PkiError> {
    let (element, rest) = read(bytes, 0).ok_or_else(|| PkiError::malformed(what, "it is neither DER nor BER"))?;
    if rest.is_empty() { Ok(element) } else { Err(PkiError::malformed(what, "data follows its end")) }
}

/// Converts the first element, and returns the rest of the input.
fn read(bytes: &[u8], depth: usize) -> Option<(Vec<u8>, &[u8])> {
    let (header_length, value_length) = header(bytes)?;
    let tag = *bytes.first()?;
    let is_constructed = tag & 0x20 != 0;
    let after_header = bytes.get(header_length..)?;
    if !is_constructed {
        let (whole, rest) = bytes.split_at_checked(header_length.checked_add(value_length?)?)?;
        return Some((whole.to_vec(), rest));
    }
    if depth >= MAX_DEPTH {
        return None;
    }
    let (inside, rest) = match value_length {
        Some(length) => {
            let (mut value, rest) = after_header.split_at_checked(length)?;
            let mut inside = Vec::new();
            while !value.is_empty() {
                let (child, after) = read(value, depth + 1)?;
                inside.push(child);
                value = after;
            }
            (inside, rest)
        }
        None => read_until_end(after_header, depth)?,
    };
    if tag == CONSTRUCTED_OCTET_STRING {
        return Some((put_together(&inside)?, rest));
    }
    let original = bytes.get(..bytes.len() - rest.len())?;
    let unchanged = value_length.is_some() && inside.concat() == original.get(header_length..)?;
    let parts: Vec<&[u8]> = inside.iter().map(Vec::as_slice).collect();
    Some((if unchanged { original.to_vec() } else { element(tag, &parts) }, rest))
}

fn read_until_end(mut bytes: &[u8], depth: usize) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let mut inside = Vec::new();
    loop {
        if let Some(rest) = bytes.strip_prefix(&END_OF_CONTENTS) {
            return Some((inside, rest));
        }
        let (child, rest) = read(bytes, depth + 1)?;
        inside.push(child);
        bytes = rest;
    }
}

/// Joins an octet string that consists of octet strings (X.690 §8.7.3), which are already joined
/// themselves.
fn put_together(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut values = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if piece.first() != Some(&OCTET_STRING) {
            return None;
        }
        let (header_length, _) = header(piece)?;
        values.push(piece.get(header_length..)?);
    }
    Some(element(OCTET_STRING, &values))
}

/// Converts all lengths of an element to the shortest form, as DER requires (X.690 §10.1). The
/// input must have definite lengths.
pub(crate) fn with_shortest_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    let (element, []) = shorten(bytes, 0)? else { return None };
    Some(element)
}

fn shorten(bytes: &[u8], depth: usize) -> Option<(Vec<u8>, &[u8])> {
    let (header_length, value_length) = header(bytes)?;
    let tag = *bytes.first()?;
    let (whole, rest) = bytes.split_at_checked(header_length.checked_add(value_length?)?)?;
    let mut value = whole.get(header_length..)?;
    if tag & 0x20 == 0 {
        return Some((element(tag, &[value]), rest));
    }
    if depth >= MAX_DEPTH {
        return None;
    }
    let mut inside = Vec::new();
    while !value.is_empty() {
        let (child, after) = shorten(value, depth + 1)?;
        inside.extend_from_slice(&child);
        value = after;
    }
    Some((element(tag, &[&inside]), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lengths_become_short() {
        let odd = [0x30, 0x82, 0, 7, 4, 0x81, 1, 9, 0x31, 0x81, 0];
        assert_eq!(with_shortest_lengths(&odd).unwrap(), [0x30, 5, 4, 1, 9, 0x31, 0]);
        let der = [0x30, 5, 4, 1, 9, 0x31, 0];
        assert_eq!(with_shortest_lengths(&der).unwrap(), der);
        assert_eq!(with_shortest_lengths(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(with_shortest_lengths(&[4, 0, 4, 0]), None);
    }

    #[test]
    fn indefinite_lengths_and_pieces_become_plain() {
        let ber = [0x30, 0x80, 0x24, 0x80, 4, 2, 1, 2, 0x24, 3, 4, 1, 3, 0, 0, 0xa0, 0x80, 5, 0, 0, 0, 0, 0];
        assert_eq!(to_definite(&ber, "a test").unwrap(), [0x30, 9, 4, 3, 1, 2, 3, 0xa0, 2, 5, 0]);
    }

    #[test]
    fn definite_lengths_stay_even_if_not_der() {
        let der = [0x30, 0x82, 0, 5, 4, 0x81, 1, 9, 0x05];
        assert!(to_definite(&der, "a test").is_err()); // the last element is truncated
        let odd = [0x30, 0x82, 0, 4, 4, 0x81, 1, 9];
        assert_eq!(to_definite(&odd, "a test").unwrap(), odd);
    }

    #[test]
    fn endless_deep_and_cut_off_ones_are_refused() {
        let deep: Vec<u8> = [0x30, 0x80].repeat(40);
        let endless = [0x30, 0x80, 4, 0];
        let primitive_indefinite = [4, 0x80, 0, 0];
        let wrong_piece = [0x24, 0x80, 5, 0, 0, 0];
        let followed = [5, 0, 5, 0];
        for bytes in [&deep[..], &endless, &primitive_indefinite, &wrong_piece, &followed, &[], &[0x30, 0x85]] {
            assert!(to_definite(bytes, "a test").is_err(), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            if let Ok(definite) = to_definite(&bytes, "a test") {
                assert_eq!(to_definite(&definite, "a test").unwrap(), definite);
            }
        }
    }
}
