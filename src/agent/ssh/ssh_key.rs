//! A public key in the parts that SSH encodes: RSA, P-256, P-384, and Ed25519 (host keys only).

use super::SshError;
use super::wire::Writer;
use crate::pki::public_key::PublicKey;

/// The suffix of a certificate's key type name.
pub(super) const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// A key that borrows the blob it was parsed from. Equality ignores certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SshKey<'a> {
    /// big-endian magnitudes
    Rsa {
        exponent: &'a [u8],
        modulus: &'a [u8],
    },
    /// uncompressed points
    P256(&'a [u8]),
    P384(&'a [u8]),
    Ed25519(&'a [u8]),
}

impl SshKey<'_> {
    /// The key type name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rsa { .. } => "ssh-rsa",
            Self::P256(_) => "ecdsa-sha2-nistp256",
            Self::P384(_) => "ecdsa-sha2-nistp384",
            Self::Ed25519(_) => "ssh-ed25519",
        }
    }

    /// Converts for verification; Ed25519 is not supported there.
    pub(super) fn to_public_key(self) -> Result<PublicKey, SshError> {
        let off_curve = |_| SshError::Key("its point is not on the curve");
        match self {
            Self::Rsa { exponent, modulus } => {
                let integer = |bytes: &[u8]| rsa::BoxedUint::from_be_slice_vartime(bytes);
                rsa::RsaPublicKey::new_with_max_size(integer(modulus), integer(exponent), 8192)
                    .map(PublicKey::Rsa)
                    .map_err(|_| SshError::Key("its modulus or exponent is invalid"))
            }
            Self::P256(point) => p256::PublicKey::from_sec1_bytes(point).map(PublicKey::P256).map_err(off_curve),
            Self::P384(point) => p384::PublicKey::from_sec1_bytes(point).map(PublicKey::P384).map_err(off_curve),
            Self::Ed25519(_) => Err(SshError::Key("it is an Ed25519 key; RSA, P-256 and P-384 are supported")),
        }
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) {
        writer.string(self.name().as_bytes());
        match self {
            Self::Rsa { exponent, modulus } => {
                writer.positive_mpint(exponent);
                writer.positive_mpint(modulus);
            }
            Self::P256(point) => {
                writer.string(b"nistp256");
                writer.string(point);
            }
            Self::P384(point) => {
                writer.string(b"nistp384");
                writer.string(point);
            }
            Self::Ed25519(key) => writer.string(key),
        }
    }
}
