//! The selection of a token by the argument of `ssh-add -s` and `-e`.

use std::path::Path;
use std::sync::Arc;

use super::{SigningIdentity, SshError};
use crate::token::TokenUri;

/// Selects a token by the path of its PKCS#11 module (the usual argument of `ssh-add -s`), by its
/// URI, label or serial number, or by the name of a keyset on it. Returns the matching keyset with
/// the lowest level.
///
/// # Errors
/// No token matches, or several do: a PIN must go to one token only.
pub(super) fn find_by_provider<'i>(
    identities: &'i [Arc<SigningIdentity>],
    provider: &str,
) -> Result<&'i SigningIdentity, SshError> {
    let refused = |reason| Err(SshError::Provider { provider: provider.chars().take(200).collect(), reason });
    let uri: Option<TokenUri> = match provider.strip_prefix("pkcs11:").map(|_| provider.parse()) {
        Some(Ok(uri)) => Some(uri),
        Some(Err(_)) => return refused("it is not a valid PKCS#11 URI"),
        None => None,
    };
    let is_meant = |identity: &SigningIdentity| {
        let token = &identity.keyset.token;
        match &uri {
            Some(uri) => uri.matches(token),
            None if provider.contains('/') => is_same_file(Path::new(provider), &token.source),
            None => identity.keyset.name.as_str() == provider || token.label == provider || token.serial == provider,
        }
    };
    let fitting: Vec<&SigningIdentity> =
        identities.iter().map(Arc::as_ref).filter(|identity| is_meant(identity)).collect();
    let Some(first) = fitting.first() else {
        return refused("no token with a usable keyset matches");
    };
    let is_elsewhere = |identity: &&SigningIdentity| identity.keyset.token.id() != first.keyset.token.id();
    if fitting.iter().any(is_elsewhere) {
        return refused("several tokens match; name one keyset, or one token by its URI (`tokenkeep token list`)");
    }
    fitting.into_iter().min_by_key(|identity| identity.keyset.level).ok_or(SshError::NoSuchKey)
}

/// Compares canonical paths, because modules are often named through links
/// (`/usr/lib/x86_64-linux-gnu/…`).
fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
