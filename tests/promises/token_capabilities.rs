//! `token show` tells what a token can do, and the token can do it: `pkcs11-tool` is the witness.

use crate::support::agent::Agent;
use crate::support::machine::{Machine, TokenKind};
use crate::support::shared_authority::TestUser;

fn words(value: &serde_json::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_token_is_shown_with_what_it_can_do() {
    for kind in [TokenKind::SoftHsm, TokenKind::Kryoptic] {
        let machine = Machine::with(kind);
        let made = machine.make_token("shown", TestUser::PIN);
        machine.make_token("another", TestUser::PIN);
        let listed = machine.tokenkeep(&["--json", "tokens"]).ok().json();
        let uri = listed.as_array().unwrap().iter().find(|token| token["label"] == "shown").unwrap()["uri"].clone();
        let by_label = machine.tokenkeep(&["--json", "token", "show", "shown"]).ok().json();
        for name in [made.serial.as_str(), uri.as_str().unwrap()] {
            assert_eq!(machine.tokenkeep(&["--json", "token", "show", name]).ok().json(), by_label);
        }
        assert_eq!((by_label["serial"].as_str(), by_label["pin_state"].as_str()), (Some(&*made.serial), Some("ok")));
        let capabilities = &by_label["capabilities"];

        // What it claims, it does for another program, too.
        let signing = words(&capabilities["signing"]);
        assert!(signing.contains(&"p256".to_owned()) && signing.contains(&"rsa-2048".to_owned()), "{signing:?}");
        for algorithm in &signing {
            let kind = match algorithm.as_str() {
                "p256" => "EC:prime256v1".to_owned(),
                "p384" => "EC:secp384r1".to_owned(),
                rsa => rsa.replace("rsa-", "rsa:"),
            };
            machine.pkcs11_tool("shown", Some(TestUser::PIN), &["--keypairgen", "--key-type", &kind]).ok();
        }
        let mechanisms = machine.pkcs11_tool("shown", None, &["-M"]).ok().out();
        assert_eq!(
            words(&capabilities["decryption"]).contains(&"p256".to_owned()),
            mechanisms.contains("ECDH1-DERIVE")
        );
        let oaep = words(&capabilities["oaep"]);
        let arrival = capabilities["key_arrival"].as_str().unwrap();
        if matches!(kind, TokenKind::SoftHsm) {
            assert_eq!(oaep, ["SHA-1"]);
            assert!(arrival.contains("SHA-1 and AES key wrap after PKCS #7 padding"), "{arrival}");
        } else {
            assert!(oaep.contains(&"SHA-256".to_owned()), "{oaep:?}");
            assert!(arrival.contains("SHA-256 and AES key wrap with padding"), "{arrival}");
        }
        let least = &capabilities["pin_bytes"]["min"];
        let slots = machine.pkcs11_tool("shown", None, &["-L"]).ok().out();
        let lengths = slots.lines().find(|line| line.contains("pin min/max")).unwrap();
        assert!(lengths.contains(&format!(": {least}/")), "{lengths}");

        let text = machine.tokenkeep(&["token", "show", "shown"]).ok();
        text.says("p256").says(arrival).says(&format!("{least} to ")).says(&made.serial);
        machine.tokenkeep(&["token", "show", "nowhere"]).fails_with(3).says("nowhere");
    }
}

#[test]
fn the_agent_shows_a_token_as_a_command_does() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    let show = ["--json", "token", "show", "default"];
    let alone = machine.tokenkeep(&show).ok().json();
    assert!(alone["capabilities"].is_object(), "{alone}");
    let agent = Agent::start(machine, &[]);
    machine.tokenkeep(&["keysets"]).ok().says("default");
    assert_eq!(machine.tokenkeep(&show).ok().json(), alone);
    // Beside the agent, which owns the token, nobody else can ask it.
    let beside = machine.tokenkeep(&["--no-agent", "--json", "token", "show", "default"]).ok().says("in use by").json();
    assert!(beside["capabilities"].is_null() && beside["serial"] == alone["serial"], "{beside}");
    assert!(agent.stop().success());
}
