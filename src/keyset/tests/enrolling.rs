//! Successful enrollments, and the use of the keyset afterwards.

use super::*;
use crate::pki::Certificate;
use crate::smime::{Cipher, encrypt};
use crate::token::TokenError;

fn encrypted_to(keyset: &FoundKeyset, place: usize) -> Vec<u8> {
    let id = &keyset.encryption[place];
    let certificate = Certificate::from_der(&keyset.certificate_of(id).unwrap().der).unwrap();
    encrypt(b"a secret", &[certificate], Cipher::Aes256Cbc).unwrap()
}

fn reads(wallet: &Wallet, keyset: &str, message: &[u8], with: &'static str) {
    let choice = KeysetChoice { name: Some(wallet.name(keyset)), ..KeysetChoice::default() };
    let read = decrypt(&wallet.tokens, &choice, message, &mut Script::with(with)).unwrap();
    assert_eq!(read.content.as_slice(), b"a secret");
    assert_eq!(read.by.keyset, wallet.name(keyset));
}

fn signs(wallet: &Wallet, keyset: &str, with: &'static str) -> Result<Vec<u8>, KeysetError> {
    let options = Placement::Attached;
    sign(&wallet.tokens, &wallet.keyset(keyset), b"a message", options, &mut Script::with(with), Timestamp::now())
}

#[test]
fn a_new_token_a_keyset_and_one_pin_entry() {
    let double = AuthorityDouble::new();
    let (wallet, letter) = (Wallet::new(), double.letter(LetterPurpose::Enroll));
    let mut script = Script::with(PIN);
    let enrolled = enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("a"), &mut script));

    assert_eq!(script.asked, ["new"]);
    assert_eq!(double.seen(), ["genm", "ir", "certConf"]);
    assert!(double.is_used(&letter) && script.notices.is_empty(), "{:?}", script.notices);
    assert!(!enrolled.reenrolled && !enrolled.resumed && enrolled.encryption_keys == 1);
    let keyset = wallet.keyset("a");
    assert_eq!((keyset.level, &keyset.status), (SecurityLevel::High, &KeysetStatus::Enrolled));
    assert_eq!(keyset.token.label, wallet.name("a").as_str());
    assert_eq!(keyset.authority_sha256(), Some(letter.ca_fingerprint));

    // Two keys, each with a certificate under the same identifier; nothing else remains.
    let inventory = wallet.inventory(&keyset.token, PIN);
    assert_eq!(inventory.iter().filter(|object| object.starts_with("key ")).count(), 2, "{inventory:#?}");
    assert_eq!(inventory.iter().filter(|object| object.starts_with("public key ")).count(), 2, "{inventory:#?}");
    assert_eq!(inventory.iter().filter(|object| object.starts_with("certificate ")).count(), 3, "{inventory:#?}");
    assert_eq!(inventory.iter().filter(|object| object.starts_with("data ")).count(), 2, "{inventory:#?}");
    let details = show(&keyset).unwrap();
    let uses: Vec<CertificateUse> =
        details.certificates.iter().map(|certificate| certificate.certificate_use).collect();
    assert_eq!(uses, [CertificateUse::Signing, CertificateUse::Encryption, CertificateUse::Authority]);
    assert_eq!(details.certificates[0].emails, ["user@example.org"]);

    signs(&wallet, "a", PIN).unwrap();
    reads(&wallet, "a", &encrypted_to(&keyset, 0), PIN);
}

#[test]
fn the_so_pin_cannot_be_derived_from_the_letter() {
    let double = AuthorityDouble::new();
    let (wallet, letter) = (Wallet::new(), double.letter(LetterPurpose::Enroll));
    enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("a"), &mut Script::with(PIN)));
    let token = wallet.tokens.open(&wallet.keyset("a").token).unwrap();
    let derived = enroll::so_pin_of(&letter);
    let refused = token.unblock_pin(&derived, &pin("87654321")).unwrap_err();
    assert!(matches!(refused, TokenError::SoPinIncorrect { .. }), "{refused}");

    // Unless the owner chose an SO PIN.
    let letter = double.letter(LetterPurpose::Enroll);
    let options = EnrollOptions { so_pin: true, ..wallet.on_new_token("b") };
    let mut script = Script::with(PIN);
    enrolled(run(&double, &wallet, &letter, &options, &mut script));
    assert_eq!(script.asked, ["new", "so"]);
    wallet.tokens.open(&wallet.keyset("b").token).unwrap().unblock_pin(&pin(PIN), &pin("87654321")).unwrap();
    signs(&wallet, "b", "87654321").unwrap();
}

#[test]
fn keys_of_every_kind_are_delivered_and_tried_out() {
    let mut double = AuthorityDouble::new();
    for algorithm in ["rsa-2048", "p384"] {
        double.encryption_algorithm = algorithm.parse().unwrap();
        let wallet = somebody(&double);
        reads(&wallet, "a", &encrypted_to(&wallet.keyset("a"), 0), PIN);
    }
}

#[test]
fn re_enrolling_keeps_the_older_encryption_keys_and_only_them() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let before = wallet.keyset("a");
    let old_message = encrypted_to(&before, 0);

    let mut script = Script::with(PIN);
    let letter = double.letter(LetterPurpose::Enroll);
    let enrolled = enrolled(run(&double, &wallet, &letter, &wallet.again("a"), &mut script));
    assert!(enrolled.reenrolled && enrolled.encryption_keys == 2);
    assert_eq!(script.asked, ["existing to enroll"]);
    assert_eq!(double.seen(), ["genm", "ir", "certConf"]);

    let after = wallet.keyset("a");
    assert_ne!(after.signing, before.signing);
    assert_eq!(after.encryption[1..], before.encryption[..]);
    let inventory = wallet.inventory(&after.token, PIN);
    let old_signing = before.signing.as_ref().unwrap().to_string();
    assert!(!inventory.iter().any(|object| object.contains(&old_signing)), "{inventory:#?}");
    assert_eq!(inventory.iter().filter(|object| object.starts_with("key ")).count(), 3, "{inventory:#?}");
    signs(&wallet, "a", PIN).unwrap();
    reads(&wallet, "a", &old_message, PIN);
    reads(&wallet, "a", &encrypted_to(&after, 0), PIN);
}

#[test]
fn a_forgotten_pin_the_whole_history_arrives_under_a_new_one() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let first = encrypted_to(&wallet.keyset("a"), 0);
    enrolled(run(&double, &wallet, &double.letter(LetterPurpose::Enroll), &wallet.again("a"), &mut Script::with(PIN)));
    let second = encrypted_to(&wallet.keyset("a"), 0);
    double.seen();

    // Certificates have a resolution of one second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let letter = double.letter(LetterPurpose::Recover);
    let enrolled = enrolled(run(&double, &wallet, &letter, &wallet.on_new_token("b"), &mut Script::with("87654321")));
    assert_eq!(enrolled.encryption_keys, 2);
    assert_eq!(enrolled.supersedes, [wallet.keyset("a")]);
    assert_eq!(enrolled.holder.unwrap().emails, ["user@example.org"]);
    assert_eq!(double.seen(), ["genm", "krr", "certConf"]);
    reads(&wallet, "b", &first, "87654321");
    reads(&wallet, "b", &second, "87654321");
    assert_eq!(show(&wallet.keyset("b")).unwrap().certificates[2].certificate_use, CertificateUse::OlderEncryption);

    // Both keysets can decrypt it, and both belong to one person: the newer one is used unless
    // another is selected.
    let newest = decrypt(&wallet.tokens, &KeysetChoice::default(), &first, &mut Script::with("87654321"));
    assert_eq!(newest.unwrap().by.keyset, wallet.name("b"));
    assert_eq!(wallet.tokens.choose(&KeysetChoice::default()).unwrap(), wallet.keyset("b"));
    let choice = KeysetChoice { default: Some(wallet.name("a")), ..KeysetChoice::default() };
    assert_eq!(decrypt(&wallet.tokens, &choice, &first, &mut Script::with(PIN)).unwrap().by.keyset, wallet.name("a"));

    // A hidden keyset is selected only by name.
    let hidden = vec![KeysetRef::of(&wallet.keyset("b"))];
    let choice = KeysetChoice { hidden: hidden.clone(), ..KeysetChoice::default() };
    assert_eq!(wallet.tokens.choose(&choice).unwrap(), wallet.keyset("a"));
    let named = KeysetChoice { name: Some(wallet.name("b")), hidden: hidden.clone(), ..KeysetChoice::default() };
    assert_eq!(wallet.tokens.choose(&named).unwrap(), wallet.keyset("b"));
    let both = vec![KeysetRef::of(&wallet.keyset("a")), hidden[0].clone()];
    let neither = KeysetChoice { hidden: both, ..KeysetChoice::default() };
    let absent = wallet.tokens.choose(&neither).unwrap_err();
    assert!(absent.kind() == ErrorKind::Absent && absent.to_string().contains("--all"), "{absent}");
    let mut nobody = Script::without(NoPin::Cancelled);
    let refused = decrypt(&wallet.tokens, &neither, &first, &mut nobody).unwrap_err();
    assert_eq!((refused.kind(), nobody.asked.len()), (ErrorKind::Refused, 0), "{refused}");
    assert!(refused.to_string().contains("--keyset"), "{refused}");
}

#[test]
fn two_keysets_on_one_token_stay_separate_with_a_shared_key() {
    let double = AuthorityDouble::new();
    let wallet = Wallet::new();
    let token = wallet.token("card");
    let letters = [double.letter(LetterPurpose::Enroll), double.letter(LetterPurpose::Recover)];
    for (letter, name) in letters.iter().zip(["a", "b"]) {
        enrolled(run(&double, &wallet, letter, &wallet.onto(&token, name), &mut Script::with(PIN)));
    }
    let (a, b) = (wallet.keyset("a"), wallet.keyset("b"));
    assert_eq!(a.certificate_of(&a.encryption[0]).unwrap().der, b.certificate_of(&b.encryption[0]).unwrap().der);
    assert_ne!(a.encryption, b.encryption);
    let message = encrypted_to(&a, 0);
    reads(&wallet, "a", &message, PIN);
    reads(&wallet, "b", &message, PIN);

    // Both keysets share the PIN, and a notice says so.
    let mut script = Script::with(PIN);
    change_pin(&wallet.tokens, &a, &mut script).unwrap();
    assert!(matches!(&script.notices[..], [Notice::SharedPin { others }] if *others == wallet.name("b").to_string()));

    // Deleting one leaves the other complete, including the authority's certificate.
    delete(&wallet.tokens, &a, &mut Script::with(PIN)).unwrap();
    assert!(wallet.keyset("b").authority_certificate().is_some());
    reads(&wallet, "b", &message, PIN);
    signs(&wallet, "b", PIN).unwrap();
    delete(&wallet.tokens, &b, &mut Script::with(PIN)).unwrap();
    assert_eq!(wallet.inventory(&token, PIN).len(), 0);
}

/// Answers with the old PIN, then with the new one.
struct OldThenNew(Vec<&'static str>);

impl UserPrompter for OldThenNew {
    fn ask(&mut self, _prompt: &Prompt) -> Result<PromptReply, NoPin> {
        Ok(PromptReply::Pin { pin: pin(self.0.remove(0)), may_retry: false })
    }
}

impl OperationObserver for OldThenNew {}

#[test]
fn changing_the_pin_costs_one_try_of_the_old_one() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let keyset = wallet.keyset("a");
    let wrong = change_pin(&wallet.tokens, &keyset, &mut OldThenNew(vec!["00000000", "87654321"])).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Pin);
    signs(&wallet, "a", PIN).unwrap();
    change_pin(&wallet.tokens, &keyset, &mut OldThenNew(vec![PIN, "87654321"])).unwrap();
    assert_eq!(signs(&wallet, "a", PIN).unwrap_err().kind(), ErrorKind::Pin);
    signs(&wallet, "a", "87654321").unwrap();
}

#[test]
fn a_modified_public_index_is_reported_and_ignored() {
    let double = AuthorityDouble::new();
    let wallet = somebody(&double);
    let name = wallet.name("a");
    let forge = |from: &str, to: &str| {
        let pin_session = wallet.tokens.open(&wallet.keyset("a").token).unwrap().unlock(pin(PIN)).unwrap();
        let token = pin_session.token();
        let index = token.data_objects(index::APPLICATION, false).unwrap().remove(0);
        let text = String::from_utf8(index.value).unwrap();
        assert!(text.contains(from), "{text}");
        token.put_data(index::APPLICATION, name.as_str(), text.replace(from, to).as_bytes(), false).unwrap();
    };
    forge("\"high\"", "\"low\"");
    assert_eq!(wallet.keyset("a").level, SecurityLevel::Low);
    let mut script = Script::with(PIN);
    let keyset = wallet.keyset("a");
    sign(&wallet.tokens, &keyset, b"", Placement::Attached, &mut script, Timestamp::now()).unwrap();
    assert!(matches!(&script.notices[..], [Notice::IndexMismatch { what, .. }] if what == "security level"));
    assert_eq!(wallet.keyset("a").level, SecurityLevel::High, "the public index was not rewritten");

    // A different key in the public index is not used.
    let id = keyset.encryption[0].to_string();
    forge(&id, &keyset.signing.as_ref().unwrap().to_string());
    let message = encrypted_to(&keyset, 0);
    let choice = KeysetChoice { name: Some(name.clone()), ..KeysetChoice::default() };
    assert!(decrypt(&wallet.tokens, &choice, &message, &mut Script::with(PIN)).is_err());

    // A keyset created without the PIN.
    let pin_session = wallet.tokens.open(&keyset.token).unwrap().unlock(pin(PIN)).unwrap();
    let token = pin_session.token();
    let index = token.data_objects(index::APPLICATION, false).unwrap().remove(0);
    let text = String::from_utf8(index.value).unwrap().replace(name.as_str(), wallet.name("forged").as_str());
    token.put_data(index::APPLICATION, wallet.name("forged").as_str(), text.as_bytes(), false).unwrap();
    drop(pin_session);
    let refused = signs(&wallet, "forged", PIN).unwrap_err();
    assert!(matches!(refused, KeysetError::Damaged { .. }), "{refused}");
    let mut script = Script::with(PIN);
    delete(&wallet.tokens, &wallet.keyset("forged"), &mut script).unwrap();
    assert!(script.notices.is_empty(), "there is no private index to differ from: {:?}", script.notices);
    signs(&wallet, "a", PIN).unwrap();

    // A deletion reports the mismatch too.
    forge("\"high\"", "\"low\"");
    let mut script = Script::with(PIN);
    delete(&wallet.tokens, &wallet.keyset("a"), &mut script).unwrap();
    assert!(matches!(&script.notices[..], [Notice::IndexMismatch { what, .. }] if what == "security level"));
}
