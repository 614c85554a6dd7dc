//! Certificates and data objects.

use cryptoki::error::Result as CkResult;
use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use x509_cert::Certificate;

use super::token::Pkcs11Token;
use crate::token::{AUTHORITY_MARK, DataObject, KeyId, StoredCertificate, TokenError};

/// A data object, its handle, and its edition number.
struct Edition {
    handle: ObjectHandle,
    number: u32,
    object: DataObject,
}

/// The certificates and data objects of a token.
pub(in crate::token) struct Objects<'a> {
    token: &'a Pkcs11Token,
}

impl<'a> Objects<'a> {
    pub(in crate::token) fn on(token: &'a Pkcs11Token) -> Self {
        Self { token }
    }

    /// The data objects with this `CKA_APPLICATION`: the private ones (after login) or the public
    /// ones. If a kill left two editions with the same label, only the newer one.
    pub(in crate::token) fn data_objects(
        &self,
        application: &str,
        private: bool,
    ) -> Result<Vec<DataObject>, TokenError> {
        let operation = "read the data objects";
        if private {
            self.token.require_login(operation)?;
        }
        let mut editions = self.token.exclusively(operation, |session| editions(session, application, private))?;
        editions.sort_by(|one, other| (&one.object.label, other.number).cmp(&(&other.object.label, one.number)));
        editions.dedup_by(|later, first| later.object.label == first.object.label);
        Ok(editions.into_iter().map(|edition| edition.object).collect())
    }

    /// Whether the token carries an authority's mark ([`AUTHORITY_MARK`]). It then holds no
    /// keysets.
    pub(in crate::token) fn is_authority_token(&self) -> Result<bool, TokenError> {
        Ok(!self.data_objects(AUTHORITY_MARK, false)?.is_empty())
    }

    /// Writes a data object in place of all others with the same application, label and privacy.
    /// PKCS#11 has no transactions: the new object is written before the old ones are destroyed,
    /// and it is numbered (`CKA_OBJECT_ID`). After a kill in between both exist and the newer one
    /// counts.
    pub(in crate::token) fn put_data(
        &self,
        application: &str,
        label: &str,
        value: &[u8],
        private: bool,
    ) -> Result<(), TokenError> {
        let operation = "write a data object";
        self.token.require_login(operation)?;
        self.token.check_free_space(operation)?;
        self.token.exclusively(operation, |session| {
            let mut old = editions(session, application, private)?;
            old.retain(|edition| edition.object.label == label);
            let newest = old.iter().map(|edition| edition.number).max();
            let number = newest.map_or(1, |newest| newest.saturating_add(1));
            session.create_object(&[
                Attribute::Class(ObjectClass::DATA),
                Attribute::Token(true),
                Attribute::Private(private),
                Attribute::Application(application.as_bytes().to_vec()),
                Attribute::Label(label.as_bytes().to_vec()),
                Attribute::ObjectId(edition_oid(number)),
                Attribute::Value(value.to_vec()),
            ])?;
            for edition in old {
                session.destroy_object(edition.handle)?;
            }
            Ok(())
        })
    }

    /// Destroys the data objects with this application, label and privacy. Returns whether there
    /// was one.
    pub(in crate::token) fn delete_data(
        &self,
        application: &str,
        label: &str,
        private: bool,
    ) -> Result<bool, TokenError> {
        let operation = "delete a data object";
        self.token.require_login(operation)?;
        self.token.exclusively(operation, |session| {
            let mut found = editions(session, application, private)?;
            found.retain(|edition| edition.object.label == label);
            for edition in &found {
                session.destroy_object(edition.handle)?;
            }
            Ok(!found.is_empty())
        })
    }

    /// All X.509 certificates; needs no login.
    pub(in crate::token) fn certificates(&self) -> Result<Vec<StoredCertificate>, TokenError> {
        let found = self.token.exclusively("read the certificates", certificates)?;
        Ok(found.into_iter().map(|(_, certificate)| certificate).collect())
    }

    /// Writes a certificate, unless the same one exists with the same `CKA_ID`.
    pub(in crate::token) fn put_certificate(&self, id: &KeyId, label: &str, der: &[u8]) -> Result<(), TokenError> {
        let operation = "write a certificate";
        self.token.require_login(operation)?;
        self.token.check_free_space(operation)?;
        let parsed = Certificate::from_der(der).map_err(encoding)?;
        let certificate = parsed.tbs_certificate();
        let template = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(id.as_bytes().to_vec()),
            Attribute::Subject(certificate.subject().to_der().map_err(encoding)?),
            Attribute::Issuer(certificate.issuer().to_der().map_err(encoding)?),
            Attribute::SerialNumber(certificate.serial_number().to_der().map_err(encoding)?),
            Attribute::Value(der.to_vec()),
        ];
        self.token.exclusively(operation, |session| {
            let mut stored = certificates(session)?.into_iter().map(|(_, certificate)| certificate);
            if !stored.any(|certificate| certificate.id == *id && certificate.der == der) {
                session.create_object(&template)?;
            }
            Ok(())
        })
    }

    /// Destroys this certificate. It is not an error if it is gone.
    pub(in crate::token) fn delete_certificate(&self, certificate: &StoredCertificate) -> Result<(), TokenError> {
        let operation = "delete a certificate";
        self.token.require_login(operation)?;
        self.token.exclusively(operation, |session| {
            for (handle, found) in certificates(session)? {
                if found == *certificate {
                    session.destroy_object(handle)?;
                }
            }
            Ok(())
        })
    }

    /// Whether the token holds no visible object (private ones are visible only after login).
    pub(in crate::token) fn is_empty(&self) -> Result<bool, TokenError> {
        let template = [Attribute::Token(true)];
        Ok(self.token.exclusively("look for objects", |session| session.find_objects(&template))?.is_empty())
    }

    /// Whether it holds exactly this number of visible objects.
    pub(super) fn has_object_count(&self, count: usize) -> Result<bool, TokenError> {
        let template = [Attribute::Token(true)];
        Ok(self.token.exclusively("look for objects", |session| session.find_objects(&template))?.len() == count)
    }
}

/// Writes the mark of a token that is being made: a public data object with its purpose. Keeps an
/// existing one.
pub(super) fn put_mark(session: &Session, application: &str, purpose: &str) -> CkResult<()> {
    if editions(session, application, false)?.iter().any(|edition| edition.object.label == purpose) {
        return Ok(());
    }
    let mark = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Application(application.as_bytes().to_vec()),
        Attribute::Label(purpose.as_bytes().to_vec()),
        Attribute::Value(purpose.as_bytes().to_vec()),
    ];
    session.create_object(&mark).map(|_| ())
}

fn editions(session: &Session, application: &str, private: bool) -> CkResult<Vec<Edition>> {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(private),
        Attribute::Application(application.as_bytes().to_vec()),
    ];
    let wanted = [AttributeType::Label, AttributeType::Value, AttributeType::ObjectId];
    let mut found = Vec::new();
    for handle in session.find_objects(&template)? {
        let mut object = DataObject { label: String::new(), value: Vec::new() };
        let mut number = 0;
        for attribute in session.get_attributes(handle, &wanted)? {
            match attribute {
                Attribute::Label(label) => object.label = String::from_utf8_lossy(&label).into_owned(),
                Attribute::Value(value) => object.value = value,
                Attribute::ObjectId(oid) => number = edition_of(&oid),
                _ => {}
            }
        }
        found.push(Edition { handle, number, object });
    }
    Ok(found)
}

fn certificates(session: &Session) -> CkResult<Vec<(ObjectHandle, StoredCertificate)>> {
    let template = [
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
    ];
    let wanted = [AttributeType::Id, AttributeType::Label, AttributeType::Value];
    let mut found = Vec::new();
    for handle in session.find_objects(&template)? {
        let mut certificate = StoredCertificate { id: KeyId::default(), label: String::new(), der: Vec::new() };
        for attribute in session.get_attributes(handle, &wanted)? {
            match attribute {
                Attribute::Id(id) => certificate.id = KeyId::from(id),
                Attribute::Label(label) => certificate.label = String::from_utf8_lossy(&label).into_owned(),
                Attribute::Value(der) => certificate.der = der,
                _ => {}
            }
        }
        found.push((handle, certificate));
    }
    Ok(found)
}

/// An edition number as an object identifier, because `CKA_OBJECT_ID` accepts nothing else:
/// 2.25.*number* (the arc for UUIDs, which needs no registration, ITU-T X.667).
fn edition_oid(number: u32) -> Vec<u8> {
    ObjectIdentifier::new(&format!("2.25.{number}")).ok().and_then(|oid| oid.to_der().ok()).unwrap_or_default()
}

fn edition_of(oid_der: &[u8]) -> u32 {
    <ObjectIdentifier>::from_der(oid_der).ok().and_then(|oid| oid.arc(2)).unwrap_or(0)
}

fn encoding(error: impl std::fmt::Display) -> TokenError {
    TokenError::Encoding(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{PIN, modules, open_token, pin};

    #[test]
    fn of_two_editions_after_a_kill_the_newer_one_counts() {
        for module in modules() {
            let owner = open_token(&module);
            owner.log_in(&pin(PIN)).unwrap();
            let open = owner.pkcs11();
            let token = Objects::on(open);
            token.put_data("t", "label", b"first", true).unwrap();
            let newer = |number| {
                [
                    Attribute::Class(ObjectClass::DATA),
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Application(b"t".to_vec()),
                    Attribute::Label(b"label".to_vec()),
                    Attribute::ObjectId(edition_oid(number)),
                    Attribute::Value(format!("edition {number}").into_bytes()),
                ]
            };
            for number in [3, 2] {
                open.exclusively("test", |session| session.create_object(&newer(number))).unwrap();
            }
            let found = token.data_objects("t", true).unwrap();
            assert_eq!(found, [DataObject { label: "label".into(), value: b"edition 3".to_vec() }]);
            token.put_data("t", "label", b"last", true).unwrap();
            assert_eq!(token.data_objects("t", true).unwrap()[0].value, b"last");
            assert_eq!(open.exclusively("test", |session| editions(session, "t", true)).unwrap().len(), 1);
        }
    }

    #[test]
    fn numbers_of_editions_are_written_and_read() {
        for number in [0, 1, 127, 128, 65_536, u32::MAX] {
            assert_eq!(edition_of(&edition_oid(number)), number);
        }
        assert_eq!((edition_of(b""), edition_of(b"no OID")), (0, 0));
    }
}
