//! Enrolls with a letter: the operation of [`mod@crate::keyset::enroll`].

use serde::{Deserialize, Serialize};

use crate::keyset::{
    EnrollOptions, Enrolled, Enrollment, Inventory, KeysetChoice, KeysetError, Operation, OperationContext, Outcome,
    Refusal, enroll,
};
use crate::letter::Letter;

/// Enrolls with the letter whose text is the attached secret. The same letter continues an
/// interrupted enrollment.
#[derive(Debug, Serialize, Deserialize)]
pub struct Enroll {
    pub options: EnrollOptions,
}

impl Operation for Enroll {
    const NAME: &'static str = "enroll";
    const CHANGES_LISTINGS: bool = true;
    type Target = ();
    type Output = Enrolled;

    fn select(&self, inventory: &Inventory<'_>) -> Result<(), KeysetError> {
        let EnrollOptions { keyset, token, new_token, .. } = &self.options;
        // A new token has no objects yet; an unfinished one has the keyset's name as its label.
        let name = (token.is_none() && new_token.is_none()).then(|| keyset.clone());
        inventory.prepare(&KeysetChoice { name, token: token.clone(), ..KeysetChoice::default() });
        Ok(())
    }

    fn run(self, (): (), cx: &mut OperationContext<'_>) -> Result<Outcome<Enrolled>, KeysetError> {
        let unreadable = |reason: String| KeysetError::Message { operation: "read the letter", reason };
        let secret = std::mem::take(&mut cx.attachments.secret);
        let text = std::str::from_utf8(&secret).map_err(|_| unreadable("it is not text".to_owned()))?;
        let letter = Letter::parse(text).map_err(|error| unreadable(error.to_string()))?;
        Ok(match enroll(cx.tokens, cx.transport, &letter, &self.options, cx.person, cx.now)? {
            Enrollment::Enrolled(enrolled) => Outcome::Done(*enrolled),
            Enrollment::NotEnrolled(not) => Outcome::Refused(Refusal { kind: not.kind(), message: not.to_string() }),
        })
    }
}
