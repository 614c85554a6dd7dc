//! What a token can do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KeyAlgorithm, KeyWrap, OaepHash, PinRule};

/// What a token can do, found by probing it and not by its name. Whoever needs to know asks this
/// value, and it is shown to the user (`tokenkeep token show`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// algorithms of the keys that it generates and signs with
    pub signing: Vec<KeyAlgorithm>,
    /// algorithms of the keys with which it decrypts (RSA) or agrees on a secret (curves)
    pub decryption: Vec<KeyAlgorithm>,
    /// hashes with which it removes the padding of RSA-OAEP
    pub oaep: Vec<OaepHash>,
    /// the AES key wrap of delivered keys
    pub(super) key_wrap: Option<KeyWrap>,
    /// lengths of its PINs
    pub pin: PinRule,
}

/// How a private key from the authority arrives on a token. It is displayed as the method's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyArrival {
    /// The token unwraps it: the key is never in clear outside a token.
    Unwrap { oaep: OaepHash, key_wrap: KeyWrap },
}

impl fmt::Display for KeyArrival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unwrap { oaep, key_wrap } = self;
        let key_wrap = match key_wrap {
            KeyWrap::Kwp => "AES key wrap with padding",
            KeyWrap::Pad => "AES key wrap after PKCS #7 padding",
        };
        write!(formatter, "unwrapped by RSA-OAEP with {oaep} and {key_wrap}")
    }
}

impl Capabilities {
    /// How a delivered key arrives, or what the token lacks for it.
    pub fn key_arrival(&self) -> Result<KeyArrival, &'static str> {
        let oaep = self.oaep_for_unwrapping().ok_or("unwrapping by RSA-OAEP")?;
        let key_wrap = self.key_wrap.ok_or("AES key unwrap")?;
        Ok(KeyArrival::Unwrap { oaep, key_wrap })
    }

    /// The RSA-OAEP hash for unwrapping: SHA-256 preferred over SHA-1.
    pub(super) fn oaep_for_unwrapping(&self) -> Option<OaepHash> {
        [OaepHash::Sha256, OaepHash::Sha1].into_iter().find(|hash| self.oaep.contains(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_how_a_key_arrives_or_what_it_lacks() {
        let all = Capabilities {
            signing: Vec::new(),
            decryption: Vec::new(),
            oaep: vec![OaepHash::Sha1, OaepHash::Sha256],
            key_wrap: Some(KeyWrap::Kwp),
            pin: PinRule { min: 4, max: 8 },
        };
        let arrival = all.key_arrival().unwrap();
        assert_eq!(arrival.to_string(), "unwrapped by RSA-OAEP with SHA-256 and AES key wrap with padding");
        let no_wrap = Capabilities { key_wrap: None, ..all.clone() };
        assert_eq!(no_wrap.key_arrival(), Err("AES key unwrap"));
        assert_eq!(Capabilities { oaep: Vec::new(), ..all }.key_arrival(), Err("unwrapping by RSA-OAEP"));
    }
}
