//! The data that a client signs to log in: RFC 4252 §7, and OpenSSH's variant with the host key
//! (PROTOCOL §1.2, `publickey-hostbound-v00@openssh.com`).

use super::SshError;
use super::wire::Reader;

/// `SSH_MSG_USERAUTH_REQUEST`
const USERAUTH_REQUEST: u8 = 50;

/// The possible lengths of a session identifier in bytes: it is an exchange hash (SHA-1 in old key
/// exchanges, or SHA-2).
const SESSION_ID_LENGTHS: [usize; 4] = [20, 32, 48, 64];

/// Maximum length of a user name in bytes.
const MAX_USER_BYTES: usize = 255;

/// A completely parsed login to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserAuth<'a> {
    /// the session that the login is for
    pub session_id: &'a [u8],
    /// the user name on the host
    pub user: &'a str,
    /// the name of the signature algorithm
    pub algorithm: &'a str,
    /// the public key, or a certificate of it, with which the host verifies
    pub key_blob: &'a [u8],
    /// the host's key, if the client names it
    pub host_key: Option<&'a [u8]>,
}

impl<'a> UserAuth<'a> {
    /// Checks the first bytes; no other supported data begins like this.
    pub(super) fn begins(data: &[u8]) -> bool {
        let mut reader = Reader::new(data);
        let session_id = reader.string();
        session_id.is_some_and(|id| SESSION_ID_LENGTHS.contains(&id.len())) && reader.byte() == Some(USERAUTH_REQUEST)
    }

    /// Parses a login.
    pub(super) fn read(data: &'a [u8]) -> Result<Self, SshError> {
        let wrong = |reason| SshError::MalformedData { kind: "SSH login", reason };
        let mut reader = Reader::new(data);
        let mut fields = || {
            let session_id = reader.string().filter(|id| SESSION_ID_LENGTHS.contains(&id.len()))?;
            let is_request = reader.byte()? == USERAUTH_REQUEST;
            let user = reader.text()?;
            let service = reader.string()?;
            let method = reader.string()?;
            let has_signature = reader.boolean()?;
            let algorithm = reader.text()?;
            let key_blob = reader.string()?;
            (is_request && has_signature).then_some((
                service,
                method,
                Self { session_id, user, algorithm, key_blob, host_key: None },
            ))
        };
        let (service, method, mut read) = fields().ok_or_else(|| wrong("it is truncated or malformed"))?;
        match method {
            b"publickey" => {}
            b"publickey-hostbound-v00@openssh.com" => {
                read.host_key = Some(reader.string().ok_or_else(|| wrong("the host's key is missing"))?);
            }
            _ => return Err(wrong("its method is not publickey")),
        }
        reader.end().ok_or_else(|| wrong("it has trailing bytes"))?;
        if service != b"ssh-connection" {
            return Err(wrong("its service is not ssh-connection"));
        }
        if read.user.len() > MAX_USER_BYTES || read.user.chars().any(char::is_control) {
            return Err(wrong("its user name is too long or contains control characters"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::ssh::tests::TestUserAuth;

    #[test]
    fn both_forms_are_read() {
        let log_in = TestUserAuth::default();
        let data = log_in.to_bytes();
        let read = UserAuth::read(&data).unwrap();
        assert!(UserAuth::begins(&data));
        assert_eq!((read.session_id, read.user), (&log_in.session_id[..], "user"));
        assert_eq!((read.algorithm, read.key_blob, read.host_key), ("ecdsa-sha2-nistp256", &b"a key"[..], None));
        let bound = TestUserAuth { host_key: Some(b"host".to_vec()), ..TestUserAuth::default() }.to_bytes();
        assert_eq!(UserAuth::read(&bound).unwrap().host_key, Some(&b"host"[..]));
    }

    #[test]
    fn truncated_and_extended_data_is_refused() {
        for host_key in [None, Some(b"host".to_vec())] {
            let data = TestUserAuth { host_key, ..TestUserAuth::default() }.to_bytes();
            for cut in 0..data.len() {
                UserAuth::read(&data[..cut]).unwrap_err();
            }
            for tail in [&b"\0"[..], b"x", &data] {
                UserAuth::read(&[&data, tail].concat()).unwrap_err();
            }
        }
    }

    #[test]
    fn slightly_different_data_is_refused() {
        let ordinary = TestUserAuth::default;
        for (what, wrong) in [
            ("another message", TestUserAuth { message: 51, ..ordinary() }),
            ("no signature", TestUserAuth { has_signature: 0, ..ordinary() }),
            ("an odd boolean", TestUserAuth { has_signature: 2, ..ordinary() }),
            ("another service", TestUserAuth { service: "ssh-userauth", ..ordinary() }),
            ("another method", TestUserAuth { method: Some("hostbased"), ..ordinary() }),
            ("an empty session id", TestUserAuth { session_id: vec![], ..ordinary() }),
            ("an odd session id", TestUserAuth { session_id: vec![1; 33], ..ordinary() }),
            ("a line break in the user", TestUserAuth { user: "user\nroot".into(), ..ordinary() }),
            ("a long user", TestUserAuth { user: "u".repeat(256), ..ordinary() }),
        ] {
            assert!(UserAuth::read(&wrong.to_bytes()).is_err(), "{what}");
        }
    }
}
