//! Data on a token that anybody can change without the PIN only helps to find a keyset: it makes
//! nobody a reader of the user's mail, and empties no token with a keyset.

use std::path::Path;

use serde_json::{Value, json};
use tokenkeep::cmp::{PkiBody, PkiMessage};
use tokenkeep::token::{KeyId, Pin, TokenSource};

use crate::support::other_program::ChildTask;
use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::shared_authority::TestUser;

const APPLICATION: &str = "tokenkeep keyset";

/// In a separate process: changes these members of the token's public index, and puts a certificate
/// on the token. It uses the PIN, which writing public objects on SoftHSM does not need.
fn run_as_forger() -> bool {
    ChildTask::run_in_child(|order| {
        let module = TokenSource::load(Path::new(&order.module)).unwrap();
        let info = module.tokens().unwrap().into_iter().find(|info| info.label == order.token).unwrap();
        let ceremony =
            module.open(&info).unwrap().unlock(Pin::new(order.pin.clone()).unwrap()).unwrap().begin_enrollment();
        let data = ceremony.data_objects(APPLICATION, false).unwrap().remove(0);
        let mut index: Value = serde_json::from_slice(&data.value).unwrap();
        for (member, value) in order.input["members"].as_object().unwrap() {
            *index.pointer_mut(member).unwrap() = value.clone();
        }
        if let Some(certificate) = order.input["certificate"].as_str() {
            let id = hex::decode(index["keyset"]["keys"]["encryption"][0].as_str().unwrap()).unwrap();
            let der = hex::decode(certificate).unwrap();
            ceremony.put_certificate(&KeyId::from(id), "Example, User", &der).unwrap();
        }
        ceremony.put_data(APPLICATION, &data.label, index.to_string().as_bytes(), false).unwrap();
        index
    })
}

#[test]
fn a_strangers_certificate_in_the_index_is_no_recipient() {
    const TEST: &str = "forged_index::a_strangers_certificate_in_the_index_is_no_recipient";
    if run_as_forger() {
        return;
    }
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.write("message.txt", "to oneself\n");
    let recipients = || {
        let line = ["encrypt", "--to", &user.email, "--in", "message.txt", "--out", "mail.p7m", "--json"];
        let encrypted = user.tokenkeep(&line).ok().json();
        let recipients = encrypted["recipients"].as_array().unwrap().iter();
        recipients.map(|recipient| recipient["sha256"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = recipients();
    assert_eq!(own.len(), 1, "the one that was searched for is the own one");

    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "stranger.key", "-outform", "DER"];
    let email = format!("subjectAltName=email:{}", user.email);
    let says =
        ["-addext", "keyUsage=keyEncipherment", "-addext", "extendedKeyUsage=emailProtection", "-addext", &email];
    machine
        .run("openssl", &[&request[..], &["-out", "stranger.der", "-subj", "/CN=Stranger"], &says].concat(), b"")
        .ok();
    let keys = user.keyset_info("default");
    let own_id = keys["certificates"].as_array().unwrap().iter().find(|one| one["use"] == "encryption").unwrap();
    let stranger = "77".repeat(20);
    let forged = machine.run_child_task(
        TEST,
        "default",
        TestUser::PIN,
        &json!({
            "members": { "/keyset/keys/encryption": [stranger, own_id["id"]] },
            "certificate": hex::encode(machine.read("stranger.der")),
        }),
    );
    assert_eq!(forged["keyset"]["keys"]["encryption"][0], stranger);
    // The forged entry is visible, and first.
    assert!(user.keyset_info("default").to_string().contains("Stranger"));
    assert_eq!(recipients(), own, "encrypted to a stranger");
    let key = ["cms", "-decrypt", "-inform", "DER", "-in", "mail.p7m", "-inkey", "stranger.key"];
    assert_ne!(machine.run("openssl", &key, b"").code(), 0, "a stranger reads it");
}

#[test]
fn a_forged_pending_enrollment_erases_no_enrolled_token() {
    const TEST: &str = "forged_index::a_forged_pending_enrollment_erases_no_enrolled_token";
    if run_as_forger() {
        return;
    }
    let user = TestUser::enrolled();
    let machine = &user.machine;
    user.issue("again.letter");
    let letter = tokenkeep::letter::Letter::read_file(&machine.file("again.letter")).unwrap();
    let forge = || {
        let pending = json!({ "transaction_id": "00".repeat(16), "reference": letter.reference.as_str() });
        let members = json!({ "/keyset/keys": null, "/pending": pending });
        machine.run_child_task(TEST, "default", TestUser::PIN, &json!({ "members": members }));
        let listed = user.tokenkeep(&["keysets", "--json"]).ok().json();
        assert!(listed.to_string().contains(letter.reference.as_str()), "nobody would be misled: {listed}");
    };
    let so_tries = || {
        let tokens = machine.listed_tokens();
        tokens.iter().find(|token| token.label == "default").unwrap().flags.contains("SO PIN count low")
    };
    let command = |proxy: &Proxy, pin: &str| {
        let line = ["enroll", "--letter", "again.letter", "--level", "high", "--new-token"];
        let (url, pin) = (proxy.url(), format!("file:{pin}"));
        user.tokenkeep(&[&line[..], &["--new-pin-source", &pin, "--authority", &url]].concat())
    };
    // The PIN meant for a new token does not fit this one: one try, and nothing was sent.
    forge();
    let wire = user.start_proxy();
    command(&wire, "other.pin").fails_with(4);
    assert!(wire.exchanges().is_empty(), "something was sent");

    // With the same PIN and a reply that must be refused, the token is left unchanged, not emptied.
    let damaging = Proxy::tampering(user.authority.http_address(), |direction, _, body| {
        let is_reply = direction == Direction::ToClient
            && PkiMessage::from_der(body).is_ok_and(|reply| matches!(reply.body(), PkiBody::Ip(_)));
        if is_reply {
            let mut changed = body.to_vec();
            *changed.last_mut().unwrap() ^= 1;
            return ProxyAction::Replace(changed);
        }
        ProxyAction::Pass
    });
    command(&damaging, "pin").fails_with(5).says("was changed without the PIN").does_not_say("emptied");
    assert!(!so_tries(), "it tried to empty the token");
    machine.assert_one_keyset("default", TestUser::PIN, 1);
    user.signs_with("default", "pin");

    // Nor by a good reply: the keyset is re-enrolled.
    forge();
    command(&user.start_proxy(), "pin").ok();
    assert!(!so_tries(), "it tried the SO PIN");
    machine.assert_one_keyset("default", TestUser::PIN, 2);
    user.signs_with("default", "pin");
}

#[test]
fn a_token_whose_keyset_was_deleted_loses_no_try_to_a_new_one() {
    let user = TestUser::enrolled();
    let machine = &user.machine;
    user.tokenkeep(&["keyset", "delete", "default", "--yes", "--pin-source", "file:pin"]).ok();
    let token = machine.listed_tokens().into_iter().find(|token| token.label == "default").unwrap();
    assert_eq!(machine.objects("default", Some(TestUser::PIN)), [""; 0]);
    user.issue("again.letter");
    let wire = user.start_proxy();
    let url = wire.url();
    let line = ["enroll", "--letter", "again.letter", "--level", "high", "--authority", &url];
    let new = ["--new-token", "--new-pin-source", "file:no-such-file"];
    let refused = user.tokenkeep(&[&line[..], &new].concat()).fails_with(5);
    refused.says(&format!("--token {}", token.serial));
    assert!(wire.exchanges().is_empty(), "something was sent");
    let flags = |machine: &crate::support::machine::Machine| {
        machine.listed_tokens().into_iter().find(|other| other.serial == token.serial).unwrap().flags
    };
    assert_eq!(flags(machine), token.flags, "a try was spent");
    // The suggested command works.
    let proposed = ["--token", &token.serial, "--pin-source", "file:pin"];
    user.tokenkeep(&[&line[..], &proposed].concat()).ok();
    machine.assert_one_keyset("default", TestUser::PIN, 1);

    // A try would be visible.
    let module = machine.module().display().to_string();
    let wrong =
        ["--module", &module, "--slot", &token.slot, "--login", "--login-type", "so", "--so-pin", "wrong-00000"];
    let writes = ["--write-object", "pin", "--type", "data", "--label", "x"];
    assert_ne!(machine.run("pkcs11-tool", &[&wrong[..], &writes].concat(), b"").code(), 0);
    assert!(flags(machine).contains("SO PIN count low"), "a wrong SO PIN leaves no trace on this token");
}
