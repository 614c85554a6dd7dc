//! Certificate profiles: the kinds of certificates, as data in `hsm-config/profiles/*.toml`.
//!
//! A profile that contradicts itself is refused when it is read, with the file and the line, not
//! when a person waits for a certificate.

use std::path::{Path, PathBuf};

use der::asn1::ObjectIdentifier;
use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;
use x509_cert::ext::pkix::{KeyUsage, KeyUsages};

use super::PkiError;
use crate::token::{KeyAlgorithm, SecurityLevel};

/// The kind of alternative names in a profile's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlternativeName {
    /// Exactly one e-mail address.
    Email,
    /// One or more DNS names or IP addresses.
    Host,
    /// None: only the subject names the owner.
    None,
}

/// The properties of an authority's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaProfile {
    /// The maximum number of authorities below it (RFC 5280 §4.2.1.9). With 0, it issues only to
    /// people and machines.
    pub path_length: u8,
}

/// A kind of certificate. The five shipped ones are named `ca`, `signing`, `encryption`,
/// `cmp-response` and `tls-server`.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    validity: SignedDuration,
    backdate: SignedDuration,
    keys: Vec<KeyAlgorithm>,
    levels: Vec<SecurityLevel>,
    usage_of_rsa: KeyUsage,
    usage_of_curves: KeyUsage,
    extended_key_usage: Vec<ObjectIdentifier>,
    alternative_name: AlternativeName,
    authority: Option<CaProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    validity_days: Spanned<u32>,
    backdate_minutes: Spanned<u32>,
    keys: Spanned<Vec<KeyAlgorithm>>,
    #[serde(default)]
    levels: Vec<SecurityLevel>,
    alternative_name: AlternativeName,
    #[serde(default)]
    extended_key_usage: Vec<ExtendedUsage>,
    key_usage: Spanned<KeyUsageByAlgorithm>,
    authority: Option<CaProfile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyUsageByAlgorithm {
    #[serde(default)]
    rsa: Vec<Usage>,
    #[serde(default)]
    ec: Vec<Usage>,
}

/// The key usages of RFC 5280 §4.2.1.3, with the same spelling.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Usage {
    DigitalSignature,
    NonRepudiation,
    KeyEncipherment,
    KeyAgreement,
    KeyCertSign,
    #[serde(rename = "cRLSign")]
    CrlSign,
}

/// An extended key usage: a known name, or an object identifier in dotted notation.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ExtendedUsage(ObjectIdentifier);

impl TryFrom<String> for ExtendedUsage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        use const_oid::db::rfc5280;
        Ok(Self(match text.as_str() {
            "serverAuth" => rfc5280::ID_KP_SERVER_AUTH,
            "clientAuth" => rfc5280::ID_KP_CLIENT_AUTH,
            "emailProtection" => rfc5280::ID_KP_EMAIL_PROTECTION,
            "OCSPSigning" => rfc5280::ID_KP_OCSP_SIGNING,
            "cmcCA" => super::oid::ID_KP_CMC_CA,
            dotted => ObjectIdentifier::new(dotted).map_err(|_| {
                format!(
                    "{dotted:?} is not an extended key usage: use serverAuth, clientAuth, emailProtection, \
                     OCSPSigning, cmcCA, or an object identifier like 1.3.6.1.5.5.7.3.4"
                )
            })?,
        }))
    }
}

impl Profile {
    /// Parses a profile's TOML. `file` names it in errors; without its extension it is the
    /// profile's name.
    pub fn parse(text: &str, file: &Path) -> Result<Self, PkiError> {
        let refuse = |offset: usize, reason: String| PkiError::ProfileFile {
            file: file.to_owned(),
            line: text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1,
            reason,
        };
        let written: ProfileFile = toml::from_str(text)
            .map_err(|error| refuse(error.span().map_or(0, |span| span.start), error.message().replace('\n', " ")))?;
        written.check().map_err(|(offset, reason)| refuse(offset, reason))?;
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let key_usage = written.key_usage.into_inner();
        Ok(Self {
            name,
            validity: SignedDuration::from_hours(24 * i64::from(written.validity_days.into_inner())),
            backdate: SignedDuration::from_mins(i64::from(written.backdate_minutes.into_inner())),
            keys: written.keys.into_inner(),
            levels: written.levels,
            usage_of_rsa: usage(&key_usage.rsa),
            usage_of_curves: usage(&key_usage.ec),
            extended_key_usage: written.extended_key_usage.into_iter().map(|usage| usage.0).collect(),
            alternative_name: written.alternative_name,
            authority: written.authority,
        })
    }

    /// Reads a profile from its file.
    pub fn read(file: &Path) -> Result<Self, PkiError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| PkiError::ProfileUnreadable { file: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// The shipped profile with this name (`ca`, `signing`, `encryption`, `cmp-response`,
    /// `tls-server`), as built into this program. It is used if the configuration names none.
    pub fn shipped(name: &str) -> Result<Self, PkiError> {
        let text = match name {
            "ca" => include_str!("../../hsm-config/profiles/ca.toml"),
            "signing" => include_str!("../../hsm-config/profiles/signing.toml"),
            "encryption" => include_str!("../../hsm-config/profiles/encryption.toml"),
            "cmp-response" => include_str!("../../hsm-config/profiles/cmp-response.toml"),
            "tls-server" => include_str!("../../hsm-config/profiles/tls-server.toml"),
            _ => {
                return Err(PkiError::Profile {
                    profile: name.to_owned(),
                    reason: "unknown profile; shipped are ca, signing, encryption, cmp-response, tls-server".into(),
                });
            }
        };
        Self::parse(text, &PathBuf::from(format!("hsm-config/profiles/{name}.toml")))
    }

    /// The profile's name: that of its file, without the extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The validity of its certificates.
    pub fn validity(&self) -> SignedDuration {
        self.validity
    }

    /// The time by which the validity begins before the present, for clocks that are behind.
    pub fn backdate(&self) -> SignedDuration {
        self.backdate
    }

    /// The kinds of keys that it allows, at least one. The first is the default for a new key.
    pub fn keys(&self) -> &[KeyAlgorithm] {
        &self.keys
    }

    /// The default kind of a new key.
    pub fn default_key(&self) -> KeyAlgorithm {
        self.keys.first().copied().unwrap_or(KeyAlgorithm::P256)
    }

    /// The security levels that a user may choose from; empty for the authority's own certificates.
    pub fn levels(&self) -> &[SecurityLevel] {
        &self.levels
    }

    /// The key usage for this kind of key.
    pub fn key_usage(&self, key: KeyAlgorithm) -> KeyUsage {
        if key.is_elliptic_curve() { self.usage_of_curves } else { self.usage_of_rsa }
    }

    /// The extended key usages, in the file's order.
    pub fn extended_key_usage(&self) -> &[ObjectIdentifier] {
        &self.extended_key_usage
    }

    /// The kind of alternative names in its certificates.
    pub fn alternative_name(&self) -> AlternativeName {
        self.alternative_name
    }

    /// The properties of an authority's certificate; `None` for all other certificates.
    pub fn authority(&self) -> Option<CaProfile> {
        self.authority
    }
}

impl ProfileFile {
    /// Checks the values against each other. An error has the offset of the wrong value in the
    /// text.
    fn check(&self) -> Result<(), (usize, String)> {
        let refuse = |offset: usize, reason: &str| Err((offset, reason.to_owned()));
        if !(1..=36_525).contains(self.validity_days.get_ref()) {
            return refuse(self.validity_days.span().start, "validity_days must be from 1 to 36525");
        }
        if *self.backdate_minutes.get_ref() > 1440 {
            return refuse(self.backdate_minutes.span().start, "backdate_minutes must be at most 1440 (one day)");
        }
        let (keys, at) = (self.keys.get_ref(), self.keys.span().start);
        if keys.is_empty() {
            return refuse(at, "keys must name at least one kind of key");
        }
        let usage_at = self.key_usage.span().start;
        for (kind, usages, used) in [
            ("rsa", &self.key_usage.get_ref().rsa, keys.iter().any(|key| !key.is_elliptic_curve())),
            ("ec", &self.key_usage.get_ref().ec, keys.iter().any(|key| key.is_elliptic_curve())),
        ] {
            if used && usages.is_empty() {
                return refuse(usage_at, &format!("key_usage.{kind} is missing, but keys names such keys"));
            }
            let signs_certificates = usages.iter().any(|usage| matches!(usage, Usage::KeyCertSign));
            if used && signs_certificates != self.authority.is_some() {
                return refuse(usage_at, "keyCertSign and the table [authority] belong together: give both or neither");
            }
            if kind == "ec" && usages.iter().any(|usage| matches!(usage, Usage::KeyEncipherment)) {
                return refuse(usage_at, "an elliptic curve key cannot do keyEncipherment: write keyAgreement");
            }
            if kind == "rsa" && usages.iter().any(|usage| matches!(usage, Usage::KeyAgreement)) {
                return refuse(usage_at, "an RSA key cannot do keyAgreement: write keyEncipherment");
            }
        }
        Ok(())
    }
}

fn usage(usages: &[Usage]) -> KeyUsage {
    let mut set = der::flagset::FlagSet::default();
    for usage in usages {
        set |= match usage {
            Usage::DigitalSignature => KeyUsages::DigitalSignature,
            Usage::NonRepudiation => KeyUsages::NonRepudiation,
            Usage::KeyEncipherment => KeyUsages::KeyEncipherment,
            Usage::KeyAgreement => KeyUsages::KeyAgreement,
            Usage::KeyCertSign => KeyUsages::KeyCertSign,
            Usage::CrlSign => KeyUsages::CRLSign,
        };
    }
    KeyUsage(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "validity_days = 730\nbackdate_minutes = 5\nkeys = [\"p256\"]\nalternative_name = \"email\"\n\
                        extended_key_usage = [\"emailProtection\"]\n[key_usage]\nec = [\"digitalSignature\"]\n";

    fn error(text: &str) -> String {
        Profile::parse(text, Path::new("profiles/x.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_profiles_are_right() {
        for name in ["ca", "signing", "encryption", "cmp-response", "tls-server"] {
            let profile = Profile::shipped(name).unwrap();
            assert_eq!(profile.name(), name);
            assert_eq!(profile.authority().is_some(), name == "ca");
            assert_eq!(profile.levels().is_empty(), !matches!(name, "signing" | "encryption"));
        }
        assert_eq!(Profile::shipped("signing").unwrap().default_key().to_string(), "p256");
        let encryption = Profile::shipped("encryption").unwrap();
        assert_eq!(encryption.default_key().to_string(), "rsa-3072");
        assert!(encryption.key_usage(KeyAlgorithm::P256).key_agreement());
        assert!(encryption.key_usage(encryption.default_key()).key_encipherment());
        assert!(Profile::shipped("other").is_err());
    }

    #[test]
    fn every_key_of_the_shipped_profiles_has_a_comment() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/hsm-config/profiles")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut last = "";
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                assert!(line.starts_with('#') || last.starts_with('#'), "{}: {line}", path.display());
                last = line;
            }
        }
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        assert!(Profile::parse(GOOD, Path::new("profiles/x.toml")).is_ok());
        for (text, line, reason) in [
            (GOOD.replace("730", "0"), 1, "validity_days"),
            (GOOD.replace("= 5", "= 100000"), 2, "backdate_minutes"),
            (GOOD.replace("p256", "p521"), 3, "p521"),
            (GOOD.replace("[\"p256\"]", "[]"), 3, "at least one"),
            (GOOD.replace("\"email\"", "\"mail\""), 4, "mail"),
            (GOOD.replace("emailProtection", "email"), 5, "not an extended key usage"),
            (GOOD.replace("digitalSignature", "sign"), 7, "sign"),
            (GOOD.replace("digitalSignature", "keyEncipherment"), 6, "keyAgreement"),
            (GOOD.replace("digitalSignature", "keyCertSign"), 6, "belong together"),
            (GOOD.replace("ec =", "rsa ="), 6, "key_usage.ec is missing"),
            (format!("colour = \"red\"\n{GOOD}"), 1, "colour"),
            (GOOD.replace("= 730", "= "), 1, ""),
        ] {
            let message = error(&text);
            assert!(message.contains(&format!("profiles/x.toml, line {line}: ")), "{message}");
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Profile::read(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
        assert!(message.contains("/nowhere/x.toml"), "{message}");
    }
}
