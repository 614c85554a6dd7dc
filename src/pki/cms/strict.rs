//! A signed message in its one strict form: DER throughout, one signer, the signer's certificate, and nothing else.
//!
//! For messages that count once (statements): whoever records that one was used must be sure that the same signature
//! does not come back in another envelope. Nothing is re-encoded here and nothing is verified; what is not in the form
//! is refused. It must never be asked of other people's mail, which comes in BER and with whatever its program adds.

use super::signed_data::WHAT;
use super::tlv::{
    BIT_STRING, Element, Elements, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context,
    context_constructed,
};
use crate::pki::PkiError;

const BOOLEAN: u8 = 0x01;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Elements within elements; no certificate comes near.
const DEEPEST: usize = 32;

/// Checks that `message` is a `ContentInfo` with `SignedData` (RFC 5652 §5.1) in DER that has its content inside, one
/// digest algorithm, one certificate, no revocation list, and one signer, with signed attributes and without unsigned
/// ones, who names that digest algorithm.
///
/// # Errors
/// [`PkiError`] that says what is too much, missing or not in DER.
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
        return Err(malformed("it must bring no revocation list"));
    }
    let signer = only(parts.required(SET)?, "signer")?;
    parts.end()?;
    check_signer(signer, digest_algorithm)
}

/// `SignerInfo` (RFC 5652 §5.3).
fn check_signer(signer: Element<'_>, digest_algorithm: Element<'_>) -> Result<(), PkiError> {
    let mut parts = sequence(signer)?.inside(WHAT);
    parts.required(INTEGER)?;
    let identifier = parts.any()?;
    if identifier.tag() != SEQUENCE && identifier.tag() != context(0) {
        return Err(malformed("its signer is named in a way that is not known"));
    }
    if parts.required(SEQUENCE)? != digest_algorithm {
        return Err(malformed("its digest algorithm must be its signer's"));
    }
    // Tagged [0] in the place of a SET OF.
    check_order(parts.required(context_constructed(0))?)?;
    parts.required(SEQUENCE)?;
    parts.required(OCTET_STRING)?;
    if parts.optional(context_constructed(1))?.is_some() {
        return Err(malformed("it must have no unsigned attributes"));
    }
    parts.end()
}

fn sequence(element: Element<'_>) -> Result<Element<'_>, PkiError> {
    if element.tag() == SEQUENCE { Ok(element) } else { Err(malformed("a sequence is missing where one belongs")) }
}

/// The one element inside.
fn only<'a>(around: Element<'a>, what: &str) -> Result<Element<'a>, PkiError> {
    match around.inside(WHAT).all()?.as_slice() {
        [element] => Ok(*element),
        elements => Err(malformed(format!("it must have one {what}, and has {}", elements.len()))),
    }
}

/// X.690 §10 and §11, as far as CMS and certificates have to do with them: definite lengths in the fewest octets, strings
/// in one piece, values in their only form, sets in order.
fn check_der(element: Element<'_>, depth: usize) -> Result<(), PkiError> {
    if depth > DEEPEST {
        return Err(malformed("its elements are nested too deep"));
    }
    if !has_shortest_length(&element) {
        return Err(not_der("a length has more octets than it needs"));
    }
    let tag = element.tag();
    let is_universal = tag & 0xc0 == 0;
    let is_constructed = tag & 0x20 != 0;
    if is_universal && is_constructed != matches!(tag & 0x1f, 0x10 | 0x11) {
        return Err(not_der("a string is in pieces, or a sequence in one"));
    }
    if !is_constructed {
        return if is_universal { check_value(tag, element.value) } else { Ok(()) };
    }
    if tag == SET {
        check_order(element)?;
    }
    element.inside(WHAT).all()?.into_iter().try_for_each(|inside| check_der(inside, depth + 1))
}

/// X.690 §10.1.
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

/// Values of universal types that BER can write in several ways.
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

/// X.690 §8.19: every number in the fewest octets, the last one ended.
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

/// X.690 §11.6: the elements of a SET OF ascend.
fn check_order(set: Element<'_>) -> Result<(), PkiError> {
    let elements = set.inside(WHAT).all()?;
    if elements.is_sorted_by(|one, next| one.whole < next.whole) {
        Ok(())
    } else {
        Err(not_der("a set is not in order, or has an element twice"))
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
