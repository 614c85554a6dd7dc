//! Probes what a token can do, because its name and its module's name tell nothing reliable.

use cryptoki::error::Result as CkResult;
use cryptoki::mechanism::MechanismInfo;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::slot::Slot;

use super::mechanisms::oaep;
use super::module::Module;
use super::return_values;
use super::sessions::Sessions;
use crate::token::{Capabilities, KeyAlgorithm, KeyWrap, OaepHash, PinRule};

/// Needs no login.
pub(super) fn probe(module: &Module, slot: Slot, sessions: &Sessions, pin: PinRule) -> CkResult<Capabilities> {
    let info = |mechanism| module.pkcs11().get_mechanism_info(slot, mechanism).ok();
    let supports = |algorithm: KeyAlgorithm, mechanism, uses: fn(&MechanismInfo) -> bool| {
        info(mechanism).is_some_and(|info| uses(&info) && is_in_range(&info, algorithm))
    };
    let signs = |algorithm: &KeyAlgorithm| {
        let (generates, signs) = if algorithm.is_elliptic_curve() {
            (MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA)
        } else {
            (MechanismType::RSA_PKCS_KEY_PAIR_GEN, MechanismType::RSA_PKCS)
        };
        supports(*algorithm, generates, MechanismInfo::generate_key_pair)
            && supports(*algorithm, signs, MechanismInfo::sign)
    };
    let decrypts = |algorithm: &KeyAlgorithm| {
        if algorithm.is_elliptic_curve() {
            supports(*algorithm, MechanismType::ECDH1_DERIVE, MechanismInfo::derive)
        } else {
            supports(*algorithm, MechanismType::RSA_PKCS, MechanismInfo::decrypt)
        }
    };
    let key_wrap = [KeyWrap::Kwp, KeyWrap::Pad];
    let mut hashes = Vec::new();
    for hash in [OaepHash::Sha1, OaepHash::Sha256, OaepHash::Sha384, OaepHash::Sha512] {
        if can_begin_oaep(sessions, hash)? {
            hashes.push(hash);
        }
    }
    Ok(Capabilities {
        signing: KeyAlgorithm::ALL.into_iter().filter(signs).collect(),
        decryption: KeyAlgorithm::ALL.into_iter().filter(decrypts).collect(),
        oaep: hashes,
        key_wrap: key_wrap.into_iter().find(|kind| module.raw().can_wrap(slot, *kind)),
        pin,
    })
}

/// Whether the key sizes of the mechanism, in bits, include the algorithm's. Some modules report no
/// size.
fn is_in_range(info: &MechanismInfo, algorithm: KeyAlgorithm) -> bool {
    let bits = match algorithm {
        KeyAlgorithm::P256 => 256,
        KeyAlgorithm::P384 => 384,
        KeyAlgorithm::Rsa(size) => usize::from(size.bits()),
    };
    info.max_key_size() == 0 || (info.min_key_size()..=info.max_key_size()).contains(&bits)
}

/// No PKCS#11 function tells which hashes RSA-OAEP accepts, but the start of an encryption with a
/// public key does. The key is a session object with an arbitrary modulus, and the operation ends
/// with its session. An error means that the token was removed or has no space for the session
/// object; it says nothing about its capabilities.
fn can_begin_oaep(sessions: &Sessions, hash: OaepHash) -> CkResult<bool> {
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::Modulus(vec![0xc5; 256]),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ];
    let session = sessions.open_another()?;
    match session.create_object(&template).and_then(|key| session.encrypt_init(&oaep(hash), key)) {
        Err(error)
            if return_values::is_removed(&error)
                || return_values::is_session_gone(&error)
                || return_values::is_out_of_space(&error) =>
        {
            Err(error)
        }
        begun => Ok(begun.is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::test_support::{kryoptic, modules, open_token, softhsm};

    #[test]
    fn both_modules_make_every_kind_of_key_and_take_delivered_ones() {
        for module in modules() {
            let token = open_token(&module);
            let found = token.capabilities().unwrap();
            assert_eq!((&found.signing[..], &found.decryption[..]), (&KeyAlgorithm::ALL[..], &KeyAlgorithm::ALL[..]));
            assert_eq!(found.pin, token.pin_rule());
            found.key_arrival().unwrap();
        }
    }

    #[test]
    fn the_modules_differ_in_how_they_unwrap() {
        let softhsm = open_token(&softhsm()).capabilities().unwrap().clone();
        assert_eq!((&softhsm.oaep[..], softhsm.key_wrap), (&[OaepHash::Sha1][..], Some(KeyWrap::Pad)));
        if let Some(kryoptic) = kryoptic() {
            let kryoptic = open_token(&kryoptic).capabilities().unwrap().clone();
            assert_eq!((kryoptic.oaep.len(), kryoptic.key_wrap), (4, Some(KeyWrap::Kwp)));
        }
    }
}
