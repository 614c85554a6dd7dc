//! The object identifiers of CMP and CRMF that this module uses, named as in the standards.

use der::asn1::ObjectIdentifier;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// id-PasswordBasedMac (RFC 4211 §4.4).
pub const PASSWORD_BASED_MAC: ObjectIdentifier = oid("1.2.840.113533.7.66.13");
/// id-PBMAC1 (RFC 8018 §7.1).
pub const PBMAC1: ObjectIdentifier = oid("1.2.840.113549.1.5.14");
/// id-PBKDF2 (RFC 8018 §A.2).
pub const PBKDF2: ObjectIdentifier = oid("1.2.840.113549.1.5.12");

/// hMAC-SHA1 under the PKIX arc (RFC 4210 §5.1.3.1), which OpenSSL sends.
pub const HMAC_SHA1_PKIX: ObjectIdentifier = oid("1.3.6.1.5.5.8.1.2");
/// id-hmacWithSHA1 (RFC 8018 §B.1).
pub const HMAC_SHA1: ObjectIdentifier = oid("1.2.840.113549.2.7");
/// id-hmacWithSHA256 (RFC 8018 §B.1).
pub const HMAC_SHA256: ObjectIdentifier = oid("1.2.840.113549.2.9");
/// id-hmacWithSHA384 (RFC 8018 §B.1).
pub const HMAC_SHA384: ObjectIdentifier = oid("1.2.840.113549.2.10");
/// id-hmacWithSHA512 (RFC 8018 §B.1).
pub const HMAC_SHA512: ObjectIdentifier = oid("1.2.840.113549.2.11");

/// id-sha1.
pub const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
/// id-sha256.
pub const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// id-sha384.
pub const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
/// id-sha512.
pub const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");

/// rsaEncryption (RFC 8017 §A.1).
pub const RSA_ENCRYPTION: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
/// id-RSAES-OAEP (RFC 8017 §A.2.1).
pub const RSAES_OAEP: ObjectIdentifier = oid("1.2.840.113549.1.1.7");
/// id-mgf1 (RFC 8017 §A.2.1).
pub const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");
/// id-aes256-wrap-pad (RFC 5649 §4.1).
pub const AES256_WRAP_PAD: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.48");

/// id-regCtrl-regToken (RFC 4211 §6.1).
pub const REG_CTRL_REG_TOKEN: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.1");
/// id-regCtrl-oldCertID (RFC 4211 §6.5).
pub const REG_CTRL_OLD_CERT_ID: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.5");
/// id-regCtrl-protocolEncrKey (RFC 4211 §6.6).
pub const REG_CTRL_PROTOCOL_ENCR_KEY: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.6");
/// id-regCtrl-rsaKeyLen (RFC 9810 §5.3.19.16).
pub const REG_CTRL_RSA_KEY_LEN: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.12");
/// id-regInfo-utf8Pairs (RFC 4211 §7.1).
pub const REG_INFO_UTF8_PAIRS: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.2.1");

/// id-it-signKeyPairTypes (RFC 9810 §5.3.19.2).
pub const IT_SIGN_KEY_PAIR_TYPES: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.2");
/// id-it-implicitConfirm (RFC 9810 §5.1.1.1).
pub const IT_IMPLICIT_CONFIRM: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.13");
/// id-it-confirmWaitTime (RFC 9810 §5.1.1.2).
pub const IT_CONFIRM_WAIT_TIME: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.14");
/// id-it-caCerts (RFC 9810 §5.3.19.13).
pub const IT_CA_CERTS: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.17");
/// id-it-certReqTemplate (RFC 9810 §5.3.19.16).
pub const IT_CERT_REQ_TEMPLATE: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.19");
