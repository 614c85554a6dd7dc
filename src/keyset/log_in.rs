//! Logging in ahead of any use, so that the uses of keysets at levels Medium and Low need no PIN.

use crate::token::SecurityLevel;

use super::unlock::{believed_for_use, must_be_usable, stand};
use super::{FoundKeyset, KeysetError, Person, Tokens};

/// Logs in to the keyset's token so that it stands, where [`Tokens::keeping_log_ins`] keeps log-ins. Refused at level
/// High before anybody is asked. `anew`: the person has a PIN in hand, which is verified even where a log-in stands: that
/// somebody is logged in is no answer to whether a PIN is right.
pub fn log_in(tokens: &Tokens, keyset: &FoundKeyset, anew: bool, person: &mut dyn Person) -> Result<(), KeysetError> {
    must_be_usable(keyset)?;
    if !tokens.keeps_log_ins() || keyset.level == SecurityLevel::High {
        return Err(KeysetError::Refused(format!(
            "cannot log in for the keyset {}: at level {} every use asks for the PIN; just use it",
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
