//! Opens the authority's token and its database, and checks that they belong together.

use std::sync::Arc;

use super::records::VerifiedRecords;
use super::seal::Sealer;
use super::service_certificates;
use super::token_keys::TokenKeys;
use super::{AuthorityError, Configuration};
use crate::store::{AuthorityIdentity, Store};
use crate::token::{Pin, PinState, TokenInfo, TokenName, TokenSource};

/// Keys and records of one authority. The state according to the audit log is still empty.
pub(super) struct OpenedAuthority {
    pub(super) identity: AuthorityIdentity,
    pub(super) keys: TokenKeys,
    pub(super) records: VerifiedRecords,
}

impl OpenedAuthority {
    /// Opens the token of this database, as its only owner. `operation` completes "cannot …" in the
    /// errors of the login.
    pub(super) fn open(
        store: Store,
        configuration: &Configuration,
        pin: &Pin,
        operation: &'static str,
    ) -> Result<Self, AuthorityError> {
        let identity = store.identity()?.ok_or(AuthorityError::Unfinished)?;
        let source = token_source(configuration)?;
        let token = source.open_for_authority(&choose_token(configuration, &source, &identity)?)?;
        token.log_in(pin).map_err(|error| error.with_operation(operation))?;
        let keys = TokenKeys::find(&token)?;
        let ca = service_certificates::ca(&store)?;
        if *ca.fingerprint().as_bytes() != identity.authority {
            return Err(AuthorityError::Mismatch("the database contains a different CA certificate".into()));
        }
        if ca.public_key_der()? != keys.ca.public_key_der() {
            return Err(AuthorityError::Mismatch("the CA key on the token does not match the CA certificate".into()));
        }
        let sealer = Sealer::new(&keys, identity.authority);
        Ok(Self { identity, keys, records: VerifiedRecords { store, sealer, audit_state: Arc::default(), ca } })
    }
}

/// Returns the source of the configured token.
pub(super) fn token_source(configuration: &Configuration) -> Result<TokenSource, AuthorityError> {
    configuration.token_source()?.ok_or_else(|| AuthorityError::NoTokenSource(configuration.file.clone()))
}

/// Chooses the database's token, by label and serial number.
fn choose_token(
    configuration: &Configuration,
    source: &TokenSource,
    identity: &AuthorityIdentity,
) -> Result<TokenInfo, AuthorityError> {
    let tokens = source.tokens()?;
    let same_label = tokens.iter().filter(|token| token.label == configuration.token.label);
    if let Some(token) = same_label.clone().find(|token| token.serial == identity.token_serial) {
        return Ok(token.clone());
    }
    match same_label.count() {
        0 => Err(AuthorityError::TokenAbsent {
            label: configuration.token.label.clone(),
            searched: source.path().to_path_buf(),
        }),
        _ => Err(AuthorityError::Mismatch(format!(
            "the database belongs to the token {:?} with the serial number {}, which is not present",
            identity.token_label, identity.token_serial
        ))),
    }
}

/// Returns the authority's token if its PIN has one try left, so that a person can be warned before
/// the PIN prompt. Errors are left to the opening of the authority.
pub fn token_at_last_pin_try(configuration: &Configuration) -> Option<TokenName> {
    let tokens = token_source(configuration).and_then(|source| Ok(source.tokens()?)).unwrap_or_default();
    let is_ours_at_last_try = |label: &str, state| label == configuration.token.label && state == PinState::FinalTry;
    tokens.iter().find(|token| is_ours_at_last_try(&token.label, token.pin_state)).map(TokenInfo::name)
}
