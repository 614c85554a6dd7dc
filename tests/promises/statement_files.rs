//! An administrator's command leaves as a file, its response returns as a file, and only the
//! administrator can read a letter in it, whether the authority serves meanwhile or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tokenkeep::keyset::Tokens;
use tokenkeep::letter::Letter;
use tokenkeep::pki::{Certificate, Fingerprint};
use tokenkeep::statement::{AdminOperation, Statement};
use tokenkeep::token::{Pin, TokenSource};

use crate::support::authority::Authority;
use crate::support::deployment::Deployment;
use crate::support::foreign_programs::skipped;
use crate::support::machine::softhsm_module;
use crate::support::output::Output;

/// The path at which a child of this test binary writes an expired statement.
const EXPIRED: &str = "TOKENKEEP_TEST_EXPIRED";

/// The person at the authority answers, with the PIN from this source.
fn answer(deployment: &Deployment, statement: &str, response: &str, pin: &str) -> Output {
    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", pin];
    deployment.tokenkeep(&[&line[..], &["--in", statement, "--out", response]].concat())
}

/// The administrator opens a response.
fn open(deployment: &Deployment, response: &str, statement: &str, more: &[&str]) -> Output {
    deployment.admin(&[&["open", response, "--statement", statement], more].concat())
}

/// As above, without a PIN.
fn open_without_pin(deployment: &Deployment, keyset: &str, response: &str, statement: &str) -> Output {
    let line = ["admin", "open", response, "--statement", statement, "--keyset", keyset];
    deployment.tokenkeep(&[&line[..], &["--pin-source", "file:no-such-file"]].concat())
}

fn state(deployment: &Deployment, command: &[&str], statement: &str) -> Output {
    deployment.admin(&[command, &["--statement-out", statement]].concat()).ok()
}

fn socket(deployment: &Deployment) -> PathBuf {
    deployment.machine.file("state/tokenkeep/authority/control.sock")
}

fn mode(deployment: &Deployment, name: &str) -> u32 {
    fs::metadata(deployment.machine.file(name)).unwrap().permissions().mode() & 0o777
}

const ISSUE: [&str; 4] = ["issue", "user@example.org", "--name", "Example, User"];

#[test]
fn a_letter_is_issued_by_files_without_a_running_service() {
    let mut deployment = Deployment::begin();
    deployment.authority.stop();
    state(&deployment, &ISSUE, "issue.statement").says("Nothing was sent").says("authority answer").says("admin open");
    assert_eq!(mode(&deployment, "issue.statement"), 0o600);
    let before = deployment.machine.read("issue.statement");
    deployment.admin(&[&ISSUE[..], &["--statement-out", "issue.statement"]].concat()).fails_with(2).says("exists");
    assert_eq!(deployment.machine.read("issue.statement"), before);
    let both = ["--statement-out", "other", "--letter-out", "letter"];
    deployment.admin(&[&ISSUE[..], &both].concat()).fails_with(2);

    // Refused before or after the PIN: nothing is used up.
    deployment.machine.write_secret("wrong.pin", "wrong-0000");
    answer(&deployment, "issue.statement", "issue.response", "file:wrong.pin").fails_with(4);
    answer(&deployment, "issue.statement", "issue.statement", "file:no-such-file").fails_with(2).says("exists");
    answer(&deployment, "authority.toml", "issue.response", "file:no-such-file").fails_with(8);
    assert!(!deployment.machine.file("issue.response").exists());

    let line = ["authority", "answer", "--config", "authority.toml", "--pin-source", "file:authority.pin", "-vvv"];
    let files = ["--in", "issue.statement", "--out", "issue.response"];
    let response =
        deployment.tokenkeep(&[&line[..], &files].concat()).ok().says("signed response").says("letter issued");
    assert_eq!(mode(&deployment, "issue.response"), 0o600);
    let out = ["--letter-out", "user.letter", "--json"];
    let opened = open(&deployment, "issue.response", "issue.statement", &out).ok().json();
    assert_eq!(mode(&deployment, "user.letter"), 0o600);
    open(&deployment, "issue.response", "issue.statement", &out).fails_with(2).says("exists");
    assert_hidden_in(&deployment.machine.read("issue.response"), &deployment.machine.read_text("user.letter"), &opened);
    // The authority's log does not contain it either, at any level.
    let key = opened["temporary_key"].as_str().unwrap();
    let letter = Letter::read_file(&deployment.machine.file("user.letter")).unwrap();
    response.does_not_say(key).does_not_say(&letter.temporary_key.grouped());

    // A response without a letter asks for the PIN, too: its verification needs data that only the
    // PIN opens.
    state(&deployment, &["list"], "list.statement");
    answer(&deployment, "list.statement", "list.response", "file:authority.pin").ok();
    open_without_pin(&deployment, "admin", "list.response", "list.statement").fails_with(4);
    open(&deployment, "list.response", "list.statement", &[]).ok().says("user@example.org");

    deployment.authority.serve(&deployment.machine);
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    deployment.enroll_new("user.letter", "default", "pin1").ok();
}

/// Fails the test if a response reveals anything of the letter that the statement does not contain.
#[track_caller]
fn assert_hidden_in(response: &[u8], letter: &str, opened: &serde_json::Value) {
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
    let mut deployment = Deployment::begin();
    assert_eq!(fs::metadata(socket(&deployment)).unwrap().permissions().mode() & 0o777, 0o600);
    state(&deployment, &["recover", "admin@example.org"], "recover.statement");
    // No PIN is asked for.
    answer(&deployment, "recover.statement", "recover.response", "file:no-such-file").ok();
    open(&deployment, "recover.response", "recover.statement", &["--letter-out", "recovered.letter"]).ok();
    assert_accepted_once(&deployment, "recover.statement");

    // A killed authority leaves its socket; the command opens the token itself, and the next
    // `serve` takes the socket over.
    deployment.authority.kill();
    assert!(socket(&deployment).exists());
    state(&deployment, &["show", "admin@example.org"], "show.statement");
    answer(&deployment, "show.statement", "show.response", "file:no-such-file").fails_with(4);
    answer(&deployment, "show.statement", "show.response", "file:authority.pin").ok();
    open(&deployment, "show.response", "show.statement", &[]).ok().says("admin@example.org");
    deployment.authority.serve(&deployment.machine);
    answer(&deployment, "show.statement", "again.response", "file:no-such-file")
        .ok()
        .says("a refusal")
        .says("already used");

    // The recovery is delivered: its approval, which is verified again, is the file's.
    deployment.enroll_new("recovered.letter", "second", "admin.pin").ok();
    assert!(deployment.authority.stop().success());
    assert!(!socket(&deployment).exists());
}

/// A statement file is refused the second time.
#[track_caller]
fn assert_accepted_once(deployment: &Deployment, statement: &str) {
    answer(deployment, statement, "second.response", "file:no-such-file").ok().says("a refusal").says("already used");
    open(deployment, "second.response", statement, &[])
        .fails_with(5)
        .says("refused by the authority")
        .says("already used");
}

#[test]
fn an_invalid_statement_file_is_refused() {
    let deployment = Deployment::begin();
    deployment.enroll_user();
    state(&deployment, &["issue", "user@example.org"], "one.statement");
    state(&deployment, &["list"], "two.statement");

    // The HTTPS endpoint refuses a statement that is valid for days, and does not use it up.
    let url = format!("{}/statements", deployment.authority.https_url());
    let curl = ["-sSk", "--noproxy", "*", "-H", "content-type: application/pkcs7-mime", "-o", "online.response"];
    let body = ["--data-binary", "@one.statement", url.as_str()];
    deployment.machine.run("curl", &[&curl[..], &body].concat(), b"").ok();
    open(&deployment, "online.response", "one.statement", &[]).fails_with(5).says("made for file transport");

    let arguments = ["--exact", "statement_files::make_expired_statement", "--test-threads", "1"];
    let mut command = deployment.machine.command(std::env::current_exe().unwrap());
    let signed = command.args(arguments).env(EXPIRED, "expired.statement").output().unwrap();
    assert!(deployment.machine.file("expired.statement").exists(), "{}", String::from_utf8_lossy(&signed.stdout));
    answer(&deployment, "expired.statement", "expired.response", "file:no-such-file").ok().says("valid until");
    open(&deployment, "expired.response", "expired.statement", &[]).fails_with(5).says("valid until");

    answer(&deployment, "one.statement", "one.response", "file:no-such-file").ok();
    // A keyset other than the response's; the PIN source is not read.
    open_without_pin(&deployment, "default", "one.response", "one.statement").fails_with(5).says("another keyset");
    // The response to another statement.
    open_without_pin(&deployment, "admin", "one.response", "two.statement").fails_with(8).says("another statement");
    open_without_pin(&deployment, "admin", "one.response", "authority.toml").fails_with(8);
    // A modified response: in the letter, in the signature, truncated.
    let response = deployment.machine.read("one.response");
    let letter = response.windows(16).position(|window| window == b"encrypted_letter").unwrap() + 100;
    for at in [letter, response.len() - 3] {
        let mut changed = response.clone();
        changed[at] ^= 1;
        deployment.machine.write("changed.response", &changed);
        open_without_pin(&deployment, "admin", "changed.response", "one.statement").fails_with(8);
    }
    deployment.machine.write("changed.response", &response[..response.len() - 1]);
    open_without_pin(&deployment, "admin", "changed.response", "one.statement").fails_with(8);
    // Without a PIN there is no letter.
    let line = ["admin", "open", "one.response", "--statement", "one.statement", "--keyset", "admin"];
    deployment.machine.tokenkeep_without_terminal(&[&line[..], &["--letter-out", "letter"]].concat()).fails_with(4);
    open_without_pin(&deployment, "admin", "one.response", "one.statement").fails_with(4);
    deployment.machine.write_secret("wrong.pin", "wrong-0000");
    deployment
        .tokenkeep(&[&line[..], &["--letter-out", "letter", "--pin-source", "file:wrong.pin"]].concat())
        .fails_with(4);
    assert!(!deployment.machine.file("letter").exists());

    // Afterwards the response is still valid.
    open(&deployment, "one.response", "one.statement", &["--letter-out", "letter"]).ok();
}

/// Signs an expired statement on the machine that starts it. Does nothing in a normal test run.
#[test]
fn make_expired_statement() {
    let Ok(out) = std::env::var(EXPIRED) else { return };
    let module = TokenSource::load(&softhsm_module()).unwrap();
    let (keysets, _) = Tokens::new(vec![module.clone()]).keysets().unwrap();
    let admin = keysets.into_iter().find(|keyset| keyset.name.as_str() == "admin").unwrap();
    let id = admin.signing.as_ref().unwrap();
    let certificate = admin.certificates.iter().find(|certificate| certificate.id == *id).unwrap();
    let authority = Fingerprint::from_bytes(admin.authority_sha256().unwrap());
    let now = Timestamp::now();
    let hours = |hours: i64| now - SignedDuration::from_hours(hours);
    let good = Statement::for_file(authority, AdminOperation::List { after: None, limit: None }, [7; 16], now);
    let over = Statement { not_before: hours(2), not_after: hours(1), ..good };

    let token = module.open(&admin.token).unwrap();
    let unlock = token.unlock(Pin::new(Deployment::ADMIN_PIN.to_owned()).unwrap()).unwrap();
    let key = token.find_key(id).unwrap().unwrap();
    let signed = over.sign(&unlock.sign_with(&key), &Certificate::from_der(&certificate.der).unwrap(), now).unwrap();
    fs::write(out, signed.as_der()).unwrap();
}

#[test]
fn another_user_gets_nothing_through_the_control_socket() {
    let deployment = Deployment::begin();
    let ask = |more: &[&str]| {
        let path = socket(&deployment).display().to_string();
        let curl = ["curl", "-sS", "--http0.9", "-o", "/dev/null", "-w", "%{size_download}"];
        let line = [more, &curl[..], &["--unix-socket", path.as_str(), "http://control/"]].concat();
        deployment.machine.run(line[0], &line[1..], b"")
    };
    // A client with the same user is answered, here with the 16 bytes that another build gets.
    assert_eq!(ask(&[]).out(), "16");
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can be another user");
    }
    let other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    assert_ne!(ask(&other).code(), 0, "the directory is closed to them");
    // Even if the modes of socket and directories admit other users, the kernel reports who they
    // are.
    let socket = socket(&deployment);
    for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with(deployment.machine.path())) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let output = ask(&other);
    assert_ne!(output.code(), 0, "{output}");
    assert_eq!(output.out(), "0");
    assert!(
        Authority::log(&deployment.machine).contains("rejected a connection of another user"),
        "{}",
        Authority::log(&deployment.machine)
    );
    assert_eq!(ask(&[]).out(), "16");
}
