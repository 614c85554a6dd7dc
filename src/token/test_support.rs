//! Real tokens for tests: SoftHSM, and Kryoptic, which locks a PIN after ten wrong tries.
//!
//! Both modules read their configuration from environment variables that `.cargo/config.toml` sets.
//! Each test makes its own tokens with its own labels, and never touches those of another test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{AuthorityToken, Pin, PinState, Token, TokenInfo, TokenSource};

#[allow(dead_code)] // the integration tests use the rest
#[path = "../../tests/support/kryoptic.rs"]
mod kryoptic_build;

/// The user PIN of every test token. Kryoptic requires eight characters.
pub(crate) const PIN: &str = "12345678";

/// The SO PIN of every test token.
pub(crate) const SO_PIN: &str = "87654321";

/// The prefix of every test token's label.
const LABEL: &str = "testing ";

/// Number of configured Kryoptic slots: each new token takes one.
const KRYOPTIC_SLOTS: usize = 96;

pub(crate) fn pin(text: &str) -> Pin {
    Pin::new(text.to_owned()).unwrap()
}

/// The information of a card that is in no reader.
pub(crate) fn a_card() -> TokenInfo {
    TokenInfo {
        label: "card".into(),
        serial: "4711".into(),
        manufacturer: String::new(),
        model: String::new(),
        source: "/m.so".into(),
        pin_state: PinState::Ok,
        write_protected: false,
        non_utf8_names: Vec::new(),
    }
}

/// Removes old tokens once per process, before the module is loaded.
static SWEPT: OnceLock<()> = OnceLock::new();

/// The SoftHSM module with the configuration that `./softhsm-setup.sh` made.
pub(crate) fn softhsm() -> TokenSource {
    let places = [
        "/usr/lib/softhsm",
        "/usr/lib/x86_64-linux-gnu/softhsm",
        "/usr/lib64/pkcs11",
        "/usr/lib64",
        "/usr/local/lib/softhsm",
    ];
    let file = places.iter().map(|place| Path::new(place).join("libsofthsm2.so")).find(|file| file.exists());
    SWEPT.get_or_init(sweep);
    TokenSource::load(&file.expect("SoftHSM is not installed: run ./softhsm-setup.sh")).unwrap()
}

/// SoftHSM's token directory, which has one subdirectory per token.
pub(crate) fn softhsm_tokens() -> PathBuf {
    let configuration = std::env::var_os("SOFTHSM2_CONF").expect("SOFTHSM2_CONF: run by cargo");
    let text = std::fs::read_to_string(configuration).expect("no SoftHSM configuration: run ./softhsm-setup.sh");
    let line = text.lines().find_map(|line| line.strip_prefix("directories.tokendir")).unwrap();
    PathBuf::from(line.trim_start_matches([' ', '=']).trim())
}

/// Removes test tokens older than an hour, which PKCS#11 cannot do: with hundreds of tokens SoftHSM
/// becomes slow.
fn sweep() {
    for directory in std::fs::read_dir(softhsm_tokens()).unwrap().flatten().map(|entry| entry.path()) {
        let token = directory.join("token.object");
        let age = token.metadata().and_then(|token| token.modified()).ok().and_then(|time| time.elapsed().ok());
        let contents = std::fs::read(&token).unwrap_or_default();
        if age.is_some_and(|age| age.as_secs() > 3600) && contains(&contents, LABEL.as_bytes()) {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Whether `whole` contains `part`.
pub(crate) fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The Kryoptic module with a fresh set of slots. `None` only if the environment permits skipping
/// it, which is reported on stderr.
pub(crate) fn kryoptic() -> Option<TokenSource> {
    static MODULE: OnceLock<Option<TokenSource>> = OnceLock::new();
    MODULE.get_or_init(load_kryoptic).clone()
}

fn load_kryoptic() -> Option<TokenSource> {
    if std::env::var_os("TOKENKEEP_SKIP_KRYOPTIC").is_some_and(|skip| skip == "1") {
        // Not `eprintln!`: the test harness captures it and prints it only for failed tests.
        let _ = writeln!(std::io::stderr(), "SKIPPED: on Kryoptic, because TOKENKEEP_SKIP_KRYOPTIC=1");
        return None;
    }
    // If this fails: cargo build --release --locked --manifest-path tests/kryoptic/Cargo.toml
    // --target-dir target/kryoptic
    let file = kryoptic_build::module();
    let configuration = PathBuf::from(std::env::var_os("KRYOPTIC_CONF").expect("KRYOPTIC_CONF: run by cargo"));
    let home = configuration.parent().unwrap().join("test-tokens");
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).unwrap();
    let slot = |number| {
        let file = home.join(format!("{number}.sql"));
        format!("[[slots]]\nslot = {number}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n", file.display())
    };
    let slots: String = (1..=KRYOPTIC_SLOTS).map(slot).collect();
    std::fs::write(&configuration, slots).unwrap();
    Some(TokenSource::load(&file).unwrap())
}

/// All modules to test with.
pub(crate) fn modules() -> Vec<TokenSource> {
    std::iter::once(softhsm()).chain(kryoptic()).collect()
}

/// A label that no other test uses, in this run or an earlier one.
pub(crate) fn fresh_label(what: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let time = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() % 1_000_000_000;
    format!("{LABEL}{what} {time}-{number}")
}

/// A new token with [`PIN`] and [`SO_PIN`].
pub(crate) fn new_token(module: &TokenSource) -> TokenInfo {
    module.create_token(&fresh_label("t"), &pin(SO_PIN), &pin(PIN)).unwrap()
}

/// A new open token.
pub(crate) fn open_token(module: &TokenSource) -> Token {
    module.open(&new_token(module)).unwrap()
}

/// A new token of an authority, logged in.
pub(crate) fn authority_token(module: &TokenSource) -> AuthorityToken {
    let token = module.open_for_authority(&new_token(module)).unwrap();
    token.log_in(&pin(PIN)).unwrap();
    token
}

/// Runs a program and returns its output; fails the test if the program fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    finish(std::process::Command::new(program).args(arguments))
}

/// Like [`run`], for a prepared command.
pub(crate) fn finish(command: &mut std::process::Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!("{program} is needed by this test (./softhsm-setup.sh installs it): {error}");
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
