//! Foreign programs read this program's output and write its input: OpenSSL, OpenSC's
//! `pkcs11-tool`, `GnuTLS`'s `p11tool`, OpenSSH's `ssh-keygen`.

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::deployment::Deployment;
use crate::support::foreign_programs::{present, skipped};
use crate::support::inventory::of_kind;
use crate::support::output::Output;
use crate::support::shared_authority::{TestUser, remove_with_test_run};
use crate::support::terminal::Terminal;

const TEXT: &str = "Grüße.\nA second line, and ümläüts.\n";

/// One user for all foreign programs, one program at a time: two processes cannot use a token at
/// once. The user's certificates are in `ca.pem`, `signing.pem` and `encryption.pem`.
fn shared_user() -> MutexGuard<'static, TestUser> {
    static SOMEBODY: OnceLock<Mutex<TestUser>> = OnceLock::new();
    let user = SOMEBODY.get_or_init(|| {
        let user = TestUser::with_keyset();
        remove_with_test_run(&user.machine);
        read_certificates(&user);
        user.machine.write("message.txt", TEXT);
        Mutex::new(user)
    });
    user.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the certificates from the token with a foreign program.
fn read_certificates(user: &TestUser) {
    let machine = &user.machine;
    for certificate in user.keyset_info("default")["certificates"].as_array().unwrap() {
        let (what, id) = (certificate["use"].as_str().unwrap(), certificate["id"].as_str().unwrap());
        let name = if what == "authority" { "ca" } else { what };
        let (der, pem) = (format!("{name}.der"), format!("{name}.pem"));
        machine.pkcs11_tool("default", None, &["--read-object", "--type", "cert", "--id", id, "-o", &der]).ok();
        machine.openssl(&["x509", "-inform", "DER", "-in", &der, "-out", &pem]).ok();
    }
}

fn sign(user: &TestUser, more: &[&str]) -> Output {
    let line = ["sign", "--keyset", "default", "--pin-source", "file:pin", "--in", "message.txt"];
    user.tokenkeep(&[&line[..], more].concat()).ok()
}

#[test]
fn openssl_verify_accepts_our_certificates() {
    let user = shared_user();
    let verify = |purpose: &str, file: &str| {
        user.machine.openssl(&["verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", purpose, file])
    };
    verify("smimesign", "signing.pem").ok().says("signing.pem: OK");
    verify("sslclient", "signing.pem").ok();
    verify("smimeencrypt", "encryption.pem").ok().says("encryption.pem: OK");
    verify("any", "ca.pem").ok();
    // Each key has one use.
    assert_ne!(verify("smimeencrypt", "signing.pem").code(), 0);
    assert_ne!(verify("smimesign", "encryption.pem").code(), 0);
    let text = |file: &str| user.machine.openssl(&["x509", "-in", file, "-noout", "-text"]).ok();
    for file in ["signing.pem", "encryption.pem"] {
        text(file).says(&format!("email:{}", user.email)).does_not_say("CA:TRUE").says("Example, Somebody");
    }
    text("signing.pem").says("Digital Signature").says("E-mail Protection").says("TLS Web Client Authentication");
    text("encryption.pem").says("Key Encipherment").does_not_say("Digital Signature");
    text("ca.pem").says("CA:TRUE").says("Certificate Sign");
}

#[test]
fn openssl_cms_verifies_our_signatures() {
    let user = shared_user();
    let verify = |file: &str, form: &str, more: &[&str]| {
        let line = ["cms", "-verify", "-inform", form, "-in", file, "-CAfile", "ca.pem", "-out", "verified.txt"];
        user.machine.openssl(&[&line[..], more].concat())
    };
    let verified = || user.machine.read_text("verified.txt").replace("\r\n", "\n");
    for (format, form) in [("der", "DER"), ("pem", "PEM")] {
        sign(&user, &["--format", format, "--out", "attached"]);
        verify("attached", form, &["-binary"]).ok();
        assert_eq!(verified(), TEXT);
    }
    // In mail the content is a MIME entity.
    let entity = || {
        let entity = verified();
        let (head, body) = entity.split_once("\n\n").unwrap_or_else(|| panic!("no entity: {entity}"));
        assert!(head.contains("Content-Transfer-Encoding: base64"), "{entity}");
        String::from_utf8(STANDARD.decode(body.replace('\n', "")).unwrap()).unwrap()
    };
    sign(&user, &["--format", "smime", "--out", "signed.eml"]);
    verify("signed.eml", "SMIME", &[]).ok();
    assert_eq!(entity(), TEXT);
    sign(&user, &["--detached", "--out", "detached.p7s"]);
    verify("detached.p7s", "DER", &["-binary", "-content", "message.txt"]).ok();
    assert_eq!(verified(), TEXT);
    sign(&user, &["--detached", "--format", "smime", "--out", "clear-signed.eml"]);
    assert!(user.machine.read_text("clear-signed.eml").contains("multipart/signed"));
    verify("clear-signed.eml", "SMIME", &[]).ok();
    assert_eq!(entity(), TEXT);

    // The control: neither OpenSSL nor tokenkeep verifies a modified content.
    user.machine.write("other.txt", "Something else.\n");
    assert_ne!(verify("detached.p7s", "DER", &["-binary", "-content", "other.txt"]).code(), 0);
    let ours = |content: &str| user.tokenkeep(&["verify", "--in", "detached.p7s", "--content", content]);
    ours("message.txt").ok();
    ours("other.txt").fails_with(8);
}

#[test]
fn tokenkeep_verifies_signatures_by_openssl() {
    let user = shared_user();
    let machine = &user.machine;
    // Another person's certificate is no authority's.
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "stranger.key", "-out", "stranger.pem"];
    machine.openssl(&[&request[..], &["-subj", "/CN=Stranger", "-days", "1"]].concat()).ok();
    let sign = ["cms", "-sign", "-binary", "-nodetach", "-in", "message.txt", "-signer", "stranger.pem"];
    let rest = ["-inkey", "stranger.key", "-outform", "DER", "-out", "stranger.p7m"];
    machine.openssl(&[&sign[..], &rest].concat()).ok();
    let _ = fs::remove_file(machine.file("got.txt"));
    user.tokenkeep(&["verify", "--in", "stranger.p7m", "--out", "got.txt"]).fails_with(8).says("Stranger");
    assert!(!machine.file("got.txt").exists(), "what is not verified is not written");
    user.tokenkeep(&["verify", "--in", "stranger.p7m", "--out", "got.txt", "--ca", "stranger.pem"]).ok();
    assert_eq!(machine.read_text("got.txt"), TEXT);
}

/// An OpenSSL configuration whose engine uses this user's token.
fn configure_engine(user: &TestUser) {
    let module = user.machine.module().display();
    let text = format!(
        "openssl_conf = conf\n[conf]\nengines = engines\n[engines]\npkcs11 = engine\n[engine]\nengine_id = pkcs11\n\
         MODULE_PATH = {module}\nPIN = {}\ninit = 0\n",
        TestUser::PIN
    );
    user.machine.write_secret("openssl.cnf", &text);
}

#[test]
fn openssl_cms_decrypts_with_the_engine_on_the_token() {
    if !std::path::Path::new("/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so").exists()
        && !std::path::Path::new("/usr/lib/aarch64-linux-gnu/engines-3/pkcs11.so").exists()
    {
        return skipped("libengine-pkcs11-openssl is not installed");
    }
    let user = shared_user();
    configure_engine(&user);
    user.encrypt(TEXT, "secret.p7m");
    // At level high the token asks for the PIN once more for the one use; the engine prompts at the
    // terminal.
    let decrypt = |id: &str| {
        let line = format!(
            "OPENSSL_CONF=openssl.cnf openssl cms -decrypt -binary -inform DER -in secret.p7m -recip encryption.pem \
             -engine pkcs11 -keyform engine -inkey 'pkcs11:token=default;id={id};type=private' -out engine.txt"
        );
        Terminal::shell(&user.machine, &line).answering_pins(TestUser::PIN).finish()
    };
    let percent = |use_: &str| {
        let shown = user.keyset_info("default");
        let mut certificates = shown["certificates"].as_array().unwrap().iter();
        let id = certificates.find(|one| one["use"] == use_).unwrap()["id"].as_str().unwrap().to_owned();
        let pairs: Vec<_> = id.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        format!("%{}", pairs.join("%"))
    };
    let (code, screen) = decrypt(&percent("encryption"));
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("PIN for default"), "the PIN was not asked for the one use: {screen}");
    assert_eq!(user.machine.read_text("engine.txt"), TEXT);
    fs::remove_file(user.machine.file("engine.txt")).unwrap();
    // The signing key does not decrypt, in any program.
    let (code, screen) = decrypt(&percent("signing"));
    assert_ne!(code, 0, "{screen}");
}

#[test]
fn openssl_cms_encrypts_and_tokenkeep_decrypts() {
    let user = shared_user();
    let machine = &user.machine;
    let oaep = ["-keyopt", "rsa_padding_mode:oaep"];
    let oaep_sha256 = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"];
    let oaep_label =
        [&oaep_sha256[..], &["-keyopt", "rsa_mgf1_md:sha1", "-keyopt", "rsa_oaep_label:6c6162656c"]].concat();
    for (name, cipher, more, form) in [
        ("CBC", "-aes256", &[][..], "DER"),
        ("CBC 128, S/MIME", "-aes128", &[], "SMIME"),
        ("PEM", "-aes256", &[], "PEM"),
        ("GCM", "-aes-256-gcm", &[], "DER"),
        ("OAEP", "-aes256", &oaep, "DER"),
        ("OAEP SHA-256", "-aes256", &oaep_sha256, "DER"),
        ("OAEP SHA-256, mask by SHA-1, label", "-aes256", &oaep_label, "DER"),
        ("Triple DES", "-des3", &[], "DER"),
    ] {
        let line = ["cms", "-encrypt", "-binary", cipher, "-in", "message.txt", "-outform", form, "-out", "theirs"];
        machine.openssl(&[&line[..], &["-recip", "encryption.pem"], more].concat()).ok();
        let decrypt = ["decrypt", "theirs", "--keyset", "default", "--pin-source", "file:pin", "--out", "-"];
        let output = user.tokenkeep(&decrypt);
        if name == "OAEP SHA-256" {
            // SoftHSM supports only SHA-1 here; the result is then an error, and no garbage.
            assert!(output.code() == 0 || output.stdout.is_empty(), "{output}");
            continue;
        }
        assert_eq!(output.ok().out(), TEXT, "{name}");
    }
}

#[test]
fn openssl_cms_and_tokenkeep_agree_on_elliptic_curves() {
    let deployment = Deployment::begin_with_encryption_keys("p256");
    deployment.enroll_user();
    let machine = &deployment.machine;
    machine.write("message.txt", TEXT);
    let shown = deployment.tokenkeep(&["keyset", "show", "default", "--json"]).ok().json();
    let mut certificates = shown["certificates"].as_array().unwrap().iter();
    let certificate = certificates.find(|one| one["use"] == "encryption").unwrap();
    assert_eq!(certificate["algorithm"], "p256");
    let id = certificate["id"].as_str().unwrap();
    let read = ["--read-object", "--type", "cert", "--id", id, "-o", "encryption.der"];
    machine.pkcs11_tool("default", None, &read).ok();
    machine.openssl(&["x509", "-inform", "DER", "-in", "encryption.der", "-out", "encryption.pem"]).ok();
    let encrypt = ["cms", "-encrypt", "-binary", "-aes256", "-in", "message.txt", "-outform", "DER", "-out", "theirs"];
    for more in [&[][..], &["-keyopt", "ecdh_kdf_md:sha256"]] {
        machine.openssl(&[&encrypt[..], &["-recip", "encryption.pem"], more].concat()).ok();
        let decrypt = ["decrypt", "theirs", "--keyset", "default", "--pin-source", "file:pin1", "--out", "-"];
        assert_eq!(deployment.tokenkeep(&decrypt).ok().out(), TEXT);
    }
    // tokenkeep's message has the structure that OpenSSL reads: OpenSSL has no private key here, so
    // the structure must suffice.
    let ours = ["encrypt", "--to", "user@example.org", "--keyset", "default", "message.txt", "--out", "ours.p7m"];
    deployment.tokenkeep(&ours).ok();
    let print = machine.openssl(&["cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", "ours.p7m"]).ok();
    print.says("d.kari").says("dhSinglePass-stdDH-sha256kdf-scheme").says("aes-256-cbc");
    let decrypt = ["decrypt", "ours.p7m", "--keyset", "default", "--pin-source", "file:pin1", "--out", "-"];
    assert_eq!(deployment.tokenkeep(&decrypt).ok().out(), TEXT);
}

#[test]
fn openssl_cmp_enrolls_with_a_letter() {
    let user = TestUser::new();
    let machine = &user.machine;
    let server = user.authority.http_url();
    let cmp = |letter: &serde_json::Value, more: &[&str]| {
        let secret = format!("pass:{}", letter["temporary_key"].as_str().unwrap().replace('-', ""));
        let server = ["-server", server.strip_prefix("http://").unwrap(), "-path", ".well-known/cmp"];
        let identity = ["-ref", letter["reference"].as_str().unwrap(), "-secret", &secret];
        machine.openssl(&[&["cmp"], more, &server, &identity].concat())
    };
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "new.key"];
    machine.openssl(&key).ok();
    let ir = ["-cmd", "ir", "-newkey", "new.key", "-subject", "/CN=Somebody Else", "-certout", "got.pem"];

    let letter = user.issue_with("one.letter", &["--json"]).ok().json();
    // A genm uses nothing up.
    cmp(&letter, &["-cmd", "genm", "-infotype", "caCerts"]).ok();
    cmp(&letter, &[&ir[..], &["-cacertsout", "ca.pem"]].concat()).ok();
    machine.openssl(&["verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", "smimesign", "got.pem"]).ok();
    let text = machine.openssl(&["x509", "-in", "got.pem", "-noout", "-text"]).ok();
    // The name comes from the authority's record, not from the request.
    text.says("Example, Somebody").says(&user.email).does_not_say("Somebody Else");
    let public = |arguments: &[&str]| machine.openssl(arguments).ok().out();
    assert_eq!(
        public(&["x509", "-in", "got.pem", "-noout", "-pubkey"]),
        public(&["pkey", "-in", "new.key", "-pubout"])
    );
    assert_ne!(cmp(&letter, &ir).code(), 0, "a letter works once");

    // Without proof of possession of the signing key nothing is issued.
    let letter = user.issue_with("two.letter", &["--json"]).ok().json();
    fs::remove_file(machine.file("got.pem")).unwrap();
    for popo in ["0", "-1"] {
        let output = cmp(&letter, &[&ir[..], &["-popo", popo]].concat());
        assert!(output.code() != 0 && !machine.file("got.pem").exists(), "-popo {popo} was granted\n{output}");
    }
    // With other MACs, and a client that requests no confirmation.
    let stronger = ["-digest", "sha512", "-mac", "hmacWithSHA256", "-implicit_confirm"];
    let letter = user.issue_with("three.letter", &["--json"]).ok().json();
    cmp(&letter, &[&ir[..], &stronger].concat()).ok();
}

#[test]
fn openssl_asn1parse_reads_every_message() {
    let user = TestUser::new();
    let wire = user.start_proxy();
    let url = wire.url();
    let through = ["--authority", url.as_str()];
    user.issue("one.letter");
    user.enroll_new_with("one.letter", "default", &through).ok();
    user.issue("two.letter");
    user.re_enroll("two.letter", "pin", &through).ok();
    user.recover("three.letter");
    user.enroll_new_with("three.letter", "second", &through).ok();
    assert_ne!(user.enroll_new_with("three.letter", "third", &through).code(), 0);

    let mut bodies = Vec::new();
    for exchange in wire.exchanges().iter().filter(|exchange| exchange.target.contains("/cmp")) {
        for message in [&exchange.request, &exchange.response] {
            assert!(user.machine.is_der(message), "{}", hex::encode(message));
            bodies.push(body_tag(&user, message));
        }
    }
    // ir 0, ip 1, krr 9, krp 10, pkiConf 19, genm 21, genp 22, error 23, certConf 24
    for (body, at_least) in [(0, 2), (1, 2), (9, 1), (10, 1), (19, 3), (21, 4), (22, 3), (23, 1), (24, 3)] {
        assert!(bodies.iter().filter(|tag| **tag == body).count() >= at_least, "body {body} is missing in {bodies:?}");
    }
}

/// The tag of a message's body as OpenSSL shows it: the second element of the outer sequence.
fn body_tag(user: &TestUser, message: &[u8]) -> u32 {
    let output = user.machine.run("openssl", &["asn1parse", "-inform", "DER"], message).ok().out();
    let line = output.lines().filter(|line| line.contains(":d=1 ")).nth(1).unwrap_or_else(|| panic!("{output}"));
    let tag = line.split_once("cont [ ").unwrap_or_else(|| panic!("{output}")).1;
    tag.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn pkcs11_tool_lists_the_objects() {
    let user = shared_user();
    let objects = user.machine.objects("default", Some(TestUser::PIN));
    let private = of_kind(&objects, "Private Key Object");
    assert_eq!(private.len(), 2, "{objects:#?}");
    for key in &private {
        for word in ["sensitive", "always authenticate"] {
            assert!(key.contains(word), "not {word}: {key}");
        }
        assert!(!key.contains("unwrap") && !key.contains("derive"), "{key}");
        assert_ne!(key.contains("sign"), key.contains("decrypt"), "one key, one use: {key}");
    }
    assert!(private.iter().any(|key| key.contains("sign") && key.contains("never extractable")), "{private:?}");
    // Key and certificate have the same identifier and a readable label.
    let certificates = of_kind(&objects, "Certificate Object");
    assert_eq!(certificates.len(), 3, "{objects:#?}");
    let line = |object: &str, name: &str| object.lines().find(|line| line.trim().starts_with(name)).map(str::to_owned);
    for key in private {
        let id = line(key, "ID:").unwrap();
        let words = |text: &str| text.split_whitespace().last().unwrap().to_owned();
        let fits = |one: &&&String| line(one, "ID:").is_some_and(|other| words(&other) == words(&id));
        assert_eq!(certificates.iter().filter(fits).count(), 1, "{id} in {certificates:#?}");
        assert!(line(key, "label:").unwrap().contains("default"), "{key}");
    }
    // Without the PIN, certificates and the index are visible, and no private object.
    let visible = user.machine.objects("default", None);
    assert!(of_kind(&visible, "Private Key Object").is_empty(), "{visible:#?}");
    assert_eq!(of_kind(&visible, "Certificate Object").len(), 3);
    assert_eq!(of_kind(&visible, "Data object").len(), 1, "{visible:#?}");
    assert_eq!(of_kind(&objects, "Data object").len(), 2, "{objects:#?}");
}

#[test]
fn p11tool_lists_the_objects() {
    if !present("p11tool") {
        return;
    }
    let user = shared_user();
    let token = "pkcs11:token=default";
    let certificates = user.machine.p11tool(None, &["--list-all-certs", token]).ok().out();
    assert_eq!(certificates.matches("Object ").count(), 3, "{certificates}");
    let keys = user.machine.p11tool(Some(TestUser::PIN), &["--login", "--list-privkeys", token]).ok().out();
    assert_eq!(keys.matches("Object ").count(), 2, "{keys}");
    assert_eq!(keys.matches("CKA_ALWAYS_AUTH").count(), 2, "{keys}");
    assert_eq!(keys.matches("CKA_SENSITIVE").count(), 2, "{keys}");
}

#[test]
fn ssh_keygen_reads_the_public_key() {
    if !present("ssh-keygen") {
        return;
    }
    let user = shared_user();
    let module = user.machine.module().display().to_string();
    let listed = user.machine.run("ssh-keygen", &["-D", &module], b"").ok().out();
    let public = user.machine.openssl(&["x509", "-in", "signing.pem", "-noout", "-pubkey"]).ok();
    user.machine.write("signing.pub", public.stdout);
    let expected = user.machine.run("ssh-keygen", &["-i", "-m", "PKCS8", "-f", "signing.pub"], b"").ok().out();
    let key = expected.split_whitespace().nth(1).unwrap().to_owned();
    assert!(listed.contains(&key), "{key} is not in\n{listed}");
}

#[test]
fn verify_and_encrypt_need_no_pin() {
    let user = shared_user();
    sign(&user, &["--out", "signed.p7m"]);
    // Nobody can be prompted, and no PIN source is named.
    let run = |arguments: &[&str]| user.machine.tokenkeep_without_terminal(arguments);
    run(&["verify", "--in", "signed.p7m", "--out", "verified.txt"]).ok();
    run(&["encrypt", "--to", &user.email, "--in", "message.txt", "--out", "secret.p7m"]).ok();
    run(&[
        "encrypt",
        "--certificate",
        "encryption.pem",
        "--in",
        "message.txt",
        "--out",
        "secret.pem",
        "--format",
        "pem",
    ])
    .ok();
    for arguments in [&["keysets"][..], &["tokens"], &["keyset", "show", "default"]] {
        run(arguments).ok();
    }
    assert_eq!(user.decrypt("default", "pin", "secret.p7m"), TEXT);
    assert_eq!(user.decrypt("default", "pin", "secret.pem"), TEXT);
}
