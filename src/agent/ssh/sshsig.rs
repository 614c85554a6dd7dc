//! The data that `ssh-keygen -Y sign` and git sign: OpenSSH's PROTOCOL.sshsig.

use super::SshError;
use super::wire::Reader;

/// The prefix of the signed data. (A signature file has the same prefix, followed by a version.)
const MAGIC: &[u8] = b"SSHSIG";

/// Maximum length of a namespace in bytes.
const MAX_NAMESPACE_BYTES: usize = 128;

/// The signed data of an SSHSIG signature. It contains the hash of the message, not the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshSig<'a> {
    /// the signature's purpose (`git`, `file`, …)
    pub namespace: &'a str,
    /// the hash algorithm: `sha256` or `sha512`
    pub hash_name: &'a str,
    /// the hash, with the algorithm's length
    pub hash: &'a [u8],
}

impl<'a> SshSig<'a> {
    /// Checks for the prefix; no other supported data has it.
    pub(super) fn begins(data: &[u8]) -> bool {
        data.starts_with(MAGIC)
    }

    /// Parses an SSHSIG blob.
    pub(super) fn read(data: &'a [u8]) -> Result<Self, SshError> {
        let wrong = |reason| SshError::MalformedData { kind: "SSHSIG blob", reason };
        let mut reader = Reader::new(data.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin with SSHSIG"))?);
        let mut fields = || Some((reader.text()?, reader.string()?, reader.text()?, reader.string()?));
        let (namespace, reserved, hash_name, hash) = fields().ok_or_else(|| wrong("it is truncated or malformed"))?;
        reader.end().ok_or_else(|| wrong("it has trailing bytes"))?;
        // All fields except the hash are plain text in the signed data. Printable text without
        // spaces cannot contain a mail or another program's message.
        let is_plain = |byte: u8| byte.is_ascii_graphic();
        if namespace.is_empty() || namespace.len() > MAX_NAMESPACE_BYTES || !namespace.bytes().all(is_plain) {
            return Err(wrong("its namespace is empty, too long, or not printable ASCII without spaces"));
        }
        if !reserved.is_empty() {
            return Err(wrong("its reserved field is not empty"));
        }
        let length = match hash_name {
            "sha256" => 32,
            "sha512" => 64,
            _ => return Err(wrong("its hash is neither sha256 nor sha512")),
        };
        if hash.len() != length {
            return Err(wrong("its hash has the wrong length"));
        }
        Ok(Self { namespace, hash_name, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ssh::tests::sshsig;

    #[test]
    fn both_hashes_are_read() {
        for (name, length) in [("sha256", 32), ("sha512", 64)] {
            let data = sshsig("git", b"", name, &vec![9; length]);
            let read = SshSig::read(&data).unwrap();
            assert!(SshSig::begins(&data));
            assert_eq!(read, SshSig { namespace: "git", hash_name: name, hash: &vec![9; length] });
        }
    }

    #[test]
    fn truncated_and_extended_data_is_refused() {
        let data = sshsig("file", b"", "sha512", &[9; 64]);
        for cut in 0..data.len() {
            SshSig::read(&data[..cut]).unwrap_err();
        }
        SshSig::read(&[&data[..], &[0]].concat()).unwrap_err();
    }

    #[test]
    fn slightly_different_data_is_refused() {
        let long = "n".repeat(MAX_NAMESPACE_BYTES + 1);
        for (what, data) in [
            ("no namespace", sshsig("", b"", "sha512", &[9; 64])),
            ("a namespace with a space", sshsig("I owe", b"", "sha512", &[9; 64])),
            ("a namespace of lines", sshsig("a\r\nSubject:b", b"", "sha512", &[9; 64])),
            ("a namespace beyond ASCII", sshsig("gït", b"", "sha512", &[9; 64])),
            ("a long namespace", sshsig(&long, b"", "sha512", &[9; 64])),
            ("something reserved", sshsig("git", b"x", "sha512", &[9; 64])),
            ("SHA-1", sshsig("git", b"", "sha1", &[9; 20])),
            ("no hash's name", sshsig("git", b"", "", &[9; 32])),
            ("SHA-384", sshsig("git", b"", "sha384", &[9; 48])),
            ("a short hash", sshsig("git", b"", "sha512", &[9; 32])),
            ("a long hash", sshsig("git", b"", "sha256", &[9; 64])),
            ("no hash", sshsig("git", b"", "sha256", b"")),
        ] {
            assert!(SshSig::read(&data).is_err(), "{what}");
        }
    }
}
