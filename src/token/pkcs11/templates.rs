//! The templates of all kinds of keys. Every usage is written out: the module decides about an
//! omitted one (SoftHSM lets keys unwrap unless told otherwise).

use cryptoki::object::{Attribute, KeyType, ObjectClass};
use der::Encode;

use crate::token::{KeyAlgorithm, KeyId, SecurityLevel, SubjectPublicKey, TokenError};

/// A use of a private or secret key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Sign,
    Decrypt,
    Derive,
    Wrap,
    Unwrap,
}

/// The usages of a private key; all others are false.
fn private_key_for(uses: &[Use]) -> [Attribute; 5] {
    [
        Attribute::Sign(uses.contains(&Use::Sign)),
        Attribute::SignRecover(false),
        Attribute::Decrypt(uses.contains(&Use::Decrypt)),
        Attribute::Derive(uses.contains(&Use::Derive)),
        Attribute::Unwrap(uses.contains(&Use::Unwrap)),
    ]
}

/// The usages of a secret key; all others are false.
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

/// A permanent token key: sensitive, not extractable and, with [`unchangeable`], not modifiable.
fn persistent_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.as_bytes().to_vec()),
    ]
}

/// Completes the template of a permanent key. It must come last: SoftHSM applies the attributes of
/// an unwrapped key one by one, and accepts none after this one.
fn unchangeable(mut template: Vec<Attribute>) -> Vec<Attribute> {
    template.push(Attribute::Modifiable(false));
    template
}

/// A session key that can be wrapped but not read.
fn session_key() -> Vec<Attribute> {
    vec![Attribute::Token(false), Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(true)]
}

/// At High the token requires the PIN for every use, and the key cannot be copied into one without
/// that. At Medium and Low the agent makes session copies. So `CKA_COPYABLE` distinguishes the
/// levels even if the token cannot require the PIN ([`without_pin_each_use`]).
fn level(level: SecurityLevel) -> Vec<Attribute> {
    match level {
        SecurityLevel::High => vec![Attribute::AlwaysAuthenticate(true), Attribute::Copyable(false)],
        SecurityLevel::Medium | SecurityLevel::Low => vec![Attribute::Copyable(true)],
    }
}

/// The template for a module that refuses `CKA_ALWAYS_AUTHENTICATE`; `None` if the template does
/// not have it.
pub(super) fn without_pin_each_use(template: &[Attribute]) -> Option<Vec<Attribute>> {
    let asks = |attribute: &Attribute| *attribute == Attribute::AlwaysAuthenticate(true);
    let rest = || template.iter().filter(|attribute| !asks(attribute)).cloned().collect();
    template.iter().any(asks).then(rest)
}

/// A signing key: it can only sign. Without a level it is the authority's, which is not copied.
///
/// At Medium and Low it is not [`unchangeable`]: SoftHSM refuses to copy such a key into a session
/// (whatever the template says, even with `CKA_TOKEN`: `CKR_ATTRIBUTE_READ_ONLY`), and the agent
/// signs with such copies. A logged-in program could therefore change the other usages of the key,
/// but it can sign with it anyway. The key stays unreadable (`CKA_SENSITIVE` and `CKA_EXTRACTABLE`
/// change in one direction only).
pub(super) fn signing_key(label: &str, id: &KeyId, of: Option<SecurityLevel>) -> Vec<Attribute> {
    let mut template = persistent_key(label, id);
    template.extend(private_key_for(&[Use::Sign]));
    template.extend(of.map_or_else(|| vec![Attribute::Copyable(false)], level));
    match of {
        Some(SecurityLevel::Medium | SecurityLevel::Low) => template,
        Some(SecurityLevel::High) | None => unchangeable(template),
    }
}

/// The public key generated with a signing key.
pub(super) fn signing_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
) -> Result<Vec<Attribute>, TokenError> {
    persistent_public_key(label, id, algorithm, PublicUse::Verify)
}

/// The transport key of an enrollment: it can only unwrap, and only into keys of its unwrap
/// template.
pub(super) fn transport_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = persistent_key(label, id);
    template.extend(private_key_for(&[Use::Unwrap]));
    template.push(Attribute::Copyable(false));
    unchangeable(template)
}

/// The public key of the transport key. It is not used for encryption on this token.
pub(super) fn transport_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
) -> Result<Vec<Attribute>, TokenError> {
    persistent_public_key(label, id, algorithm, PublicUse::Wrap)
}

/// The unwrap template of the transport key: the AES key that unwraps the delivered key. It can
/// neither leave the token nor decrypt.
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

/// The template of the unwrap call, which must agree with the transport key's. It has no
/// `CKA_VALUE_LEN`: SoftHSM refuses that here.
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

/// A delivered encryption key: it can only decrypt (RSA) or derive (elliptic curves).
pub(super) fn delivered_key(label: &str, id: &KeyId, algorithm: KeyAlgorithm, of: SecurityLevel) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(key_type(algorithm))];
    template.extend(persistent_key(label, id));
    template.extend(private_key_for(&[decryption_use(algorithm)]));
    template.extend(level(of));
    unchangeable(template)
}

/// The public key of a delivered key, stored so that other programs can identify it.
pub(super) fn delivered_public_key(
    label: &str,
    id: &KeyId,
    algorithm: KeyAlgorithm,
    key: &SubjectPublicKey,
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

/// A user's encryption key pair while it is on the authority's token: private and public template.
pub(super) fn deliverable_key_pair(algorithm: KeyAlgorithm) -> Result<(Vec<Attribute>, Vec<Attribute>), TokenError> {
    let mut private = session_key();
    private.extend(private_key_for(&[decryption_use(algorithm)]));
    let mut public = made_public_key(algorithm)?;
    public.extend([
        Attribute::Token(false),
        Attribute::Verify(false),
        Attribute::Encrypt(!algorithm.is_elliptic_curve()),
        Attribute::Wrap(false),
    ]);
    Ok((private, public))
}

/// A deliverable private key that is unwrapped from the archive.
pub(super) fn archived_key(algorithm: KeyAlgorithm) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(key_type(algorithm))];
    template.extend(session_key());
    template.extend(private_key_for(&[decryption_use(algorithm)]));
    template
}

/// The AES-256 key of the archive: it can only wrap and unwrap.
pub(super) fn archive_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = persistent_key(label, id);
    template.extend(secret_key_for(&[Use::Wrap, Use::Unwrap]));
    template.extend([Attribute::Copyable(false), Attribute::ValueLen(32.into())]);
    unchangeable(template)
}

/// A key for HMAC-SHA-256: it can only compute MACs.
pub(super) fn mac_key(label: &str, id: &KeyId) -> Vec<Attribute> {
    let mut template = vec![Attribute::KeyType(KeyType::GENERIC_SECRET)];
    template.extend(persistent_key(label, id));
    template.extend(secret_key_for(&[Use::Sign]));
    template.extend([Attribute::Copyable(false), Attribute::ValueLen(32.into())]);
    unchangeable(template)
}

/// The fresh AES-256 key that wraps one delivered key.
pub(super) fn delivery_aes_key() -> Vec<Attribute> {
    let mut template = session_key();
    template.extend(secret_key_for(&[Use::Wrap]));
    template.push(Attribute::ValueLen(32.into()));
    template
}

/// A user's transport public key, imported to wrap to it once.
pub(super) fn foreign_transport_key(key: &SubjectPublicKey) -> Result<Vec<Attribute>, TokenError> {
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

/// The secret of a key agreement. It derives a key-encryption key, and is read out immediately.
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

/// The usage of a permanent public key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PublicUse {
    Verify,
    Wrap,
}

/// The public key of a permanent pair that is generated on the token: one usage, all others are
/// false.
fn persistent_public_key(
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

/// The usage that decrypts mail.
fn decryption_use(algorithm: KeyAlgorithm) -> Use {
    if algorithm.is_elliptic_curve() { Use::Derive } else { Use::Decrypt }
}

/// The PKCS#11 key type.
pub(super) fn key_type(algorithm: KeyAlgorithm) -> KeyType {
    if algorithm.is_elliptic_curve() { KeyType::EC } else { KeyType::RSA }
}

/// The input of a generated public key: modulus length and exponent, or the curve.
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

/// The attributes of an existing public key.
fn existing_public_key(key: &SubjectPublicKey) -> Result<Vec<Attribute>, TokenError> {
    let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
    template.extend(key.to_attributes()?);
    Ok(template)
}
