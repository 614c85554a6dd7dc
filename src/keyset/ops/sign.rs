//! Signs content with a keyset's signing key: one use, one PIN.

use std::io::{Read, Write};

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
use crate::smime::{self, Placement, SigningOptions};

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
        let mut content = Vec::new();
        cx.attachments.input(Self::NAME)?.read_to_end(&mut content).map_err(message)?;
        let placement = if self.detached { Placement::Detached } else { Placement::Attached };
        let cms = sign(cx.tokens, &keyset, &content, placement, cx.person, cx.now)?;
        cx.attachments.output(Self::NAME)?.write_all(&cms).map_err(message)?;
        Ok(Outcome::Done(()))
    }
}

/// Signs `content` with the keyset's signing key. Returns a CMS `ContentInfo` with `SignedData` in
/// DER, including the certificates of the signer and the authority.
///
/// The content always has the content type *data*, whatever it contains; administrators' statements
/// have their own type, which only [`super::administer`] signs. At level Medium, a PIN typed for
/// this use also counts as its confirmation.
pub fn sign(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    content: &[u8],
    placement: Placement,
    person: &mut dyn UserPrompter,
    now: Timestamp,
) -> Result<Vec<u8>, KeysetError> {
    require_usable(keyset)?;
    refuse_expired(keyset, now)?;

    let pin_session = unlock_for_use(tokens, keyset, &Purpose::of_content(content), person)?;
    let (key, certificate, keys) = signing_key(tokens, &pin_session, keyset, person)?;
    let token = pin_session.token();
    let chain = authority_certificate(token.certificates()?, &keys.authority.key_id());

    let certificate = Certificate::from_der(&certificate.der).map_err(message)?;
    let signing = SigningOptions {
        certificate: &certificate,
        chain: &chain,
        placement,
        signing_time: now,
        content_type: ContentType::DATA,
    };
    let signer = pin_session.sign_with(&key);
    smime::sign(content, &signing, &signer).map_err(|error| match signer.take_error() {
        Some(error) => error.into(),
        None => message(error),
    })
}

fn message(error: impl std::fmt::Display) -> KeysetError {
    KeysetError::Message { operation: "sign", reason: error.to_string() }
}
