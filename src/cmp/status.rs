//! `PKIStatusInfo` (RFC 9810 §5.2.3): the outcome of a request, and the reasons.

use std::fmt;
use std::ops::BitOr;

use der::asn1::BitString;
use der::{DecodeValue, EncodeValue, Enumerated, FixedTag, Header, Length, Reader, Sequence, Tag, Writer};

/// `PKIFreeText` (RFC 9810 §5.1.1): one or more texts, in UTF-8.
pub type PkiFreeText = Vec<String>;

/// `PKIStatus` (RFC 9810 §5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[asn1(type = "INTEGER")]
#[repr(u32)]
pub enum PkiStatus {
    /// The request is granted.
    Accepted = 0,
    /// The request is granted with modifications, which the client must check.
    GrantedWithMods = 1,
    /// The request is refused.
    Rejection = 2,
    /// The request is undecided; the client must poll.
    Waiting = 3,
    /// The certificate will be revoked soon.
    RevocationWarning = 4,
    /// The certificate has been revoked.
    RevocationNotification = 5,
    /// The key was already updated for the certificate in the request.
    KeyUpdateWarning = 6,
}

impl PkiStatus {
    /// Whether the request is granted, with or without modifications.
    pub fn is_granted(self) -> bool {
        matches!(self, Self::Accepted | Self::GrantedWithMods)
    }
}

/// `PKIFailureInfo` (RFC 9810 §5.2.3): a set of reasons, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct PkiFailureInfo(u32);

macro_rules! reasons {
    ($($name:ident, $text:literal, $bit:literal, $doc:literal;)*) => {
        impl PkiFailureInfo {
            $(#[doc = $doc] pub const $name: Self = Self(1 << $bit);)*

            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
        }
    };
}

reasons! {
    BAD_ALG, "badAlg", 0, "Unrecognized or unsupported algorithm.";
    BAD_MESSAGE_CHECK, "badMessageCheck", 1, "The integrity check failed.";
    BAD_REQUEST, "badRequest", 2, "The transaction is not permitted or supported.";
    BAD_TIME, "badTime", 3, "messageTime is too far from the system's time.";
    BAD_CERT_ID, "badCertId", 4, "No certificate matches the given identifier.";
    BAD_DATA_FORMAT, "badDataFormat", 5, "The data has the wrong format.";
    WRONG_AUTHORITY, "wrongAuthority", 6, "The authority named is not this one.";
    INCORRECT_DATA, "incorrectData", 7, "The requester's data is incorrect.";
    MISSING_TIME_STAMP, "missingTimeStamp", 8, "The time is missing.";
    BAD_POP, "badPOP", 9, "The proof of possession failed.";
    CERT_REVOKED, "certRevoked", 10, "The certificate is already revoked.";
    CERT_CONFIRMED, "certConfirmed", 11, "The certificate is already confirmed.";
    WRONG_INTEGRITY, "wrongIntegrity", 12, "A MAC instead of a signature, or the reverse.";
    BAD_RECIPIENT_NONCE, "badRecipientNonce", 13, "recipNonce is missing or wrong.";
    TIME_NOT_AVAILABLE, "timeNotAvailable", 14, "The authority's time source is not available.";
    UNACCEPTED_POLICY, "unacceptedPolicy", 15, "The requested policy is not accepted.";
    UNACCEPTED_EXTENSION, "unacceptedExtension", 16, "The requested extension is not accepted.";
    ADD_INFO_NOT_AVAILABLE, "addInfoNotAvailable", 17, "Additional information was not understood or is not available.";
    BAD_SENDER_NONCE, "badSenderNonce", 18, "senderNonce is missing or too short.";
    BAD_CERT_TEMPLATE, "badCertTemplate", 19, "The template is not acceptable or incomplete.";
    SIGNER_NOT_TRUSTED, "signerNotTrusted", 20, "The signer of the message is unknown or not trusted.";
    TRANSACTION_ID_IN_USE, "transactionIdInUse", 21, "The transactionID is already in use.";
    UNSUPPORTED_VERSION, "unsupportedVersion", 22, "The version of the message is not supported.";
    NOT_AUTHORIZED, "notAuthorized", 23, "The sender is not authorized to do this.";
    SYSTEM_UNAVAIL, "systemUnavail", 24, "The request cannot be handled now.";
    SYSTEM_FAILURE, "systemFailure", 25, "The request cannot be handled because of a fault of the authority.";
    DUPLICATE_CERT_REQ, "duplicateCertReq", 26, "The certificate cannot be issued: one like it exists.";
}

impl PkiFailureInfo {
    /// Whether all bits of `reason` are set.
    pub fn contains(self, reason: Self) -> bool {
        self.0 & reason.0 == reason.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons' names as in the standard, lowest bit first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(reason, _)| self.contains(*reason)).map(|(_, name)| *name)
    }

    /// Encodes the set as a named bit list, without trailing zero bits (X.690 §11.2.2).
    fn bits(self) -> der::Result<BitString> {
        let bits = u8::try_from(32 - self.0.leading_zeros()).unwrap_or(32);
        let bytes = self.0.reverse_bits().to_be_bytes();
        let used: Vec<u8> = bytes.into_iter().take(usize::from(bits.div_ceil(8))).collect();
        BitString::new((8 - bits % 8) % 8, used)
    }
}

impl BitOr for PkiFailureInfo {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for PkiFailureInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl fmt::Display for PkiFailureInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

impl FixedTag for PkiFailureInfo {
    const TAG: Tag = Tag::BitString;
}

impl<'a> DecodeValue<'a> for PkiFailureInfo {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        let bits = BitString::decode_value(reader, header)?;
        // Bits after the thirty-second have no meaning today and are ignored.
        Ok(Self(bits.bits().take(32).enumerate().fold(0, |set, (bit, on)| set | (u32::from(on) << bit))))
    }
}

impl EncodeValue for PkiFailureInfo {
    fn value_len(&self) -> der::Result<Length> {
        self.bits()?.value_len()
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.bits()?.encode_value(writer)
    }
}

/// `PKIStatusInfo` (RFC 9810 §5.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PkiStatusInfo {
    /// The outcome.
    pub status: PkiStatus,
    /// The reason, for people.
    #[asn1(optional = "true")]
    pub status_string: Option<PkiFreeText>,
    /// The reason, for programs.
    #[asn1(optional = "true")]
    pub fail_info: Option<PkiFailureInfo>,
}

impl PkiStatusInfo {
    /// The status of a granted request.
    pub fn accepted() -> Self {
        Self { status: PkiStatus::Accepted, status_string: None, fail_info: None }
    }

    /// The status of a refused request, with its reasons; `text` is for the person on the other
    /// side.
    pub fn rejection(reasons: PkiFailureInfo, text: &str) -> Self {
        let status_string = (!text.is_empty()).then(|| vec![text.to_owned()]);
        Self { status: PkiStatus::Rejection, status_string, fail_info: Some(reasons) }
    }

    /// The status of an undecided request; `text` is for the person on the other side.
    pub fn waiting(text: &str) -> Self {
        let status_string = (!text.is_empty()).then(|| vec![text.to_owned()]);
        Self { status: PkiStatus::Waiting, status_string, fail_info: None }
    }

    /// The reasons; empty if the field is missing.
    pub fn reasons(&self) -> PkiFailureInfo {
        self.fail_info.unwrap_or_default()
    }
}

/// Writes the free text, followed by the reasons' names in parentheses.
impl fmt::Display for PkiStatusInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.status_string.as_deref().unwrap_or_default().join("; ");
        match (text.is_empty(), self.reasons().is_empty()) {
            (true, true) => write!(f, "{:?}", self.status),
            (true, false) => write!(f, "{}", self.reasons()),
            (false, true) => f.write_str(&text),
            (false, false) => write!(f, "{text} ({})", self.reasons()),
        }
    }
}

#[cfg(test)]
mod tests {
    use der::{Decode, Encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_are_named_bits_without_trailing_zeros() {
        let bits = |reasons: PkiFailureInfo| reasons.to_der().unwrap();
        assert_eq!(bits(PkiFailureInfo::BAD_ALG), [3, 2, 7, 0x80]);
        assert_eq!(bits(PkiFailureInfo::BAD_REQUEST), [3, 2, 5, 0x20]);
        assert_eq!(bits(PkiFailureInfo::DUPLICATE_CERT_REQ), [3, 5, 5, 0, 0, 0, 0x20]);
        assert_eq!(bits(PkiFailureInfo::default()), [3, 1, 0]);
        let two = PkiFailureInfo::BAD_POP | PkiFailureInfo::BAD_CERT_TEMPLATE;
        assert_eq!(two.to_string(), "badPOP, badCertTemplate");
        assert!(two.contains(PkiFailureInfo::BAD_POP) && !two.contains(PkiFailureInfo::BAD_ALG));
    }

    #[test]
    fn bits_without_meaning_are_passed_over() {
        let many = [3, 6, 0, 0x80, 0, 0, 0, 0xff];
        assert_eq!(PkiFailureInfo::from_der(&many).unwrap(), PkiFailureInfo::BAD_ALG);
    }

    #[test]
    fn unknown_statuses_are_refused() {
        assert_eq!(PkiStatus::from_der(&[2, 1, 6]).unwrap(), PkiStatus::KeyUpdateWarning);
        assert!(PkiStatus::from_der(&[2, 1, 7]).is_err());
        assert!(PkiStatus::Accepted.is_granted() && !PkiStatus::Waiting.is_granted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_set_of_reasons_survives(bits: u32, text in "\\PC{0,30}") {
            let status = PkiStatusInfo::rejection(PkiFailureInfo(bits), &text);
            prop_assert_eq!(PkiStatusInfo::from_der(&status.to_der().unwrap()).unwrap(), status);
        }
    }
}
