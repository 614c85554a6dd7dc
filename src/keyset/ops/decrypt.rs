//! Decrypts a message.

use serde::{Deserialize, Serialize};

use crate::keyset::decryption::{DecryptedBy, decrypt};
use crate::keyset::{Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome};

/// Decrypts the attached message: CMS, as DER, PEM or S/MIME.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecryptContent {
    /// the keysets to try
    pub keyset: KeysetChoice,
}

impl Operation for DecryptContent {
    const NAME: &'static str = "decrypt";
    type Target = KeysetChoice;
    type Output = DecryptedBy;

    fn select(&self, inventory: &Inventory<'_>) -> Result<KeysetChoice, KeysetError> {
        Ok(inventory.prepare(&self.keyset))
    }

    fn run(self, choice: KeysetChoice, cx: &mut OperationContext<'_>) -> Result<Outcome<DecryptedBy>, KeysetError> {
        let (input, output) = cx.attachments.files(Self::NAME)?;
        let by = decrypt(cx.tokens, &choice, input, output, cx.person)?;
        Ok(Outcome::Done(by))
    }
}
