//! Other programs read our objects and verify our signatures.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::token::test_support::{PIN, contains, finish, open_token, pin, run, softhsm, softhsm_tokens};
use crate::token::{KeyAlgorithm, KeyId, RsaSize, SecurityLevel, TokenUri};

#[test]
fn pkcs11_tool_and_p11tool_see_keys_and_data() {
    let module = softhsm();
    let token = open_token(&module);
    let id = KeyId::random().unwrap();
    let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
    enrollment.generate_signing_key("my signing key", &id, KeyAlgorithm::P256, SecurityLevel::High).unwrap();
    enrollment.put_data("tokenkeep test", "index", b"value", false).unwrap();
    drop(enrollment);
    let info = token.info().clone();
    drop(token); // its owner must release it first

    let path = module.path().to_string_lossy().into_owned();
    let login = ["--module", &path, "--token-label", &info.label, "--login", "--pin", PIN];
    let seen = run("pkcs11-tool", &[&login[..], &["-O"]].concat());
    for part in
        ["Private Key Object; EC", "Public Key Object; EC", "my signing key", &id.to_string(), "Always authenticate"]
    {
        assert!(seen.to_lowercase().contains(&part.to_lowercase()), "{part:?} is not in {seen}");
    }
    assert!(seen.contains("tokenkeep test") && seen.contains("index"), "{seen}");

    // p11tool fails with more than 48 tokens: it gets a token directory with only this one.
    let home = tempfile::tempdir().unwrap();
    let configuration = store_with_only(&info.label, home.path());
    let uri = TokenUri::of(&info).to_string();
    let seen = finish(Command::new("p11tool").env("SOFTHSM2_CONF", &configuration).args([
        "--provider",
        &path,
        "--login",
        "--set-pin",
        PIN,
        "--list-all",
        &uri,
    ]));
    assert!(seen.contains("my signing key") && seen.contains("CKA_ALWAYS_AUTH"), "{seen}");
    assert!(seen.contains(&TokenUri { id: Some(id), ..TokenUri::default() }.to_string()["pkcs11:".len()..]), "{seen}");
}

/// Copies the token with this label into a SoftHSM directory of its own, and returns its
/// configuration file.
fn store_with_only(label: &str, home: &Path) -> PathBuf {
    let mut tokens = std::fs::read_dir(softhsm_tokens()).unwrap().flatten().map(|entry| entry.path());
    let is_same = |directory: &PathBuf| {
        contains(&std::fs::read(directory.join("token.object")).unwrap_or_default(), label.as_bytes())
    };
    let copy = home.join("token");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(tokens.find(is_same).unwrap()).unwrap().flatten() {
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let configuration = home.join("softhsm2.conf");
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", home.display())).unwrap();
    configuration
}

#[test]
fn openssl_verifies_our_signatures() {
    let token = open_token(&softhsm());
    let enrollment = token.unlock(pin(PIN)).unwrap().begin_enrollment();
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    for (algorithm, digest) in [
        (KeyAlgorithm::P256, "-sha256"),
        (KeyAlgorithm::P384, "-sha384"),
        (KeyAlgorithm::Rsa(RsaSize::Bits2048), "-sha256"),
        (KeyAlgorithm::Rsa(RsaSize::Bits3072), "-sha256"),
    ] {
        let key =
            enrollment.generate_signing_key("k", &KeyId::random().unwrap(), algorithm, SecurityLevel::High).unwrap();
        let (public, message, signature) = (path("public"), path("message"), path("signature"));
        std::fs::write(&public, key.public_key_der()).unwrap();
        std::fs::write(&message, b"message").unwrap();
        std::fs::write(&signature, enrollment.sign(&key, b"message").unwrap().as_bytes()).unwrap();
        let verify = ["dgst", digest, "-keyform", "DER", "-verify", &public, "-signature", &signature, &message];
        assert!(run("openssl", &verify).contains("Verified OK"));
    }
}
