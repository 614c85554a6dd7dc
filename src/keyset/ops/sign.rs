//! Signs content with a keyset's signing key: one use, one PIN.

use std::io::{self, Read, Seek, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyset::signing::{authority_certificate, refuse_expired, signing_key};
use crate::keyset::unlock::{require_usable, unlock_for_use};
use crate::keyset::{
    FoundKeyset, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome, Purpose, Tokens,
    UserPrompter,
};
use crate::pki::Certificate;
use crate::pki::oid::ContentType;
use crate::pki::signature::Hash;
use crate::smime::{self, ContentDigest, ContentSignature, Placement, SigningCertificate, SigningOptions};

/// Signs the attached content; the result is the CMS `ContentInfo` with `SignedData` in DER.
#[derive(Debug, Serialize, Deserialize)]
pub struct SignContent {
    pub keyset: KeysetChoice,
    /// omit the content from the message (detached CMS signature)
    pub detached: bool,
}

impl Operation for SignContent {
    const NAME: &'static str = "sign";
    type Target = FoundKeyset;
    type Output = ();

    fn select(&self, inventory: &Inventory<'_>) -> Result<FoundKeyset, KeysetError> {
        inventory.keyset(&self.keyset)
    }

    fn run(self, keyset: FoundKeyset, cx: &mut OperationContext<'_>) -> Result<Outcome<()>, KeysetError> {
        let placement = if self.detached { Placement::Detached } else { Placement::Attached };
        let (input, output) = cx.attachments.files(Self::NAME)?;
        sign(cx.tokens, &keyset, input, output, placement, cx.person, cx.now)?;
        Ok(Outcome::Done(()))
    }
}

/// Signs a content of any length with the keyset's signing key. Writes a CMS `ContentInfo` with
/// `SignedData` in DER, including the certificates of the signer and the authority. The content is
/// read twice, or once for a detached signature.
///
/// The content always has the content type *data*, whatever it contains; administrators' statements
/// have their own type, which only [`super::Administer`] and [`super::SignStatement`] sign. At
/// level Medium, a PIN typed for this use also counts as its confirmation.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    mut content: impl Read + Seek,
    output: impl Write,
    placement: Placement,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<(), KeysetError> {
    require_usable(keyset)?;
    refuse_expired(keyset, now)?;

    // The subject and the digest that a person sees are of the same reading.
    let (mut digest, beginning) = digest_of(&mut content, public_hash(keyset))?;
    let purpose = Purpose::of_digest(digest.sha256(), &beginning);
    let pin_session = unlock_for_use(tokens, keyset, &purpose, person)?;
    let (key, certificate, keys) = signing_key(tokens, &pin_session, keyset, person)?;
    let token = pin_session.token();
    let chain = authority_certificate(token.certificates()?, &keys.authority.key_id());

    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;
    let hash = SigningCertificate::new(&certificate, &[]).map_err(message)?.hash();
    if hash != public_hash(keyset) {
        // The public index named another certificate than the private one.
        let (again, _) = digest_of(&mut content, hash)?;
        if again.sha256() != digest.sha256() {
            return Err(message("the content changed while it was being signed"));
        }
        digest = again;
    }
    let signing = SigningOptions {
        certificate: &certificate,
        chain: &chain,
        placement,
        signing_time: now,
        content_type: ContentType::DATA,
    };
    let signer = pin_session.sign_with(&key);
    let signature = smime::sign_digest(&digest, &signing, &signer).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })?;
    // The PIN has done its work: others can use the token while the message is written.
    drop(signer);
    write(&signature, content, output, placement)
}

/// The digest of the content, and its beginning, from one reading.
fn digest_of(mut content: impl Read + Seek, hash: Hash) -> Result<(ContentDigest, Vec<u8>), KeysetError> {
    content.rewind().map_err(message)?;
    let mut reader = BeginningReader { content, beginning: Vec::new() };
    let digest = ContentDigest::read(&mut reader, hash).map_err(message)?;
    Ok((digest, reader.beginning))
}

/// Keeps the beginning of what is read.
struct BeginningReader<R> {
    content: R,
    beginning: Vec<u8>,
}

impl<R: Read> Read for BeginningReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let wanted = Purpose::BEGINNING_BYTES.saturating_sub(self.beginning.len());
        self.beginning.extend(buffer.iter().take(count.min(wanted)));
        Ok(count)
    }
}

/// The hash for the certificate that the public index names. A false one costs another reading.
fn public_hash(keyset: &FoundKeyset) -> Hash {
    let signing = keyset.signing_certificate().and_then(|certificate| SigningCertificate::new(&certificate, &[]).ok());
    signing.map_or(Hash::Sha256, |signing| signing.hash())
}

fn write(
    signature: &ContentSignature,
    mut content: impl Read + Seek,
    mut output: impl Write,
    placement: Placement,
) -> Result<(), KeysetError> {
    match placement {
        Placement::Detached => output.write_all(&signature.detached()).map_err(message),
        Placement::Attached => {
            content.rewind().map_err(message)?;
            signature.write_attached(content, output).map_err(message)
        }
    }
}

fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign", reason: error.to_string() }
}
