//! The agent's log never contains a secret, whatever is logged: both its processes log at trace
//! level, and every operation brings them a secret: a PIN from a command, from a prompter and from
//! ssh-add, an SO PIN, a letter, a pass phrase, and encrypted content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::machine::TokenKind;
use crate::support::prompted_user::PromptedUser;
use crate::support::search::{Search, Secret};
use crate::support::shared_authority::TestUser;
use crate::support::ssh::ssh_add;

const PIN: &str = TestUser::PIN;
const WRONG: &str = TestUser::WRONG_PIN;
const OTHER: &str = TestUser::OTHER_PIN;
const SO_PIN: &str = "so-pin-24680";
const THIRD: &str = "third-pin-13579";
const PASS_PHRASE: &str = "open sesame, please";
const CONTENT: &str = "what nobody else should read: 4711\n";

#[test]
fn no_secret_is_in_the_agents_log_at_trace_level() {
    let mut prompted = PromptedUser::with(TokenKind::SoftHsm, &[]);
    let socket = prompted.user.machine.file("runtime/tokenkeep/agent/ssh.sock").display().to_string();
    prompted.user.machine.set_environment("RUST_LOG", "trace");
    prompted.user.machine.set_environment("SSH_AUTH_SOCK", &socket);
    prompted.user.machine.write_secret("so.pin", SO_PIN);
    prompted.user.machine.write_secret("third.pin", THIRD);
    prompted.user.machine.write("message.txt", CONTENT);
    prompted.start("");

    // All secrets pass through the agent: enrollments with the SO PIN and the letter's temporary
    // key. The command itself connects to the authority.
    let machine = &prompted.user.machine;
    for (name, level) in [("easy", "low"), ("strict", "high")] {
        prompted.enroll(name, level, &["--so-pin-source", "file:so.pin"]);
    }
    let runs = |line: &str| prompted.user.tokenkeep(&line.split(' ').collect::<Vec<_>>());
    // PINs from a command.
    for keyset in ["strict", "easy"] {
        runs(&format!("sign --keyset {keyset} --pin-source file:wrong.pin --in message.txt --out no")).fails_with(4);
        runs(&format!("sign --keyset {keyset} --pin-source file:pin --in message.txt --out signed.p7m")).ok();
    }
    let email = format!("strict.{}", prompted.user.email);
    runs(&format!("encrypt --to {email} --in message.txt --out secret.p7m")).ok();
    runs("decrypt --keyset strict --pin-source file:pin --in secret.p7m --out read.txt").ok();
    assert_eq!(machine.read_text("read.txt"), CONTENT);
    runs("pin change --keyset strict --pin-source file:wrong.pin --new-pin-source file:third.pin").fails_with(4);
    runs("pin change --keyset strict --pin-source file:pin --new-pin-source file:third.pin").ok();
    runs("pin unblock strict --so-pin-source file:wrong.pin --new-pin-source file:other.pin").fails_with(4);
    runs("pin unblock strict --so-pin-source file:so.pin --new-pin-source file:other.pin").ok();
    // PINs from a prompter.
    prompted.set_answers(&[WRONG]);
    assert!(!prompted.signs("strict", "wrong"));
    prompted.set_answers(&[OTHER]);
    assert!(prompted.signs("strict", "right"));
    let message = STANDARD.encode(machine.read("secret.p7m"));
    prompted.set_answers(&[OTHER]);
    let opened = post_to_api(&prompted, "decrypt", &json!({ "message": message, "keyset": "strict" }));
    assert!(opened.contains(&STANDARD.encode(CONTENT)), "{opened}");
    // PINs from ssh-add.
    ssh_add(machine, "", &["-D"]).ok();
    assert_ne!(ssh_add(machine, WRONG, &["-s", "easy"]).code(), 0);
    ssh_add(machine, PIN, &["-s", "easy"]).ok();
    assert!(prompted.signs("easy", "logged-in"));
    // Pass phrases, through both endpoints.
    ssh_add(machine, PASS_PHRASE, &["-x"]).ok();
    assert_ne!(ssh_add(machine, WRONG, &["-X"]).code(), 0);
    ssh_add(machine, PASS_PHRASE, &["-X"]).ok();
    let phrase = json!({ "pass_phrase": STANDARD.encode(PASS_PHRASE) });
    for path in ["lock", "unlock"] {
        assert_eq!(post_to_api(&prompted, path, &phrase), "", "{path}");
    }

    let pins = [PIN, WRONG, OTHER, THIRD, SO_PIN, PASS_PHRASE, CONTENT.trim_end()];
    let mut secrets: Vec<_> = pins.into_iter().map(|secret| Secret::text(format!("{secret:?}"), secret)).collect();
    secrets.extend(["easy.letter", "strict.letter"].iter().flat_map(|letter| Secret::temporary_key(machine, letter)));
    let search = Search::new(&secrets);
    let agent = prompted.agent();
    let log = agent.log();
    // Both processes log at trace level, so the search would find a secret.
    for process in
        ["the worker accepts connections", "connected endpoint=\"api\"", "Inserted(TokenInfo { label: \"strict\""]
    {
        assert!(log.contains(process), "{process} is not in the log\n{log}");
    }
    for secret in &secrets {
        for (how, spelling) in &secret.spellings {
            let log_with_secret = [log.as_bytes(), &spelling[..], b"\n"].concat();
            assert!(!search.find_in(&log_with_secret).is_empty(), "{} would not be found {how}", secret.name);
        }
    }
    let found = search.find_in(log.as_bytes());
    assert!(found.is_empty(), "{found:?}");
}

/// The agent's API's response to a POST.
fn post_to_api(prompted: &PromptedUser, path: &str, body: &serde_json::Value) -> String {
    let socket = prompted.agent().api_socket().display().to_string();
    let url = format!("http://agent/v1/{path}");
    let line = ["-sS", "--fail-with-body", "--unix-socket", &socket, "--data-binary", "@-", &url];
    let json = ["-H", "Content-Type: application/json"];
    prompted.user.machine.run("curl", &[&line[..], &json].concat(), body.to_string().as_bytes()).ok().out()
}
