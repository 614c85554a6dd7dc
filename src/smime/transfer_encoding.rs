//! Transfer encodings (RFC 2045 §6), decoded in pieces.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The length of the encoded text that is decoded at once, in octets.
const TEXT_PIECE: usize = 48 * 1024;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferEncoding {
    /// 7bit, 8bit or binary.
    Identity,
    /// White space is ignored.
    Base64,
    /// Quoted-printable (RFC 2045 §6.7).
    QuotedPrintable,
}

impl TransferEncoding {
    /// The decoded text; `None` if it is damaged.
    pub(super) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        TransferDecoder::new(text, self, "").read_to_end(&mut decoded).ok()?;
        Some(decoded)
    }
}

/// The encoded text is invalid.
#[derive(Debug)]
pub(super) struct EncodingDamage(pub(super) &'static str);

impl fmt::Display for EncodingDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for EncodingDamage {}

/// Decodes an input. A damaged text is an error of the kind [`ErrorKind::InvalidData`] around an
/// [`EncodingDamage`].
pub(super) struct TransferDecoder<R> {
    input: BufReader<R>,
    encoding: TransferEncoding,
    /// Encoded text that has not been decoded.
    text: Vec<u8>,
    decoded: Zeroizing<Vec<u8>>,
    /// The number of octets of `decoded` that have been returned.
    returned: usize,
    /// Whether base64 has ended with padding.
    is_padded: bool,
    /// The description of a damage, for people.
    damage: &'static str,
}

impl<R: Read> TransferDecoder<R> {
    pub(super) fn new(input: R, encoding: TransferEncoding, damage: &'static str) -> Self {
        let decoded = Zeroizing::new(Vec::with_capacity(TEXT_PIECE));
        let input = BufReader::with_capacity(TEXT_PIECE, input);
        Self { input, encoding, text: Vec::new(), decoded, returned: 0, is_padded: false, damage }
    }

    fn damaged(&self) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, EncodingDamage(self.damage))
    }

    /// Decodes the next piece. Returns false at the end of the input.
    fn decode_more(&mut self) -> io::Result<bool> {
        self.returned = 0;
        self.decoded.clear();
        match self.encoding {
            TransferEncoding::Base64 => self.decode_base64(),
            TransferEncoding::QuotedPrintable => self.decode_quoted_printable(),
            TransferEncoding::Identity => Ok(false),
        }
    }

    fn decode_base64(&mut self) -> io::Result<bool> {
        let mut is_last = false;
        while self.text.len() < TEXT_PIECE && !is_last {
            // One line at a time: this is much faster than a search for white space.
            let limit = (TEXT_PIECE - self.text.len()) as u64;
            is_last = self.input.by_ref().take(limit).read_until(b'\n', &mut self.text)? == 0;
            let length = self.text.trim_ascii_end().len();
            self.text.truncate(length);
        }
        if b" \t\n\r\x0c".iter().any(|space| self.text.contains(space)) {
            self.text.retain(|byte| !byte.is_ascii_whitespace());
        }
        if self.is_padded && !self.text.is_empty() {
            return Err(self.damaged());
        }
        let usable = if is_last { self.text.len() } else { self.text.len() / 4 * 4 };
        let complete = self.text.len() / 4 * 3;
        self.decoded.resize(complete, 0);
        let text = self.text.get(..usable).unwrap_or_default();
        let Ok(count) = STANDARD.decode_slice(text, &mut self.decoded) else { return Err(self.damaged()) };
        self.decoded.truncate(count);
        self.is_padded |= count < complete;
        self.text.drain(..usable);
        if self.is_padded && !self.text.is_empty() {
            return Err(self.damaged());
        }
        Ok(!is_last || count > 0)
    }

    fn decode_quoted_printable(&mut self) -> io::Result<bool> {
        let limit = (TEXT_PIECE - self.text.len()) as u64;
        let is_last = self.input.by_ref().take(limit).read_to_end(&mut self.text)? == 0;
        let mut rest = self.text.as_slice();
        loop {
            rest = match rest {
                [b'=', b'\n', after @ ..] | [b'=', b'\r', b'\n', after @ ..] => after,
                [b'=', digits @ ..] if digits.len() >= 2 => {
                    let Some((digits, after)) = digits.split_at_checked(2) else { break };
                    let octets = hex::decode(digits).map_err(|_| self.damaged())?;
                    self.decoded.extend_from_slice(&octets);
                    after
                }
                [b'=', ..] if is_last => return Err(self.damaged()),
                // The piece ends within an escape.
                [b'=', ..] | [] => break,
                [byte, after @ ..] => {
                    self.decoded.push(*byte);
                    after
                }
            };
        }
        self.text = rest.to_vec();
        Ok(!is_last)
    }
}

impl<R: Read> Read for TransferDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.encoding == TransferEncoding::Identity {
            return self.input.read(buffer);
        }
        while self.returned >= self.decoded.len() {
            if !self.decode_more()? {
                return Ok(0);
            }
        }
        let count = self.decoded.get(self.returned..).unwrap_or_default().read(buffer)?;
        self.returned += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::test_support::PieceReader;
    use crate::smime::entity::fold_base64;

    fn read(text: &[u8], encoding: TransferEncoding, piece: usize) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        TransferDecoder::new(PieceReader::new(text, piece), encoding, "").read_to_end(&mut decoded).ok()?;
        Some(decoded)
    }

    /// Decodes base64 in memory.
    fn base64_at_once(text: &[u8]) -> Option<Vec<u8>> {
        let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(text).ok()
    }

    #[test]
    fn padding_ends_base64() {
        let long = "QUJD".repeat(TEXT_PIECE / 4);
        for text in [
            "",
            " \r\n",
            "QQ==",
            "QQ==\r\n \n",
            "Q Q\n=\t=",
            "QQ=",
            "QQ==QQ==",
            "QQ==\nQQ==",
            "QUJD=",
            "=",
            "QQ",
            "QR==",
            "Q-==",
            &long,
            &format!("{long}QQ=="),
            &format!("{long}=="),
            &format!("{}QQ=={long}", &long[4..]),
            &format!("{}QQ==A", &long[4..]),
            &format!("{}QQ==\n", &long[4..]),
            &format!("{}Q Q==", &long[4..]),
        ] {
            let expected = base64_at_once(text.as_bytes());
            for piece in [1, 7, 1000, 1 << 20] {
                assert!(read(text.as_bytes(), TransferEncoding::Base64, piece) == expected, "{piece} {text:.30}");
            }
        }
    }

    #[test]
    fn escapes_may_be_in_two_pieces() {
        let encoding = TransferEncoding::QuotedPrintable;
        let long = "a".repeat(TEXT_PIECE - 2);
        for (end, expected) in [
            ("=3D=\r\nb=C3=BC=\n", Some("=bü")),
            ("==", None),
            ("=", None),
            ("=\r", None),
            ("=\rx", None),
            ("=4", None),
            ("=X1", None),
            ("=4f", Some("O")),
        ] {
            for before in ["", "a", "aa", "aaa", &long, &long[1..], &long[2..]] {
                let text = format!("{before}{end}");
                let expected = expected.map(|expected| format!("{before}{expected}").into_bytes());
                for piece in [1, 1 << 20] {
                    assert!(read(text.as_bytes(), encoding, piece) == expected, "{end:?} after {}", before.len());
                }
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn base64_does_not_depend_on_the_pieces(text in "[QUA=\\n\\r \\-]{0,40}", piece in 1_usize..20) {
            assert_eq!(read(text.as_bytes(), TransferEncoding::Base64, piece), base64_at_once(text.as_bytes()));
        }

        #[test]
        fn folded_octets_are_decoded(
            octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200_000),
            piece in 1_usize..100_000,
        ) {
            let text = fold_base64(&octets);
            assert!(read(text.as_bytes(), TransferEncoding::Base64, piece) == Some(octets));
        }
    }
}
