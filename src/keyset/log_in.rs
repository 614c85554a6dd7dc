//! Starts a session ahead of any use, so that uses of keysets at levels Medium and Low need no PIN.

use crate::token::SecurityLevel;

use super::unlock::{open_session, read_private_index_for_use, require_usable};
use super::{FoundKeyset, KeysetError, Tokens, UserPrompter};

/// Starts a session on the keyset's token, if [`Tokens::with_persistent_sessions`] keeps sessions.
/// Refuses level High before any prompt. With `verify_again`, the user supplies a PIN that is
/// verified even in an active session, because an active session does not prove that this PIN is
/// correct.
pub fn log_in(
    tokens: &Tokens,
    keyset: &FoundKeyset,
    verify_again: bool,
    person: &mut dyn UserPrompter,
) -> Result<(), KeysetError> {
    require_usable(keyset)?;
    if !tokens.has_persistent_sessions() || keyset.level == SecurityLevel::High {
        return Err(KeysetError::Refused(format!(
            "cannot log in for the keyset {}: at level {} every use asks for the PIN; use it without a login",
            keyset.described(),
            keyset.level
        )));
    }
    person.set_keyset(keyset);
    let token = tokens.open(&keyset.token)?;
    let lease = tokens.acquire_lease(&token);
    if token.has_active_session() && !verify_again {
        return Ok(());
    }
    let unlock = open_session(tokens, lease, "log in", person)?;
    read_private_index_for_use(tokens, &unlock, keyset, person).map(|_| ())
}
