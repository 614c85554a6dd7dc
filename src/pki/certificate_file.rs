//! Certificate files in all forms that people have: PEM with any text around it, OpenSSL's trusted
//! certificates, PKCS #7 (`.p7b`) and DER.
//!
//! **Invariant:** No certificate is skipped silently; an unreadable one is reported with its
//! position.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use const_oid::db::{rfc5280, rfc5911, rfc5912};

use super::cms::open_content_info;
use super::oid::ContentType;
use super::tlv::{Elements, INTEGER, SEQUENCE, SET, context_constructed};
use super::{Certificate, PkiError};

const WHAT: &str = "a certificate";

/// The contents of a file.
#[derive(Debug, Default)]
pub struct CertificateFile {
    /// The certificates, in their order.
    pub certificates: Vec<Certificate>,
    /// The position of each unusable certificate and the reason, for people: "certificate 2 of 3:
    /// …".
    pub unreadable: Vec<String>,
}

/// The form of a certificate, according to the label of its PEM block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Certificate,
    /// OpenSSL's form: a certificate, and the purposes for which it is trusted.
    Trusted,
    Pkcs7,
}

impl Form {
    fn of_label(label: &[u8]) -> Option<Self> {
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Some(Self::Certificate),
            b"TRUSTED CERTIFICATE" => Some(Self::Trusted),
            b"PKCS7" | b"CMS" | b"PKCS #7 SIGNED DATA" => Some(Self::Pkcs7),
            _ => None,
        }
    }

    fn read(self, der: &[u8]) -> Result<Vec<Certificate>, PkiError> {
        match self {
            // Some programs put this label around a PKCS #7 structure.
            Self::Certificate => of_der(der),
            Self::Trusted => Ok(vec![trusted(der)?]),
            Self::Pkcs7 => pkcs7(der),
        }
    }
}

impl Certificate {
    /// Reads all certificates of a file in any form. An unreadable certificate is an error.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, PkiError> {
        let file = CertificateFile::read(bytes)?;
        if file.unreadable.is_empty() {
            Ok(file.certificates)
        } else {
            Err(PkiError::malformed(WHAT, file.unreadable.join("; ")))
        }
    }
}

impl CertificateFile {
    /// Reads PEM or DER. In PEM, other blocks and text in any encoding are skipped. A file without
    /// a certificate is an error.
    pub fn read(bytes: &[u8]) -> Result<Self, PkiError> {
        let mut file = Self::default();
        if bytes.first() == Some(&SEQUENCE) {
            file.certificates = of_der(bytes)?;
            return Ok(file);
        }
        let utf16 = from_utf16(bytes);
        let text = utf16.as_deref().unwrap_or(bytes);
        let blocks = pem_blocks(text);
        if blocks.is_empty()
            && let Ok(der) = decode(text)
            && !der.is_empty()
        {
            // Base64 without a PEM block around it.
            file.certificates = of_der(&der)?;
            return Ok(file);
        }
        let count = blocks.len();
        for (place, (form, body)) in (1..).zip(blocks) {
            match body.and_then(|der| form.read(&der)) {
                Ok(certificates) => file.certificates.extend(certificates),
                Err(error) if count == 1 => return Err(error),
                Err(error) => file.unreadable.push(format!("certificate {place} of {count}: {}", error.reason())),
            }
        }
        match (file.certificates.is_empty(), file.unreadable.is_empty()) {
            (true, true) => Err(PkiError::malformed(WHAT, "it contains no certificate")),
            (true, false) => Err(PkiError::malformed(WHAT, file.unreadable.join("; "))),
            _ => Ok(file),
        }
    }
}

/// Parses DER in one of the three forms. For any other input, the error is that of a plain
/// certificate.
fn of_der(der: &[u8]) -> Result<Vec<Certificate>, PkiError> {
    let error = match Certificate::from_foreign_der(der) {
        Ok(certificate) => return Ok(vec![certificate]),
        Err(error) if is_pkcs12(der) => return Err(PkiError::malformed(WHAT, format!("{IS_PKCS12} ({error})"))),
        Err(error) => error,
    };
    Form::Pkcs7.read(der).or_else(|_| Form::Trusted.read(der)).map_err(|_| error)
}

const IS_PKCS12: &str = "it is a PKCS #12 file, which may hold a private key: extract the certificates from it \
                         (`openssl pkcs12 -nokeys -in FILE -out ca.pem`)";

/// Whether the bytes begin like a `PFX` (RFC 7292 §4): version 3, then a SEQUENCE.
fn is_pkcs12(der: &[u8]) -> bool {
    let parts = Elements::of(der, WHAT).required(SEQUENCE).map(|pfx| pfx.inside(WHAT));
    parts.is_ok_and(|mut parts| {
        parts.required(INTEGER).is_ok_and(|version| version.value == [3]) && parts.required(SEQUENCE).is_ok()
    })
}

/// The certificates of a SignedData (RFC 5652 §5). Its signatures, if there are any, are ignored.
fn pkcs7(der: &[u8]) -> Result<Vec<Certificate>, PkiError> {
    const WHAT: &str = "a PKCS #7 file";
    let (content_type, signed_data) = open_content_info(der, WHAT)?;
    if content_type != ContentType::from(rfc5911::ID_SIGNED_DATA) {
        return Err(PkiError::malformed(WHAT, "it is not SignedData"));
    }
    let mut parts = Elements::of(&signed_data, WHAT).required(SEQUENCE)?.inside(WHAT);
    parts.required(INTEGER)?;
    parts.required(SET)?;
    parts.required(SEQUENCE)?;
    let certificates = parts.optional(context_constructed(0))?.map_or(Ok(Vec::new()), |set| set.inside(WHAT).all())?;
    let certificates = certificates.into_iter().filter(|element| element.tag() == SEQUENCE);
    let certificates = certificates.map(|element| Certificate::from_foreign_der(element.whole));
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(PkiError::malformed(WHAT, "it contains no certificate"));
    }
    Ok(certificates)
}

/// A certificate followed by OpenSSL's `X509_CERT_AUX`. One that is marked as not trusted for mail
/// is refused.
fn trusted(der: &[u8]) -> Result<Certificate, PkiError> {
    const WHAT: &str = "a trusted certificate";
    let mut parts = Elements::of(der, WHAT);
    let certificate = Certificate::from_foreign_der(parts.required(SEQUENCE)?.whole)?;
    let auxiliary = parts.optional(SEQUENCE)?;
    parts.end()?;
    let Some(auxiliary) = auxiliary else { return Ok(certificate) };
    let names_mail = |uses: Elements<'_>| {
        let uses = uses.all()?;
        let is = |oid: der::asn1::ObjectIdentifier| uses.iter().any(|used| used.value == oid.as_bytes());
        Ok::<_, PkiError>(is(rfc5280::ID_KP_EMAIL_PROTECTION) || is(rfc5912::ANY_EXTENDED_KEY_USAGE))
    };
    let mut auxiliary = auxiliary.inside(WHAT);
    let trust = auxiliary.optional(SEQUENCE)?.map(|uses| names_mail(uses.inside(WHAT))).transpose()?;
    let reject = auxiliary.optional(context_constructed(0))?.map(|uses| names_mail(uses.inside(WHAT))).transpose()?;
    if trust == Some(false) || reject == Some(true) {
        return Err(PkiError::malformed(WHAT, "the file marks it as not trusted for mail"));
    }
    Ok(certificate)
}

/// The text of a UTF-16 file, recognized by its byte order mark, which some Windows programs write,
/// or by its first characters.
fn from_utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        [first, 0, _, 0, ..] if *first != 0 => u16::from_le_bytes,
        [0, first, 0, _, ..] if *first != 0 => u16::from_be_bytes,
        _ => return None,
    };
    let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|octets| unit(*octets)).collect();
    Some(String::from_utf16_lossy(&units).into_bytes())
}

/// The blocks that may hold certificates, decoded.
fn pem_blocks(mut text: &[u8]) -> Vec<(Form, Result<Vec<u8>, PkiError>)> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut blocks = Vec::new();
    while let Some(begin) = find(text, BEGIN) {
        text = text.get(begin + BEGIN.len()..).unwrap_or_default();
        let Some(label_end) = find(text, b"-----") else { break };
        let (label, after) = text.split_at(label_end);
        let Some(form) = Form::of_label(label) else { continue };
        let after = after.get(5..).unwrap_or_default();
        let end = [b"-----END ", label, b"-----"].concat();
        // A block without an end must not reach into the next one.
        let next = find(after, BEGIN).unwrap_or(after.len());
        let body = match find(after, &end).filter(|at| *at < next) {
            Some(at) => decode(after.get(..at).unwrap_or_default()),
            None => Err(PkiError::malformed(WHAT, "its PEM text has no end")),
        };
        blocks.push((form, body));
        text = after;
    }
    blocks
}

/// Decodes the body of a PEM block. Mail programs and editors change line lengths and line ends, so
/// white space is ignored. Header lines (RFC 1421 §4.4) up to a blank line are skipped.
fn decode(body: &[u8]) -> Result<Vec<u8>, PkiError> {
    let has_headers =
        body.trim_ascii_start().split(|octet| *octet == b'\n').next().is_some_and(|line| line.contains(&b':'));
    let blank = |end: &&[u8]| find(body, end).map(|at| at + end.len());
    let after_headers = [&b"\n\n"[..], b"\n\r\n"].iter().filter_map(blank).min().filter(|_| has_headers);
    let body = body.get(after_headers.unwrap_or_default()..).unwrap_or_default();
    let body: Vec<u8> = body.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    STANDARD.decode(body).map_err(|error| PkiError::malformed(WHAT, error.to_string()))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles, openssl};

    fn authority(name: &str) -> Certificate {
        TestAuthority::new(name, SoftwareKey::p256()).certificate
    }

    #[test]
    fn every_form_that_openssl_writes_is_read() {
        let (one, other) = (authority("One"), authority("Other"));
        let (one_pem, other_pem) = (one.to_pem().unwrap(), other.to_pem().unwrap());
        let files = TestFiles::new();
        let both = files.put("both.pem", format!("{one_pem}{other_pem}").as_bytes());
        let first = files.put("one.pem", one_pem.as_bytes());
        let p7b = |form| openssl(&["crl2pkcs7", "-nocrl", "-certfile", &both, "-outform", form], &[]);
        let trusted = |options: &[&str]| openssl(&[&["x509", "-in", &first], options].concat(), &[]);
        let utf16: Vec<u8> = format!("\u{feff}{one_pem}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (what, bytes, count) in [
            ("PKCS #7 in PEM", p7b("PEM"), 2),
            ("PKCS #7 in DER", p7b("DER"), 2),
            ("trusted", trusted(&["-trustout"]), 1),
            ("trusted for mail", trusted(&["-trustout", "-addtrust", "emailProtection"]), 1),
            ("trusted, DER", trusted(&["-trustout", "-addtrust", "emailProtection", "-outform", "DER"]), 1),
            (
                "Latin-1 around",
                [b"M\xfcnchen\n", one_pem.as_bytes(), b"\xff\n", other_pem.as_bytes(), b"\xe9"].concat(),
                2,
            ),
            ("UTF-8 with a mark", [b"\xef\xbb\xbf", one_pem.as_bytes()].concat(), 1),
            ("UTF-16", utf16, 1),
            ("UTF-16 without a mark", one_pem.encode_utf16().flat_map(u16::to_le_bytes).collect(), 1),
            ("UTF-16, the other way", one_pem.encode_utf16().flat_map(u16::to_be_bytes).collect(), 1),
            ("header lines", one_pem.replacen("-----\n", "-----\nComment: x\n y\n\n", 1).into_bytes(), 1),
            ("base64 alone", one_pem.lines().filter(|line| !line.starts_with('-')).collect::<String>().into_bytes(), 1),
            (
                "PKCS #7 by another label",
                String::from_utf8(p7b("PEM")).unwrap().replace("PKCS7", "CERTIFICATE").into_bytes(),
                2,
            ),
            ("X509 CERTIFICATE", one_pem.replace("CERTIFICATE", "X509 CERTIFICATE").into_bytes(), 1),
        ] {
            let file = CertificateFile::read(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(file.unreadable.is_empty(), "{what}: {:?}", file.unreadable);
            assert_eq!(file.certificates, [one.clone(), other.clone()][..count], "{what}");
        }
        let p12 = openssl(&["pkcs12", "-export", "-nokeys", "-in", &first, "-passout", "pass:x"], &[]);
        let error = CertificateFile::read(&p12).unwrap_err().to_string();
        assert!(error.contains("PKCS #12") && error.contains("openssl pkcs12"), "{error}");
        for options in [&["-trustout", "-addtrust", "serverAuth"][..], &["-trustout", "-addreject", "emailProtection"]]
        {
            let error = CertificateFile::read(&trusted(options)).unwrap_err().to_string();
            assert!(error.contains("not trusted for mail"), "{error}");
        }
    }

    #[test]
    fn an_invalid_certificate_is_named_and_the_others_are_read() {
        let (one, other) = (authority("One"), authority("Other"));
        let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let cut = "-----BEGIN CERTIFICATE-----\nMAA=\n";
        for (bad, reason) in [(bad, "certificate 2 of 3: "), (cut, "certificate 2 of 3: its PEM text has no end")] {
            let text = format!("{}{bad}{}", one.to_pem().unwrap(), other.to_pem().unwrap());
            let file = CertificateFile::read(text.as_bytes()).unwrap();
            assert_eq!(file.certificates, [one.clone(), other.clone()]);
            assert!(file.unreadable.len() == 1 && file.unreadable[0].starts_with(reason), "{:?}", file.unreadable);
            assert!(Certificate::read_all(text.as_bytes()).is_err());
        }
        for text in ["", "hello", bad, &format!("{bad}{bad}"), "-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
            assert!(CertificateFile::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
