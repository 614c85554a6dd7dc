//! The authorities of all keysets found: trust anchors and addresses, readable without a PIN.

use jiff::Timestamp;

use crate::pki::Certificate;

use super::choose::{describe_found, list_or};
use super::{AuthorityAddress, FoundKeyset, KeysetError, Tokens, UnreadableToken};

/// The authorities of all keysets found. They come from public data on the tokens, so trust rests
/// on who can write to a token, as with any store of trusted CAs.
#[derive(Clone, Debug)]
pub struct Trust {
    authorities: Vec<Authority>,
    found: String,
}

#[derive(Clone, Debug)]
struct Authority {
    address: AuthorityAddress,
    certificate: Certificate,
    /// Issue date of the certificate of the keyset that names this address; the later of two
    /// addresses counts.
    since: Option<Timestamp>,
}

/// Collects the authorities of all keysets found, each once.
pub fn trust(tokens: &Tokens) -> Result<Trust, KeysetError> {
    let (keysets, unreadable_tokens) = tokens.keysets()?;
    Ok(Trust::of(&keysets, &unreadable_tokens))
}

fn gather(keysets: &[FoundKeyset]) -> Vec<Authority> {
    let mut authorities: Vec<Authority> = Vec::new();
    for keyset in keysets {
        let Some(certificate) = keyset.authority_certificate().and_then(|der| Certificate::from_der(der).ok()) else {
            continue;
        };
        let since = keyset.signing_certificate().map(|signing| signing.not_before());
        let authority = Authority { address: keyset.authority.clone(), certificate, since };
        match authorities.iter_mut().find(|known| known.certificate.as_der() == authority.certificate.as_der()) {
            Some(known) if known.since >= authority.since => {}
            Some(known) => *known = authority,
            None => authorities.push(authority),
        }
    }
    authorities
}

impl Trust {
    /// The authorities of these keysets, each once. `unreadable_tokens` appears in the error if
    /// there are none.
    pub fn of(keysets: &[FoundKeyset], unreadable_tokens: &[UnreadableToken]) -> Self {
        Self { authorities: gather(keysets), found: describe_found(keysets, unreadable_tokens) }
    }

    /// The CA certificates in DER, the trust anchors for `verify`. Empty if there is no keyset.
    pub fn anchors(&self) -> Vec<Vec<u8>> {
        self.authorities.iter().map(|authority| authority.certificate.as_der().to_vec()).collect()
    }

    /// The authority to ask for certificates, with SHA-256 of its CA certificate. `url` is
    /// `--authority`: it selects one of several authorities, or replaces the `http` address of the
    /// only one. Several authorities without a matching `url` are refused with a list.
    pub fn authority(&self, url: Option<&str>) -> Result<(AuthorityAddress, [u8; 32]), KeysetError> {
        let named = url.and_then(|url| {
            self.authorities.iter().find(|authority| authority.address.http == url.trim_end_matches('/'))
        });
        let chosen = match (named, self.authorities.as_slice()) {
            (Some(named), _) => named,
            (None, [only]) => only,
            (None, []) => {
                return Err(KeysetError::NoKeyset { found: format!("no authority is known: {}", self.found) });
            }
            (None, several) => {
                return Err(KeysetError::Ambiguous {
                    what: "authority",
                    candidates: list_or(
                        several,
                        |authority| format!("{:?} at {}", authority.address.name, authority.address.http),
                        "",
                    ),
                    remedy: "add `--authority URL`".to_owned(),
                });
            }
        };
        let mut address = chosen.address.clone();
        if let Some(url) = url {
            url.trim_end_matches('/').clone_into(&mut address.http);
        }
        Ok((address, *chosen.certificate.fingerprint().as_bytes()))
    }
}
