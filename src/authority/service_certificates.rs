//! The authority's own certificates: the CA's, made once, and those of its response and TLS keys,
//! renewed in time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::policy::Policy;
use super::records::VerifiedRecords;
use super::token_keys::TokenKeys;
use super::{AuthorityError, Configuration, audit, certify};
use crate::crash_point::reached as crash_point;
use crate::pki::{
    Certificate, DistinguishedName, GeneralName, Host, Issuer, NewCertificate, Profile, SerialNumber, sign_tbs,
};
use crate::store::{self, CertificateKind, Store};
use crate::token::AuthorityKey;

/// The remaining validity below which the start renews a certificate.
const RENEWAL_PERIOD: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The content of one of the authority's own certificates.
pub(super) struct AuthorityCertificateSpec<'a> {
    pub(super) kind: CertificateKind,
    pub(super) profile: &'a Profile,
    pub(super) name: &'a str,
    pub(super) hosts: &'a [Host],
    pub(super) key: &'a AuthorityKey,
}

/// Issues one of the authority's own certificates: intent, signature, record. Without a CA
/// certificate it issues the self-signed one.
pub(super) fn issue(
    store: &Store,
    keys: &TokenKeys,
    ca: Option<&Certificate>,
    spec: &AuthorityCertificateSpec<'_>,
    now: Timestamp,
) -> Result<(String, Certificate), AuthorityError> {
    let serial = SerialNumber::random()?;
    let subject = DistinguishedName::of(spec.name)?;
    let new = NewCertificate {
        profile: spec.profile,
        issuer: ca.map_or(Issuer::Itself, Issuer::Authority),
        subject: &subject,
        email: None,
        hosts: spec.hosts,
        public_key: spec.key.public_key_der(),
        serial: &serial,
        now,
    };
    let (not_before, not_after) = certify::validity(&new);
    let intent = store::CertificateIntent {
        serial: serial.to_string(),
        kind: spec.kind,
        user_id: None,
        transaction_id: None,
        keyset_name: None,
        level: None,
        tbs: new.to_tbs_der()?,
        not_before,
        not_after,
        intended_at: now,
    };
    let detail = json!({ "serial": intent.serial, "kind": spec.kind.as_str() });
    store.insert_intent(intent.clone(), audit::entry(now, "certificate.intended", &detail))?;
    crash_point("authority.own.after_intent");
    let certificate = sign_tbs(&intent.tbs, &keys.ca)?;
    let detail = json!({ "serial": intent.serial, "sha256": certificate.fingerprint().to_hex() });
    let entry = audit::entry(now, "certificate.issued", &detail);
    store.record_signed_certificate(&intent.serial, certificate.as_der().to_vec(), entry)?;
    crash_point("authority.own.after_issued");
    Ok((intent.serial, certificate))
}

/// Reads the CA certificate from the store.
pub(super) fn ca(store: &Store) -> Result<Certificate, AuthorityError> {
    let record = store.authority_certificate(CertificateKind::Ca)?.and_then(|record| record.certificate);
    let der = record.ok_or_else(|| AuthorityError::Mismatch("the database has no CA certificate".into()))?;
    Ok(Certificate::from_der(&der)?)
}

/// Certificate chain and key of the TLS server.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// DER certificates: the server's, then the CA's.
    pub chain: Vec<Vec<u8>>,
    /// The server's key, on the token.
    pub key: AuthorityKey,
}

/// Issues and reads the certificates of the authority's services.
pub(super) struct ServiceCertificates<'a> {
    pub(super) records: &'a VerifiedRecords,
    pub(super) keys: &'a TokenKeys,
    pub(super) configuration: &'a Configuration,
}

impl ServiceCertificates<'_> {
    /// Returns the current certificate of the CMP response key.
    pub(super) fn response(&self, policy: &Policy, now: Timestamp) -> Result<Certificate, AuthorityError> {
        let name = format!("{} CMP responses", self.configuration.name);
        let spec = AuthorityCertificateSpec {
            kind: CertificateKind::Response,
            profile: &policy.response,
            name: &name,
            hosts: &[],
            key: &self.keys.response,
        };
        self.current(&spec, now)
    }

    /// Returns the current certificate of the TLS server key.
    pub(super) fn tls(&self, policy: &Policy, now: Timestamp) -> Result<Certificate, AuthorityError> {
        let hosts = hosts(self.configuration)?;
        let name = hosts.first().map_or_else(|| self.configuration.name.clone(), ToString::to_string);
        let key = &self.keys.tls;
        let spec = AuthorityCertificateSpec {
            kind: CertificateKind::Tls,
            profile: &policy.tls,
            name: &name,
            hosts: &hosts,
            key,
        };
        self.current(&spec, now)
    }

    /// Returns the stored certificate, or a new one if that expires soon, has expired, is for
    /// another key or names other hosts.
    fn current(&self, spec: &AuthorityCertificateSpec<'_>, now: Timestamp) -> Result<Certificate, AuthorityError> {
        if let Some(certificate) = self.stored(spec.kind)? {
            let lasts = now.checked_add(RENEWAL_PERIOD).is_ok_and(|then| then < certificate.not_after())
                || certificate.not_after() >= self.records.ca.not_after();
            let is_for_key = certificate.public_key_der()? == spec.key.public_key_der();
            if lasts && is_for_key && certificate.is_valid_at(now) && names_of(&certificate) == wanted_names(spec.hosts)
            {
                return Ok(certificate);
            }
        }
        let (serial, certificate) = issue(&self.records.store, self.keys, Some(&self.records.ca), spec, now)?;
        let detail = json!({ "serial": serial, "kind": spec.kind.as_str() });
        self.records
            .store
            .replace_authority_certificate(&serial, audit::entry(now, "certificate.replaced", &detail))?;
        tracing::info!(kind = %spec.kind, serial, "renewed the authority's own certificate");
        Ok(certificate)
    }

    /// Returns the stored certificate of this kind, if the CA signed it and it is current according
    /// to the log.
    fn stored(&self, kind: CertificateKind) -> Result<Option<Certificate>, AuthorityError> {
        let Some(record) = self.records.store.authority_certificate(kind)? else { return Ok(None) };
        let certificate = record.certificate.as_deref().and_then(|der| Certificate::from_der(der).ok());
        let genuine = certificate.filter(|certificate| {
            certificate.verify_signature(&self.records.ca).is_ok()
                && self.records.audit_state.is_authority_current(kind, &certificate.serial().to_string())
        });
        if genuine.is_none() {
            tracing::error!(%kind, serial = record.intent.serial, "a certificate was altered in the database");
        }
        Ok(genuine)
    }
}

/// Returns the names of the TLS server: the public URL's host, the listening address, and
/// localhost.
pub(super) fn hosts(configuration: &Configuration) -> Result<Vec<Host>, AuthorityError> {
    let mut hosts: Vec<Host> = Vec::new();
    if let Some(url) = &configuration.listen.public_https_url {
        hosts.push(host_of(url).parse()?);
    }
    let address = configuration.listen.https.ip();
    if !address.is_unspecified() {
        hosts.push(Host::Ip(address));
    }
    if address.is_loopback() || address.is_unspecified() {
        hosts.push(Host::Dns("localhost".into()));
    }
    let mut seen = BTreeSet::new();
    hosts.retain(|host| seen.insert(host.clone()));
    Ok(hosts)
}

/// Returns the host in an `https://` URL, without port and path.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn wanted_names(hosts: &[Host]) -> BTreeSet<Host> {
    hosts.iter().cloned().collect()
}

fn names_of(certificate: &Certificate) -> BTreeSet<Host> {
    let host = |name: GeneralName| match name {
        GeneralName::Dns(name) => name.parse().ok(),
        GeneralName::Ip(octets) => match *octets.as_slice() {
            [a, b, c, d] => Some(Host::Ip([a, b, c, d].into())),
            ref octets => <[u8; 16]>::try_from(octets).ok().map(|octets| Host::Ip(octets.into())),
        },
        _ => None,
    };
    certificate.alternative_names().into_iter().filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_a_url_is_without_port_and_path() {
        assert_eq!(host_of("https://ca.example.org:8830/x"), "ca.example.org");
        assert_eq!(host_of("https://ca.example.org"), "ca.example.org");
        assert_eq!(host_of("https://[::1]:8830"), "[::1]");
        assert_eq!(host_of("https://[::1]"), "[::1]");
        assert_eq!(host_of("https://127.0.0.1:1/"), "127.0.0.1");
    }
}
