//! An administrator's command leaves as a file, its response returns as a file, and only the
//! administrator can read a letter in it, whether the authority serves meanwhile or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tokenkeep::keyset::Tokens;
use tokenkeep::letter::Letter;
use tokenkeep::pki::{Certificate, Fingerprint};
use tokenkeep::statement::{Operation, Statement};
use tokenkeep::token::{Module, Pin};

use crate::support::authority::Authority;
use crate::support::machine::softhsm_module;
use crate::support::output::Output;
use crate::support::story::Story;
use crate::support::witness::skipped;

/// The path at which a child of this test binary writes an expired statement.
const EXPIRED: &str = "TOKENKEEP_TEST_EXPIRED";

/// The person at the authority answers, with the PIN from this source.
fn answer(story: &Story, statement: &str, response: &str, pin: &str) -> Output {
    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", pin];
    story.tokenkeep(&[&line[..], &["--in", statement, "--out", response]].concat())
}

/// The administrator opens a response.
fn open(story: &Story, response: &str, statement: &str, more: &[&str]) -> Output {
    story.admin(&[&["open", response, "--statement", statement], more].concat())
}

/// As above, without a PIN.
fn open_without_pin(story: &Story, keyset: &str, response: &str, statement: &str) -> Output {
    let line = ["admin", "open", response, "--statement", statement, "--keyset", keyset];
    story.tokenkeep(&[&line[..], &["--pin-source", "file:no-such-file"]].concat())
}

fn state(story: &Story, command: &[&str], statement: &str) -> Output {
    story.admin(&[command, &["--statement-out", statement]].concat()).ok()
}

fn socket(story: &Story) -> PathBuf {
    story.machine.file("state/tokenkeep/authority/control.sock")
}

fn mode(story: &Story, name: &str) -> u32 {
    fs::metadata(story.machine.file(name)).unwrap().permissions().mode() & 0o777
}

const ISSUE: [&str; 4] = ["issue", "user@example.org", "--name", "Example, User"];

#[test]
fn a_letter_goes_round_as_files_while_nobody_serves() {
    let mut story = Story::begin();
    story.authority.stop();
    state(&story, &ISSUE, "issue.statement").says("Nothing was sent").says("authority answer").says("admin open");
    assert_eq!(mode(&story, "issue.statement"), 0o600);
    let before = story.machine.read("issue.statement");
    story.admin(&[&ISSUE[..], &["--statement-out", "issue.statement"]].concat()).fails_with(2).says("exists");
    assert_eq!(story.machine.read("issue.statement"), before);
    let both = ["--statement-out", "other", "--letter-out", "letter"];
    story.admin(&[&ISSUE[..], &both].concat()).fails_with(2);

    // Refused before or after the PIN: nothing is used up.
    story.machine.write_secret("wrong.pin", "wrong-0000");
    answer(&story, "issue.statement", "issue.response", "file:wrong.pin").fails_with(4);
    answer(&story, "issue.statement", "issue.statement", "file:no-such-file").fails_with(2).says("exists");
    answer(&story, "authority.toml", "issue.response", "file:no-such-file").fails_with(8);
    assert!(!story.machine.file("issue.response").exists());

    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin", "-vvv"];
    let files = ["--in", "issue.statement", "--out", "issue.response"];
    let told = story.tokenkeep(&[&line[..], &files].concat()).ok().says("signed response").says("letter issued");
    assert_eq!(mode(&story, "issue.response"), 0o600);
    let out = ["--letter-out", "user.letter", "--json"];
    let opened = open(&story, "issue.response", "issue.statement", &out).ok().json();
    assert_eq!(mode(&story, "user.letter"), 0o600);
    open(&story, "issue.response", "issue.statement", &out).fails_with(2).says("exists");
    is_nowhere_in(&story.machine.read("issue.response"), &story.machine.read_text("user.letter"), &opened);
    // The authority's log does not contain it either, at any level.
    let key = opened["temporary_key"].as_str().unwrap();
    let letter = Letter::read_file(&story.machine.file("user.letter")).unwrap();
    told.does_not_say(key).does_not_say(&letter.temporary_key.grouped());

    // A response without a letter asks for the PIN, too: its verification needs data that only the
    // PIN opens.
    state(&story, &["list"], "list.statement");
    answer(&story, "list.statement", "list.response", "file:authority.pin").ok();
    open_without_pin(&story, "admin", "list.response", "list.statement").fails_with(4);
    open(&story, "list.response", "list.statement", &[]).ok().says("user@example.org");

    story.authority.serve(&story.machine);
    story.machine.write_secret("pin1", Story::USER_PIN);
    story.enroll_new("user.letter", "default", "pin1").ok();
}

/// Fails the test if a response reveals anything of the letter that the statement does not contain.
#[track_caller]
fn is_nowhere_in(response: &[u8], letter: &str, opened: &serde_json::Value) {
    let text = String::from_utf8_lossy(response);
    let key = opened["temporary_key"].as_str().unwrap();
    let lines = letter.lines().filter(|line| line.len() > 8);
    for secret in lines.chain([key, opened["reference"].as_str().unwrap(), "Temporary key"]) {
        assert!(letter.contains(secret) || secret == key, "the test looks for what is in no letter: {secret}");
        for form in [secret.to_owned(), hex::encode(secret), secret.replace('-', "")] {
            assert!(!text.contains(&form), "in the response: {form}");
        }
    }
    // The text is readable, so the search is valid.
    assert!(text.contains("encrypted_letter"), "{text}");
}

#[test]
fn a_running_authority_answers_through_its_control_socket() {
    let mut story = Story::begin();
    assert_eq!(fs::metadata(socket(&story)).unwrap().permissions().mode() & 0o777, 0o600);
    state(&story, &["recover", "admin@example.org"], "recover.statement");
    // No PIN is asked for.
    answer(&story, "recover.statement", "recover.response", "file:no-such-file").ok();
    open(&story, "recover.response", "recover.statement", &["--letter-out", "recovered.letter"]).ok();
    is_once(&story, "recover.statement");

    // A killed authority leaves its socket; the command opens the token itself, and the next
    // `serve` takes the socket over.
    story.authority.kill();
    assert!(socket(&story).exists());
    state(&story, &["show", "admin@example.org"], "show.statement");
    answer(&story, "show.statement", "show.response", "file:no-such-file").fails_with(4);
    answer(&story, "show.statement", "show.response", "file:authority.pin").ok();
    open(&story, "show.response", "show.statement", &[]).ok().says("admin@example.org");
    story.authority.serve(&story.machine);
    answer(&story, "show.statement", "again.response", "file:no-such-file").ok().says("a refusal").says("already used");

    // The recovery is delivered: its approval, which is verified again, is the file's.
    story.enroll_new("recovered.letter", "second", "admin.pin").ok();
    assert!(story.authority.stop().success());
    assert!(!socket(&story).exists());
}

/// A statement file is refused the second time.
#[track_caller]
fn is_once(story: &Story, statement: &str) {
    answer(story, statement, "second.response", "file:no-such-file").ok().says("a refusal").says("already used");
    open(story, "second.response", statement, &[]).fails_with(5).says("refused by the authority").says("already used");
}

#[test]
fn what_is_not_in_order_is_refused() {
    let story = Story::begin();
    story.enroll_user();
    state(&story, &["issue", "user@example.org"], "one.statement");
    state(&story, &["list"], "two.statement");

    // The HTTPS endpoint refuses a statement that is valid for days, and does not use it up.
    let url = format!("{}/statements", story.authority.https_url());
    let curl = ["-sSk", "--noproxy", "*", "-H", "content-type: application/pkcs7-mime", "-o", "online.response"];
    let body = ["--data-binary", "@one.statement", url.as_str()];
    story.machine.run("curl", &[&curl[..], &body].concat(), b"").ok();
    open(&story, "online.response", "one.statement", &[]).fails_with(5).says("made for file transport");

    let child = ["--exact", "statement_files::child", "--test-threads", "1"];
    let mut command = story.machine.command(std::env::current_exe().unwrap());
    let signed = command.args(child).env(EXPIRED, "expired.statement").output().unwrap();
    assert!(story.machine.file("expired.statement").exists(), "{}", String::from_utf8_lossy(&signed.stdout));
    answer(&story, "expired.statement", "expired.response", "file:no-such-file").ok().says("valid until");
    open(&story, "expired.response", "expired.statement", &[]).fails_with(5).says("valid until");

    answer(&story, "one.statement", "one.response", "file:no-such-file").ok();
    // A keyset other than the response's; the PIN source is not read.
    open_without_pin(&story, "default", "one.response", "one.statement").fails_with(5).says("another keyset");
    // The response to another statement.
    open_without_pin(&story, "admin", "one.response", "two.statement").fails_with(8).says("another statement");
    open_without_pin(&story, "admin", "one.response", "authority.toml").fails_with(8);
    // A modified response: in the letter, in the signature, truncated.
    let response = story.machine.read("one.response");
    let letter = response.windows(16).position(|window| window == b"encrypted_letter").unwrap() + 100;
    for at in [letter, response.len() - 3] {
        let mut changed = response.clone();
        changed[at] ^= 1;
        story.machine.write("changed.response", &changed);
        open_without_pin(&story, "admin", "changed.response", "one.statement").fails_with(8);
    }
    story.machine.write("changed.response", &response[..response.len() - 1]);
    open_without_pin(&story, "admin", "changed.response", "one.statement").fails_with(8);
    // Without a PIN there is no letter.
    let line = ["admin", "open", "one.response", "--statement", "one.statement", "--keyset", "admin"];
    story.machine.tokenkeep_without_terminal(&[&line[..], &["--letter-out", "letter"]].concat()).fails_with(4);
    open_without_pin(&story, "admin", "one.response", "one.statement").fails_with(4);
    story.machine.write_secret("wrong.pin", "wrong-0000");
    story.tokenkeep(&[&line[..], &["--letter-out", "letter", "--pin-source", "file:wrong.pin"]].concat()).fails_with(4);
    assert!(!story.machine.file("letter").exists());

    // Afterwards the response is still valid.
    open(&story, "one.response", "one.statement", &["--letter-out", "letter"]).ok();
}

/// Signs an expired statement on the machine that starts it. Does nothing in a normal test run.
#[test]
fn child() {
    let Ok(out) = std::env::var(EXPIRED) else { return };
    let module = Module::load(&softhsm_module()).unwrap();
    let (keysets, _) = Tokens::new(vec![module.clone()]).keysets().unwrap();
    let admin = keysets.into_iter().find(|keyset| keyset.name.as_str() == "admin").unwrap();
    let id = admin.signing.as_ref().unwrap();
    let certificate = admin.certificates.iter().find(|certificate| certificate.id == *id).unwrap();
    let authority = Fingerprint::from_bytes(admin.authority_sha256().unwrap());
    let now = Timestamp::now();
    let hours = |hours: i64| now - SignedDuration::from_hours(hours);
    let good = Statement::by_file(authority, Operation::List, [7; 16], now);
    let over = Statement { not_before: hours(2), not_after: hours(1), ..good };

    let token = module.open(&admin.token).unwrap();
    let unlock = token.unlock(Pin::new(Story::ADMIN_PIN.to_owned()).unwrap()).unwrap();
    let key = token.find_key(id).unwrap().unwrap();
    let signed = over.sign(&unlock.sign_with(&key), &Certificate::from_der(&certificate.der).unwrap(), now).unwrap();
    fs::write(out, signed.as_der()).unwrap();
}

#[test]
fn another_user_gets_nothing_through_the_control_socket() {
    let story = Story::begin();
    let ask = |more: &[&str]| {
        let path = socket(&story).display().to_string();
        let curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", path.as_str()];
        let line = [more, &curl[..], &["--data-binary", "x", "http://control/control/statements"]].concat();
        story.machine.run(line[0], &line[1..], b"")
    };
    // A client with the same user is answered, here with an error.
    assert_eq!(ask(&[]).ok().out(), "415");
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    assert_ne!(ask(&other).code(), 0, "the directory is closed to them");
    // Even if the modes of socket and directories admit other users, the kernel reports who they
    // are.
    let socket = socket(&story);
    for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with(story.machine.path())) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let output = ask(&other);
    assert_ne!(output.code(), 0, "{output}");
    assert_eq!(output.out(), "000");
    assert!(
        Authority::log(&story.machine).contains("rejected a connection of another user"),
        "{}",
        Authority::log(&story.machine)
    );
    assert_eq!(ask(&[]).ok().out(), "415");
}
