//! What each kind of key may do, written out: a usage that is not named in a template is whatever the module likes
//! (SoftHSM lets keys unwrap unless they are told not to).

use cryptoki::object::{Attribute, KeyType, ObjectClass};
use der::Encode;

use crate::token::{KeyAlgorithm, KeyId, PublicKey, SecurityLevel, TokenError};

/// A use of a private or secret key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Sign,
    Decrypt,
    Derive,
    Wrap,
    Unwrap,
}

/// What a private key may be used for; the rest is written out as false.
fn private_key_for(uses: &[Use]) -> [Attribute; 5] {
    [
        Attribute::Sign(uses.contains(&Use::Sign)),
        Attribute::SignRecover(false),
        Attribute::Decrypt(uses.contains(&Use::Decrypt)),
        Attribute::Derive(uses.contains(&Use::Derive)),
        Attribute::Unwrap(uses.contains(&Use::Unwrap)),
    ]
}

/// What a secret key may be used for; the rest is written out as false.
fn secret_key_for(uses: &[Use]) -> [Attribute; 7] {
    [
        Attribute::Sign(uses.contains(&Use::Sign)),
        Attribute::Verify(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(uses.contains(&Use::Decrypt)),
        Attribute::Derive(uses.contains(&Use::Derive)),
        Attribute::Wrap(uses.contains(&Use::Wrap)),
        Attribute::Unwrap(uses.contains(&Use::Unwrap)),
    ]
}

/// A key that stays on the token for good: not to be read, not to leave; and, by [`unchangeable`], not to be changed.
fn lasting(label: &str, id: &KeyId) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.as_bytes().to_vec()),
    ]
}

/// Ends the template of a lasting key. It must come last: when SoftHSM unwraps, it takes the attributes one by one, and
/// after this one no more.
fn unchangeable(mut template: Vec<Attribute>) -> Vec<Attribute> {
    template.push(Attribute::Modifiable(false));
    template
}

/// A key that lives in one session and may be wrapped, but not read.
fn passing() -> Vec<Attribute> {
    vec![Attribute::Token(false), Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(true)]
}

/// At High the token asks for the PIN at every use, and the key cannot be copied into one that does not; at Medium and
/// Low the agent makes session copies of it. So where the token cannot ask ([`without_pin_each_use`]), `CKA_COPYABLE`
/// still tells the levels apart.
fn level(level: SecurityLevel) -> Vec<Attribute> {
    match level {
        SecurityLevel::High => vec![Attribute::AlwaysAuthenticate(true), Attribute::Copyable(false)],
        SecurityLevel::Medium | SecurityLevel::Low => vec![Attribute::Copyable(true)],
    }
}

/// The same key for a module that does not take `CKA_ALWAYS_AUTHENTICATE`; `None` when the template does without it anyway.
pub(super) fn without_pin_each_use(template: &[Attribute]) -> Option<Vec<Attribute>> {
    let asks = |attribute: &Attribute| *attribute == Attribute::AlwaysAuthenticate(true);
    let rest = || template.iter().filter(|attribute| !asks(attribute)).cloned().collect();
    template.iter().any(asks).then(rest)
}

/// A signing key: signs and nothing else. Without a level it is the authority's, which nobody copies.
///
/// At Medium and Low it is not [`unchangeable`]: SoftHSM refuses to copy such a key into a session (whatever the template
/// says, `CKA_TOKEN` too: `CKR_ATTRIBUTE_READ_ONLY`), and the agent signs with such copies. What could be changed by
/// somebody who is logged in, and so can sign with it anyway, is what else it is used for; it can no more be read than
/// before (`CKA_SENSITIVE` and `CKA_EXTRACTABLE` go one way only).
pub(super) fn signing_key(label: &str, id: &KeyId, of: Option<SecurityLevel>) -> Vec<Attribute> {
    let mut template = lasting(label, id);
    template.extend(private_key_for(&[Use::Sign]));
    template.extend(of.map_or_else(|| vec![Attribute::Copyable(false)], level));
    match of {
        Some(SecurityLevel::Medium | SecurityLevel::Low) => template,
        Some(SecurityLevel::High) | None => unchangeable(template),
    }
}

/// The public half of a signing key, as it is made with it.
pub(super) fn signing_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
) -> Result<Vec<Attribute>, TokenError> {
    lasting_public_key(label, id, algorithm, PublicUse::Verify)
}

/// The transport key of an enrollment: unwraps and nothing else. Into what, its unwrap template says.
pub(super) fn transport_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = lasting(label, id);
    template.extend(private_key_for(&[Use::Unwrap]));
    template.push(Attribute::Copyable(false));
    unchangeable(template)
}

/// The public half of the transport key. Nobody encrypts to it on this token.
pub(super) fn transport_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
) -> Result<Vec<Attribute>, TokenError> {
    lasting_public_key(label, id, algorithm, PublicUse::Wrap)
}

/// What the transport key unwraps: the AES key that unwraps the delivered key, which can neither leave nor decrypt.
pub(super) fn unwrapped_by_transport_key() -> Vec<Attribute> {
    vec![
        Attribute::Token(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(true),
    ]
}

/// The same as the template of the unwrapping call, which must agree with the key's own. No `CKA_VALUE_LEN`: SoftHSM
/// refuses it here.
pub(super) fn delivered_aes_key() -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
    ];
    template.extend(secret_key_for(&[Use::Unwrap]));
    template
}

/// A delivered encryption key: decrypts (RSA) or derives (elliptic curves) and nothing else.
pub(super) fn delivered_key(label: &str, id: &KeyId, algorithm: KeyAlgorithm, of: SecurityLevel) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(key_type(algorithm))];
    template.extend(lasting(label, id));
    template.extend(private_key_for(&[reading(algorithm)]));
    template.extend(level(of));
    unchangeable(template)
}

/// The public half of a delivered key, written beside it so that other programs see what it is.
pub(super) fn delivered_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
    key: &PublicKey,
) -> Result<Vec<Attribute>, TokenError> {
    let mut template = existing_public_key(key)?;
    template.extend([
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(false),
        Attribute::Encrypt(!algorithm.is_elliptic_curve()),
        Attribute::Derive(algorithm.is_elliptic_curve()),
        Attribute::Wrap(false),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.as_bytes().to_vec()),
    ]);
    Ok(template)
}

/// A user's encryption key pair while it passes over the authority's token, made there: private and public template.
pub(super) fn deliverable_key_pair(algorithm: KeyAlgorithm) -> Result<(Vec<Attribute>, Vec<Attribute>), TokenError> {
    let mut private = passing();
    private.extend(private_key_for(&[reading(algorithm)]));
    let mut public = made_public_key(algorithm)?;
    public.extend([
        Attribute::Token(false),
        Attribute::Verify(false),
        Attribute::Encrypt(!algorithm.is_elliptic_curve()),
        Attribute::Wrap(false),
    ]);
    Ok((private, public))
}

/// The same, unwrapped from the archive.
pub(super) fn archived_key(algorithm: KeyAlgorithm) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(key_type(algorithm))];
    template.extend(passing());
    template.extend(private_key_for(&[reading(algorithm)]));
    template
}

/// The archive's AES-256 key: wraps and unwraps, and nothing else.
pub(super) fn archive_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = lasting(label, id);
    template.extend(secret_key_for(&[Use::Wrap, Use::Unwrap]));
    template.extend([Attribute::Copyable(false), Attribute::ValueLen(32.into())]);
    unchangeable(template)
}

/// A key for HMAC-SHA-256: computes MACs, and nothing else.
pub(super) fn mac_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = vec![Attribute::KeyType(KeyType::GENERIC_SECRET)];
    template.extend(lasting(label, id));
    template.extend(secret_key_for(&[Use::Sign]));
    template.extend([Attribute::Copyable(false), Attribute::ValueLen(32.into())]);
    unchangeable(template)
}

/// The fresh AES-256 key under which one key is delivered.
pub(super) fn delivery_aes_key() -> Vec<Attribute> {
    let mut template = passing();
    template.extend(secret_key_for(&[Use::Wrap]));
    template.push(Attribute::ValueLen(32.into()));
    template
}

/// Somebody's transport public key, for wrapping to it once.
pub(super) fn foreign_transport_key(key: &PublicKey) -> Result<Vec<Attribute>, TokenError> {
    let mut template = existing_public_key(key)?;
    template.extend([
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Verify(false),
        Attribute::Encrypt(false),
        Attribute::Wrap(true),
    ]);
    Ok(template)
}

/// The secret that a key agreement gives: it is a content-encryption key's key and is read out at once.
pub(super) fn agreed_secret(length: usize) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    template.extend(secret_key_for(&[]));
    template.extend(u64::try_from(length).ok().map(|length| Attribute::ValueLen(length.into())));
    template
}

/// A use of a public key that stays beside its private half.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PublicUse {
    Verify,
    Wrap,
}

/// The public half of a pair that is made on the token and stays there: for one thing, the rest is written out as false.
fn lasting_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
    only: PublicUse,
) -> Result<Vec<Attribute>, TokenError> {
    let mut template = made_public_key(algorithm)?;
    template.extend([
        Attribute::Token(true),
        Attribute::Verify(only == PublicUse::Verify),
        Attribute::Encrypt(false),
        Attribute::Wrap(only == PublicUse::Wrap),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.as_bytes().to_vec()),
    ]);
    Ok(template)
}

/// How mail is read with it.
fn reading(algorithm: KeyAlgorithm) -> Use {
    if algorithm.is_elliptic_curve() { Use::Derive } else { Use::Decrypt }
}

/// The type of key as PKCS#11 names it.
pub(super) fn key_type(algorithm: KeyAlgorithm) -> KeyType {
    if algorithm.is_elliptic_curve() { KeyType::EC } else { KeyType::RSA }
}

/// What a public key is made from: modulus length and exponent, or the curve.
fn made_public_key(algorithm: KeyAlgorithm) -> Result<Vec<Attribute>, TokenError> {
    let mut template = vec![Attribute::Private(false)];
    match (algorithm, algorithm.curve()) {
        (KeyAlgorithm::Rsa(size), _) => {
            template.push(Attribute::ModulusBits(u64::from(size.bits()).into()));
            template.push(Attribute::PublicExponent(vec![1, 0, 1]));
        }
        (_, Some(curve)) => {
            let parameters = curve.to_der().map_err(|error| TokenError::Encoding(error.to_string()))?;
            template.push(Attribute::EcParams(parameters));
        }
        (_, None) => {}
    }
    Ok(template)
}

/// What a public key that exists is written as.
fn existing_public_key(key: &PublicKey) -> Result<Vec<Attribute>, TokenError> {
    let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
    template.extend(key.to_attributes()?);
    Ok(template)
}
