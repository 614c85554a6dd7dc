//! Certificates and data objects.

use crate::token::{KeyId, Token, TokenError};

/// A data object (`CKO_DATA`).
#[derive(Clone, PartialEq, Eq)]
pub struct DataObject {
    /// its label
    pub label: String,
    /// its value
    pub value: Vec<u8>,
}

impl std::fmt::Debug for DataObject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DataObject({:?}, {} bytes)", self.label, self.value.len())
    }
}

/// A certificate object (`CKO_CERTIFICATE`, X.509).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// the `CKA_ID` of the key it is for
    pub id: KeyId,
    /// its label
    pub label: String,
    /// the certificate
    pub der: Vec<u8>,
}

impl Token {
    /// The data objects of this `CKA_APPLICATION`: the private ones (after log-in), or the public ones.
    pub fn data_objects(&self, application: &str, private: bool) -> Result<Vec<DataObject>, TokenError> {
        todo!()
    }

    /// Writes a data object in place of the one (or several) of the same application, label and privacy. PKCS#11 knows
    /// no transactions: the new one is written before the old ones are destroyed, so a kill between leaves both.
    pub fn put_data(&self, application: &str, label: &str, value: &[u8], private: bool) -> Result<(), TokenError> {
        todo!()
    }

    /// Destroys the data objects of this application, label and privacy; says whether there was one.
    pub fn delete_data(&self, application: &str, label: &str, private: bool) -> Result<bool, TokenError> {
        todo!()
    }

    /// All X.509 certificates; needs no log-in.
    pub fn certificates(&self) -> Result<Vec<StoredCertificate>, TokenError> {
        todo!()
    }

    /// Writes a certificate; the same one under the same `CKA_ID` is not written twice.
    pub fn put_certificate(&self, id: &KeyId, label: &str, der: &[u8]) -> Result<(), TokenError> {
        todo!()
    }

    /// Destroys this certificate; no error when it is gone.
    pub fn delete_certificate(&self, certificate: &StoredCertificate) -> Result<(), TokenError> {
        todo!()
    }

    /// Does the token hold no object that can be seen now (private ones only after log-in)?
    pub fn is_empty(&self) -> Result<bool, TokenError> {
        todo!()
    }
}
