//! The kinds of cards that can be simulated, and what each of them knows.

use super::private_key::Algorithm;

/// A kind of card. Firmware versions differ in commands, algorithms and factory settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A YubiKey 4: neither metadata nor AES, and no serial number in the PIV applet.
    YubiKey435,
    /// A YubiKey 5 before the change of the default management key to AES.
    YubiKey543,
    /// A YubiKey 5 with larger RSA keys, Ed25519, and commands to move and delete keys.
    YubiKey571,
    /// A PIV card of another maker: the commands of SP 800-73-4 only.
    Plain,
}

/// Algorithms of the management key (SP 800-78-4 table 6-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagementAlgorithm {
    TripleDes = 0x03,
    Aes128 = 0x08,
    Aes192 = 0x0a,
    Aes256 = 0x0c,
}

impl ManagementAlgorithm {
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256].into_iter().find(|one| *one as u8 == byte)
    }

    /// The length of a key, in bytes.
    pub fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The length of a block and so of a challenge, in bytes.
    pub fn block_length(self) -> usize {
        if self == Self::TripleDes { 8 } else { 16 }
    }
}

/// The historical bytes contain "YubiKey".
const YUBIKEY_5_ATR: [u8; 23] = [
    0x3b, 0xfd, 0x13, 0x00, 0x00, 0x81, 0x31, 0xfe, 0x15, 0x80, 0x73, 0xc0, 0x21, 0xc0, 0x57, 0x59, 0x75, 0x62, 0x69,
    0x4b, 0x65, 0x79, 0x40,
];
/// The historical bytes are "Yubikey4".
const YUBIKEY_4_ATR: [u8; 18] =
    [0x3b, 0xf8, 0x13, 0x00, 0x00, 0x81, 0x31, 0xfe, 0x15, 0x59, 0x75, 0x62, 0x69, 0x6b, 0x65, 0x79, 0x34, 0xd4];
/// T=1, with the name of the PIV applet in the historical bytes.
const PLAIN_ATR: [u8; 15] =
    [0x3b, 0x8b, 0x01, 0x80, 0xf9, 0xa0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, PLAIN_CHECK];
/// The check byte: all bytes after the first, combined by XOR.
const PLAIN_CHECK: u8 = 0x8b ^ 0x01 ^ 0x80 ^ 0xf9 ^ 0xa0 ^ 0x03 ^ 0x08 ^ 0x10;

impl Profile {
    /// The firmware version; none on a card that is no YubiKey.
    pub fn version(self) -> Option<[u8; 3]> {
        match self {
            Self::YubiKey435 => Some([4, 3, 5]),
            Self::YubiKey543 => Some([5, 4, 3]),
            Self::YubiKey571 => Some([5, 7, 1]),
            Self::Plain => None,
        }
    }

    /// Whether this is a YubiKey with at least this version.
    pub fn is_yubikey_since(self, major: u8, minor: u8) -> bool {
        self.version().is_some_and(|[own_major, own_minor, _]| (own_major, own_minor) >= (major, minor))
    }

    pub fn is_yubikey(self) -> bool {
        self.version().is_some()
    }

    /// The answer to reset.
    pub fn atr(self) -> &'static [u8] {
        match self {
            Self::YubiKey435 => &YUBIKEY_4_ATR,
            Self::YubiKey543 | Self::YubiKey571 => &YUBIKEY_5_ATR,
            Self::Plain => &PLAIN_ATR,
        }
    }

    /// Whether keys of this algorithm can be generated and imported.
    pub fn supports(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rsa2048 | Algorithm::P256 | Algorithm::P384 => true,
            Algorithm::Rsa3072 | Algorithm::Rsa4096 | Algorithm::Ed25519 => self.is_yubikey_since(5, 7),
        }
    }

    /// Whether a management key of this algorithm can be set. YubiKeys know AES since 5.4.2.
    pub fn supports_management(self, algorithm: ManagementAlgorithm) -> bool {
        algorithm == ManagementAlgorithm::TripleDes || self.is_yubikey_since(5, 4)
    }

    /// The algorithm of the factory's management key. It became AES-192 with 5.7.
    pub fn default_management(self) -> ManagementAlgorithm {
        if self.is_yubikey_since(5, 7) { ManagementAlgorithm::Aes192 } else { ManagementAlgorithm::TripleDes }
    }
}
