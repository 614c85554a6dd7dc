//! EnvelopedData (RFC 5652 §6) and `AuthEnvelopedData` (RFC 5083) in an input of any length. What
//! surrounds the encrypted content is loaded. The content itself is read in pieces, in two passes:
//! the first verifies all of it, and only then the second writes.

use std::fmt;
use std::io::{ErrorKind, Read, Seek, Write};
use std::sync::OnceLock;

use der::Decode;
use hkdf::Hkdf;
use sha2::Sha256;
use spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::content_cipher::{Authentication, ContentCipher, DecryptionPass};
use super::source::{EncodedSpan, MessageSource, input_error};
use super::{DecryptError, MessageKind, SmimeError};
use crate::pki::PkiError;
use crate::pki::cms::ber_reader::{BerOctets, BerReader, OctetsStart};
use crate::pki::cms::recipient::RecipientInfo;
use crate::pki::cms::stream::{fill, piece_buffer};
use crate::pki::cms::{KeyOperation, KeyResult, Recipient};
use crate::pki::tlv::{
    Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context, context_constructed,
};

pub(super) const WHAT: &str = "an encrypted message";

/// A parsed message without its encrypted content.
#[derive(Clone)]
pub(super) struct Envelope {
    recipients: Vec<Recipient>,
    recipient_infos: Vec<RecipientInfo>,
    cipher: ContentCipher,
    authentication: Authentication,
    ciphertext: OctetsStart,
    length: u64,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets to {:?}", self.length, self.recipients)
    }
}

impl Envelope {
    /// Parses a message to its end without using a key. An unsupported cipher is refused here,
    /// before a person types a PIN.
    pub(super) fn read<R: Read + Seek>(
        kind: MessageKind,
        source: &mut MessageSource<R>,
        structure: &EncodedSpan,
    ) -> Result<Self, SmimeError> {
        if kind == MessageKind::Signed {
            return Err(SmimeError::WrongKind { operation: "decrypt", found: "signed, not encrypted" });
        }
        Self::parse(kind, source.decoder(structure)?).map_err(|error| match error {
            SmimeError::Pki(PkiError::Input { source, .. }) => input_error(source),
            other => other,
        })
    }

    fn parse(kind: MessageKind, input: impl Read) -> Result<Self, SmimeError> {
        let is_authenticated = kind == MessageKind::AuthEnveloped;
        let mut parts = BerReader::new(input, WHAT);
        parts.enter(SEQUENCE)?; // ContentInfo
        parts.required(OBJECT_IDENTIFIER)?;
        parts.enter(context_constructed(0))?;
        parts.enter(SEQUENCE)?; // EnvelopedData or AuthEnvelopedData
        parts.required(INTEGER)?;
        parts.optional(context_constructed(0))?; // originatorInfo: unused certificates
        let recipient_infos = RecipientInfo::read_all(Elements::of(&parts.required(SET)?, WHAT).any()?)?;
        parts.enter(SEQUENCE)?; // EncryptedContentInfo
        parts.required(OBJECT_IDENTIFIER)?;
        let algorithm = AlgorithmIdentifierOwned::from_der(&parts.required(SEQUENCE)?);
        let cipher = ContentCipher::from_algorithm(&algorithm.map_err(PkiError::decode(WHAT))?)?;
        if cipher.is_authenticated() != is_authenticated {
            return Err(PkiError::malformed(WHAT, "its cipher does not match its kind of message").into());
        }
        let Some(content) = parts.octets(context(0), context_constructed(0))? else {
            return Err(PkiError::malformed(WHAT, "its content is missing").into());
        };
        let ciphertext = content.start();
        let (length, mut parts) = content.skip()?;
        if length > cipher.most_octets() {
            return Err(PkiError::malformed(WHAT, "its content is longer than its cipher allows").into());
        }
        parts.leave()?;
        let mut authentication = Authentication::default();
        if is_authenticated {
            if let Some(mut attributes) = parts.optional(context_constructed(1))? {
                if let Some(tag) = attributes.first_mut() {
                    *tag = SET;
                }
                authentication.attributes = attributes;
            }
            let tag = parts.required(OCTET_STRING)?;
            authentication.tag = Elements::of(&tag, WHAT).any()?.value.to_vec();
            parts.optional(context_constructed(2))?;
        } else {
            parts.optional(context_constructed(1))?;
        }
        parts.leave()?;
        parts.leave()?;
        parts.leave()?;
        parts.end()?;
        let recipients = recipient_infos.iter().map(|info| info.recipient.clone()).collect();
        Ok(Self { recipients, recipient_infos, cipher, authentication, ciphertext, length })
    }

    pub(super) fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    #[cfg(test)]
    pub(super) fn recipient_infos(&self) -> &[RecipientInfo] {
        &self.recipient_infos
    }

    /// Whether the encryption authenticates the content.
    pub(super) fn is_authenticated(&self) -> bool {
        self.cipher.is_authenticated()
    }

    /// The length of the ciphertext, in octets; the plaintext is not longer.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Decrypts the content key as the recipient at this index, and writes the plaintext if all of
    /// it is verified. Returns its length.
    pub(super) fn open<R: Read + Seek, E>(
        &self,
        source: &mut MessageSource<R>,
        structure: &EncodedSpan,
        recipient: usize,
        operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
        output: &mut impl Write,
    ) -> Result<u64, DecryptError<E>> {
        let info = self.recipient_infos.get(recipient).ok_or(SmimeError::Undecryptable)?;
        let key = content_key(info, self.cipher.key_length(), operate)?;
        let verified = self.pass(source.decoder(structure)?, &key, DecryptionPass::Verify, &mut std::io::sink())?;
        verified.ok_or(SmimeError::Undecryptable)?;
        let written = self.pass(source.decoder(structure)?, &key, DecryptionPass::Write, output)?;
        let length = written.ok_or(SmimeError::ChangedWhileDecrypting)?;
        output.flush().map_err(written_error)?;
        Ok(length)
    }

    /// Reads the ciphertext once. Returns the length of the plaintext; `None` if key, ciphertext,
    /// tag and authenticated attributes do not match. The output gets the plaintext in the pass
    /// that writes.
    fn pass(
        &self,
        input: impl Read,
        key: &[u8],
        pass: DecryptionPass,
        output: &mut impl Write,
    ) -> Result<Option<u64>, SmimeError> {
        let mut content = BerOctets::read_again(input, &self.ciphertext, WHAT).map_err(changed)?;
        let Some(mut decryptor) = self.cipher.decryptor(key, &self.authentication, pass) else { return Ok(None) };
        let mut buffer = piece_buffer();
        let mut rest = self.length;
        loop {
            let piece = fill(&mut content, &mut buffer).map_err(read_error)?;
            rest = rest.checked_sub(piece.len() as u64).ok_or(SmimeError::ChangedWhileDecrypting)?;
            if piece.is_empty() && rest > 0 {
                return Err(SmimeError::ChangedWhileDecrypting);
            }
            if decryptor.decrypt(piece).is_none() {
                return Ok(None);
            }
            let is_last = rest == 0;
            let count = if is_last { decryptor.finish(piece) } else { Some(piece.len()) };
            let Some(plaintext) = count.and_then(|count| piece.get(..count)) else { return Ok(None) };
            if pass == DecryptionPass::Write {
                output.write_all(plaintext).map_err(written_error)?;
            }
            if is_last {
                let padding = (piece.len() - plaintext.len()) as u64;
                let is_end = fill(&mut content, &mut [0]).map_err(read_error)?.is_empty();
                return if is_end { Ok(Some(self.length - padding)) } else { Err(SmimeError::ChangedWhileDecrypting) };
            }
        }
    }
}

/// The error if the ciphertext cannot be read again.
fn read_error(error: std::io::Error) -> SmimeError {
    match error.kind() {
        ErrorKind::InvalidData => SmimeError::ChangedWhileDecrypting,
        _ => PkiError::Input { what: WHAT, source: error }.into(),
    }
}

fn changed(error: PkiError) -> SmimeError {
    match error {
        PkiError::Input { source, .. } => read_error(source),
        _ => SmimeError::ChangedWhileDecrypting,
    }
}

fn written_error(error: std::io::Error) -> SmimeError {
    PkiError::Output { what: "the content", source: error }.into()
}

/// Decrypts a content key. If that fails or the length differs, the result is a random key, which
/// only the content can tell from a real one. It calls `operate` once, unless the recipient's kind
/// is unsupported.
pub(super) fn content_key<E>(
    info: &RecipientInfo,
    length: usize,
    operate: impl FnOnce(KeyOperation<'_>) -> Result<KeyResult, E>,
) -> Result<Zeroizing<Vec<u8>>, DecryptError<E>> {
    // The substitute is made before anything can fail, so that a failure does not take extra time.
    let substitute = substitute(info, length)?;
    let key = info.content_key(length, operate).map_err(DecryptError::Key)?;
    Ok(key.unwrap_or(substitute))
}

/// The substitute for a content key that cannot be decrypted. No one can predict it. It is the same
/// each time, because two different keys for one message would reveal that neither is real.
pub(super) fn substitute(info: &RecipientInfo, length: usize) -> Result<Zeroizing<Vec<u8>>, SmimeError> {
    static SECRET: OnceLock<[u8; 32]> = OnceLock::new();
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(PkiError::Random)?;
    let secret = SECRET.get_or_init(|| fresh);
    let mut key = Zeroizing::new(vec![0; length]);
    Hkdf::<Sha256>::new(Some(secret), info.encrypted_key())
        .expand(&length.to_be_bytes(), &mut key)
        .map_err(|_| SmimeError::Undecryptable)?;
    Ok(key)
}
