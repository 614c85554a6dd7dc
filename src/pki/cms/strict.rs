//! The strict form of a signed message: DER throughout, one signer, the signer's certificate, and
//! nothing else.
//!
//! It is for messages that count once (statements): once such a message is recorded as used, the
//! same signature must not be accepted in another envelope. Nothing is re-encoded or verified here;
//! a deviation from the form is an error. Do not apply it to mail, which arrives in BER and with
//! additions of other programs.

use super::signed_data::WHAT;
use crate::pki::PkiError;
use crate::pki::tlv::{
    BIT_STRING, Element, Elements, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context,
    context_constructed,
};

const BOOLEAN: u8 = 0x01;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The maximum nesting of elements, far above that of certificates.
const MAX_DEPTH: usize = 32;

/// Checks that `message` is a `ContentInfo` with `SignedData` (RFC 5652 §5.1) in DER. It must have
/// its content inside, one digest algorithm, one certificate, no revocation list, and one signer.
/// The signer must have signed attributes and no unsigned ones, and name the same digest algorithm.
///
/// # Errors
/// [`PkiError`], which names the part that is superfluous, missing or not in DER.
pub fn check_sole_signer(message: &[u8]) -> Result<(), PkiError> {
    let mut outer = Elements::of(message, WHAT);
    let content_info = outer.any()?;
    outer.end()?;
    check_der(content_info, 0)?;

    let mut parts = sequence(content_info)?.inside(WHAT);
    parts.required(OBJECT_IDENTIFIER)?;
    let signed_data = only(parts.required(context_constructed(0))?, "signed content")?;
    parts.end()?;

    let mut parts = sequence(signed_data)?.inside(WHAT);
    parts.required(INTEGER)?;
    let digest_algorithm = only(parts.required(SET)?, "digest algorithm")?;
    let mut content = parts.required(SEQUENCE)?.inside(WHAT);
    content.required(OBJECT_IDENTIFIER)?;
    let octets = only(content.required(context_constructed(0))?, "content")?;
    content.end()?;
    if octets.tag() != OCTET_STRING {
        return Err(malformed("its content must be one octet string"));
    }
    sequence(only(parts.required(context_constructed(0))?, "certificate")?)?;
    if parts.optional(context_constructed(1))?.is_some() {
        return Err(malformed("it must not contain a revocation list"));
    }
    let signer = only(parts.required(SET)?, "signer")?;
    parts.end()?;
    check_signer(signer, digest_algorithm)
}

/// Checks `SignerInfo` (RFC 5652 §5.3).
fn check_signer(signer: Element<'_>, digest_algorithm: Element<'_>) -> Result<(), PkiError> {
    let mut parts = sequence(signer)?.inside(WHAT);
    parts.required(INTEGER)?;
    let identifier = parts.any()?;
    if identifier.tag() != SEQUENCE && identifier.tag() != context(0) {
        return Err(malformed("its signer identifier has an unknown form"));
    }
    if parts.required(SEQUENCE)? != digest_algorithm {
        return Err(malformed("its digest algorithm must be its signer's"));
    }
    // A SET OF with the tag [0].
    check_order(parts.required(context_constructed(0))?)?;
    parts.required(SEQUENCE)?;
    parts.required(OCTET_STRING)?;
    if parts.optional(context_constructed(1))?.is_some() {
        return Err(malformed("it must not have unsigned attributes"));
    }
    parts.end()
}

fn sequence(element: Element<'_>) -> Result<Element<'_>, PkiError> {
    if element.tag() == SEQUENCE { Ok(element) } else { Err(malformed("a sequence is missing")) }
}

/// The only element inside.
fn only<'a>(parent: Element<'a>, what: &str) -> Result<Element<'a>, PkiError> {
    match parent.inside(WHAT).all()?.as_slice() {
        [element] => Ok(*element),
        elements => Err(malformed(format!("it must have one {what} but has {}", elements.len()))),
    }
}

/// Checks the rules of X.690 §10 and §11 that apply to CMS and certificates: definite lengths in
/// the fewest octets, primitive strings, values in their only form, sets in order.
fn check_der(element: Element<'_>, depth: usize) -> Result<(), PkiError> {
    if depth > MAX_DEPTH {
        return Err(malformed("its elements are nested too deeply"));
    }
    if !has_shortest_length(&element) {
        return Err(not_der("a length has more octets than it needs"));
    }
    let tag = element.tag();
    let is_universal = tag & 0xc0 == 0;
    let is_constructed = tag & 0x20 != 0;
    if is_universal && is_constructed != matches!(tag & 0x1f, 0x10 | 0x11) {
        return Err(not_der("a string is constructed, or a sequence is primitive"));
    }
    if !is_constructed {
        return if is_universal { check_value(tag, element.value) } else { Ok(()) };
    }
    if tag == SET {
        check_order(element)?;
    }
    element.inside(WHAT).all()?.into_iter().try_for_each(|inside| check_der(inside, depth + 1))
}

/// Whether the length has the fewest octets (X.690 §10.1).
fn has_shortest_length(element: &Element<'_>) -> bool {
    let header = element.whole.len() - element.value.len();
    let shortest = match element.value.len() {
        0..=0x7f => 2,
        0x80..=0xff => 3,
        0x100..=0xffff => 4,
        0x1_0000..=0xff_ffff => 5,
        _ => 6,
    };
    header == shortest
}

/// Checks values of universal types that BER can encode in several ways.
fn check_value(tag: u8, value: &[u8]) -> Result<(), PkiError> {
    let is_only_form = match tag {
        0 => false,
        BOOLEAN => matches!(value, [0 | 0xff]),
        INTEGER | ENUMERATED => match value {
            [] => false,
            [first, second, ..] => !matches!((first, second & 0x80), (0, 0) | (0xff, 0x80)),
            [_] => true,
        },
        BIT_STRING => match value {
            [0] => true,
            [unused @ 0..=7, .., last] => last.trailing_zeros() >= u32::from(*unused),
            _ => false,
        },
        NULL => value.is_empty(),
        OBJECT_IDENTIFIER => is_object_identifier(value),
        UTC_TIME => value.len() == 13 && value.ends_with(b"Z"),
        GENERALIZED_TIME => {
            let is_padded = value.contains(&b'.') && (value.ends_with(b"0Z") || value.ends_with(b".Z"));
            value.len() >= 15 && value.ends_with(b"Z") && !is_padded
        }
        _ => true,
    };
    if is_only_form { Ok(()) } else { Err(not_der("a value is not in its only form")) }
}

/// Whether every number has the fewest octets and the last one is complete (X.690 §8.19).
fn is_object_identifier(value: &[u8]) -> bool {
    let is_ended = value.last().is_some_and(|last| last & 0x80 == 0);
    let mut begins = true;
    let is_shortest = value.iter().all(|octet| {
        let is_padding = begins && *octet == 0x80;
        begins = octet & 0x80 == 0;
        !is_padding
    });
    is_ended && is_shortest
}

/// Checks that the elements of a SET OF ascend (X.690 §11.6).
fn check_order(set: Element<'_>) -> Result<(), PkiError> {
    let elements = set.inside(WHAT).all()?;
    if elements.is_sorted_by(|one, next| one.whole < next.whole) {
        Ok(())
    } else {
        Err(not_der("a set is not in order, or has a repeated element"))
    }
}

fn not_der(reason: &str) -> PkiError {
    malformed(format!("it is not in DER: {reason}"))
}

fn malformed(reason: impl Into<String>) -> PkiError {
    PkiError::malformed(WHAT, reason)
}

#[cfg(test)]
mod tests;
