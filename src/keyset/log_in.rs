//! Starts a session ahead of any use, so that uses of keysets at levels Medium and Low need no PIN.

use crate::token::SecurityLevel;

use super::unlock::{believed_for_use, must_be_usable, stand};
use super::{FoundKeyset, KeysetError, Person, Tokens};

/// Starts a session on the keyset's token, if [`Tokens::keeping_log_ins`] keeps sessions. Refuses
/// level High before any prompt. With `anew`, the user supplies a PIN that is verified even in an
/// active session, because an active session does not prove that this PIN is correct.
pub fn log_in(tokens: &Tokens, keyset: &FoundKeyset, anew: bool, person: &mut dyn Person) -> Result<(), KeysetError> {
    must_be_usable(keyset)?;
    if !tokens.keeps_log_ins() || keyset.level == SecurityLevel::High {
        return Err(KeysetError::Refused(format!(
            "cannot log in for the keyset {}: at level {} every use asks for the PIN; use it without a login",
            keyset.described(),
            keyset.level
        )));
    }
    person.concerns(keyset);
    let token = tokens.open(&keyset.token)?;
    let turn = tokens.turn(&token);
    if token.stands() && !anew {
        return Ok(());
    }
    let unlock = stand(tokens, turn, "log in", person)?;
    believed_for_use(tokens, &unlock, keyset, person).map(|_| ())
}
