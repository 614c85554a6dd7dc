//! The person to whom a keyset belongs, as letters and certificates name them, and the newest
//! keyset of one person.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::FoundKeyset;
use crate::letter::Letter;
use crate::pki::{Certificate, same_address};

/// A person, identified by name and e-mail addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysetHolder {
    /// the display name
    pub name: String,
    /// the e-mail addresses
    pub emails: Vec<String>,
}

impl KeysetHolder {
    /// The person that the letter names.
    pub fn of_letter(letter: &Letter) -> Self {
        Self { name: letter.user_name.clone(), emails: vec![letter.email.clone()] }
    }

    /// The subject of the certificate.
    pub fn of_certificate(certificate: &Certificate) -> Self {
        Self { name: certificate.display_name(), emails: certificate.emails() }
    }

    /// Returns whether both are the same person. A common address decides (letter case ignored),
    /// because names change and two people may share one. The name decides only if one side has no
    /// address.
    pub fn is_same_person(&self, other: &Self) -> bool {
        if self.emails.is_empty() || other.emails.is_empty() {
            return self.name == other.name;
        }
        self.emails.iter().any(|email| other.emails.iter().any(|another| same_address(email, another)))
    }
}

impl fmt::Display for KeysetHolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)?;
        if self.emails.is_empty() { Ok(()) } else { write!(formatter, " <{}>", self.emails.join(", ")) }
    }
}

impl FoundKeyset {
    /// The keyset's holder according to its signing certificate, else its current encryption
    /// certificate. Anyone who can write to the token may have replaced the certificate.
    pub fn holder(&self) -> Option<KeysetHolder> {
        let ids = self.signing.iter().chain(self.encryption.first());
        let mut certificates = ids.filter_map(|id| Certificate::from_der(&self.certificate_of(id)?.der).ok());
        certificates.next().map(|certificate| KeysetHolder::of_certificate(&certificate))
    }

    /// Returns whether both have the same name on the same token.
    pub fn is_same_keyset(&self, other: &Self) -> bool {
        self.name == other.name && self.token.id() == other.token.id()
    }

    /// Returns whether both belong to the same person at the same authority, according to their
    /// certificates.
    pub fn has_same_holder(&self, other: &Self) -> bool {
        let same_authority = self.authority_sha256().is_some_and(|one| Some(one) == other.authority_sha256());
        let holders = self.holder().zip(other.holder());
        same_authority && holders.is_some_and(|(one, other)| one.is_same_person(&other))
    }

    /// The signing certificate, if the keyset's authority certificate verifies it.
    fn certified_signing(&self) -> Option<Certificate> {
        let authority = Certificate::from_der(self.authority_certificate()?).ok()?;
        let signing = self.signing_certificate()?;
        signing.verify_signature(&authority).ok().map(|()| signing)
    }
}

/// The position of the newest enrolled keyset, by the `notBefore` of its signing certificate.
///
/// `None` if no keyset is enrolled, if two share the newest date, or if not all enrolled keysets
/// belong to one person at one authority: then the user has to choose. Keysets whose first
/// enrollment is unfinished do not count.
pub fn newest_of_one_person<'a>(keysets: impl Iterator<Item = &'a FoundKeyset>) -> Option<usize> {
    let enrolled: Vec<_> = keysets.enumerate().filter(|(_, keyset)| keyset.is_usable()).collect();
    let mut dated = Vec::new();
    for (place, keyset) in &enrolled {
        dated.push((keyset.certified_signing()?.not_before(), *place, *keyset));
    }
    let (date, place, newest) = dated.iter().max_by_key(|(date, ..)| *date)?;
    let rivals = dated.iter().filter(|(other, ..)| other == date).count();
    (rivals == 1 && enrolled.iter().all(|(_, keyset)| keyset.has_same_holder(newest))).then_some(*place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, emails: &[&str]) -> KeysetHolder {
        KeysetHolder { name: name.into(), emails: emails.iter().map(|&email| email.into()).collect() }
    }

    #[test]
    fn an_address_decides_who_is_the_same_person() {
        let jane = holder("Jane Doe", &["Jane@example.org", "jd@example.org"]);
        assert!(jane.is_same_person(&holder("Jane Smith", &["jane@EXAMPLE.org"])), "renamed");
        assert!(!jane.is_same_person(&holder("Jane Doe", &["jane@example.com"])), "another of that name");
        assert!(jane.is_same_person(&holder("Jane Doe", &[])));
        assert!(!jane.is_same_person(&holder("John Doe", &[])));
        assert_eq!(jane.to_string(), "Jane Doe <Jane@example.org, jd@example.org>");
        assert_eq!(holder("Jane Doe", &[]).to_string(), "Jane Doe");
    }
}
