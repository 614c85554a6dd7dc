//! A message that cannot be decrypted does not reveal whether the padding of its key or its content
//! was wrong.

use crate::support::machine::TokenKind;
use crate::support::shared_authority::TestUser;

/// The beginning of an RSA-2048 recipient's encrypted key: an OCTET STRING of 256 bytes.
const ENCRYPTED_KEY: &[u8] = &[0x04, 0x82, 0x01, 0x00];

/// Exit code and output for the message with one byte changed.
fn decrypt_changed(user: &TestUser, message: &[u8], place: usize) -> (i32, String, String) {
    let mut changed = message.to_vec();
    changed[place] ^= 1;
    user.machine.write("changed.p7m", changed);
    let output = user.tokenkeep(&["decrypt", "--pin-source", "file:pin", "--in", "changed.p7m", "--out", "-"]);
    (output.code(), output.err(), output.out())
}

#[test]
fn a_decryption_failure_does_not_reveal_its_cause() {
    for kind in [TokenKind::SoftHsm, TokenKind::Kryoptic] {
        let user = TestUser::with_keyset_on(kind);
        user.encrypt("a secret\n", "secret.p7m");
        let message = std::fs::read(user.machine.file("secret.p7m")).unwrap();
        assert_eq!(user.decrypt("default", "pin", "secret.p7m"), "a secret\n");
        let key = message.windows(4).position(|window| window == ENCRYPTED_KEY).unwrap() + ENCRYPTED_KEY.len();

        // One wrong key in 256 decrypts to apparently valid padding, but not each of several.
        let not_opened = |places: [usize; 3]| {
            let results: Vec<_> = places.into_iter().map(|place| decrypt_changed(&user, &message, place)).collect();
            let failed = results.into_iter().find(|(code, ..)| *code != 0);
            failed.expect("a changed message is decrypted")
        };
        let wrong_key = not_opened([key + 1, key + 100, key + 255]);
        let wrong_content = not_opened([message.len() - 1, message.len() - 2, message.len() - 16]);
        assert_eq!(wrong_key, wrong_content);
        assert!(wrong_key.1.contains("damaged, or it was not encrypted to this key"), "{}", wrong_key.1);
        assert!(wrong_key.2.is_empty());
    }
}
