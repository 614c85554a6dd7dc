//! Parses the command lines of the documents, and refuses invalid ones.

use clap::error::ErrorKind;

use super::*;
use crate::prompter::PinSource;
use crate::token::SecurityLevel;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    // In these lines an underscore stands for a space in a quoted word.
    Cli::try_parse_from(line.split_whitespace().map(|word| word.replace('_', " ")))
}

#[test]
fn the_command_definitions_are_valid() {
    Cli::command().debug_assert();
}

#[test]
fn the_documented_commands_parse() {
    for line in [
        "tokenkeep authority init --config hsm-config/authority.toml --new-pin-source file:authority.pin \
         --first-administrator admin@example.org --letter-out admin.letter",
        "tokenkeep authority serve --config hsm-config/authority.toml --pin-source file:authority.pin",
        "tokenkeep enroll --letter admin.letter --keyset admin --level high --new-token --new-pin-source \
         file:admin.pin",
        "tokenkeep admin issue user@example.org --name Example,_User --keyset admin --pin-source file:admin.pin \
         --letter-out user.letter",
        "tokenkeep enroll --letter user.letter --level high --new-token --new-pin-source file:pin1",
        "tokenkeep sign --keyset default --pin-source file:pin1 --in message.txt --out signed.p7m",
        "tokenkeep verify --in signed.p7m --out message.txt",
        "tokenkeep encrypt --to user@example.org --in message.txt --out secret.p7m",
        "tokenkeep decrypt --keyset default --pin-source file:pin1 --in secret.p7m --out message.txt",
        "tokenkeep enroll --letter again.letter --keyset default --level high --pin-source file:pin1",
        "tokenkeep admin recover user@example.org --keyset admin --pin-source file:admin.pin --letter-out r.letter",
        "tokenkeep decrypt --keyset second --pin-source file:pin2 --in secret.p7m",
        "tokenkeep pin change --keyset second --pin-source file:pin2 --new-pin-source file:pin3",
        "tokenkeep keysets",
        "tokenkeep keyset list --json",
        "tokenkeep keyset show second --json",
        "tokenkeep keyset show --keyset second --token second",
        "tokenkeep keyset delete second --yes --pin-source file:pin3",
        "tokenkeep keyset delete --keyset second --yes --pin-source file:pin3",
        "tokenkeep tokens --json",
        "tokenkeep token list",
        "tokenkeep token show default --json",
        "tokenkeep demo",
        "tokenkeep demo --keep kept",
        "tokenkeep completions bash",
        "tokenkeep man --out pages",
        "tokenkeep enroll --letter - --new-token=/usr/lib/softhsm/libsofthsm2.so",
        "tokenkeep enroll --letter a --token pkcs11:token=default;serial=1234 --authority http://127.0.0.1:1",
        "tokenkeep sign message.txt -o signed --format smime --detached -vv",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}\n{error}");
        }
    }
}

#[test]
fn invalid_command_lines_are_refused() {
    for (line, kind) in [
        ("tokenkeep", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("tokenkeep enroll", ErrorKind::MissingRequiredArgument),
        ("tokenkeep enroll --letter a --new-token --token b", ErrorKind::ArgumentConflict),
        ("tokenkeep enroll --letter a --so-pin-source prompt", ErrorKind::MissingRequiredArgument),
        ("tokenkeep enroll --letter a --level highest", ErrorKind::ValueValidation),
        ("tokenkeep enroll --letter a --pin 123456", ErrorKind::UnknownArgument),
        ("tokenkeep sign --pin-source 123456", ErrorKind::ValueValidation),
        ("tokenkeep sign one two", ErrorKind::UnknownArgument),
        ("tokenkeep sign one --in two", ErrorKind::ArgumentConflict),
        ("tokenkeep encrypt --in message.txt", ErrorKind::MissingRequiredArgument),
        ("tokenkeep keyset show second --keyset second", ErrorKind::ArgumentConflict),
        ("tokenkeep keyset delete", ErrorKind::MissingRequiredArgument),
        ("tokenkeep keyset delete --token second", ErrorKind::MissingRequiredArgument),
        ("tokenkeep keyset delete second --keyset default", ErrorKind::ArgumentConflict),
        ("tokenkeep admin issue", ErrorKind::MissingRequiredArgument),
        ("tokenkeep admin issue a@example.org --valid-for 14", ErrorKind::ValueValidation),
        ("tokenkeep sign --format pdf", ErrorKind::InvalidValue),
    ] {
        match parse(line) {
            Ok(_) => panic!("{line}: taken"),
            Err(error) => assert_eq!(error.kind(), kind, "{line}\n{error}"),
        }
    }
}

#[test]
fn keyset_names_follow_their_own_rules() {
    let long = "a".repeat(33);
    for bad in ["", " a", "a\u{7}b", "\u{202e}a", &long] {
        let error = Cli::try_parse_from(["tokenkeep", "enroll", "--letter", "x", "--keyset", bad]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{bad:?}");
    }
    let good = "Schlüssel für Zuhause, 2 🔑";
    Cli::try_parse_from(["tokenkeep", "enroll", "--letter", "x", "--keyset", good]).unwrap();
}

#[test]
fn a_pin_typed_for_a_source_is_not_repeated() {
    for option in ["--pin-source", "--new-pin-source", "--so-pin-source"] {
        let line = format!("tokenkeep enroll --letter a --new-token {option} 4711-secret");
        let error = without_pins(parse(&line).unwrap_err()).to_string();
        assert!(error.contains(option) && error.contains("prompt, file:PATH, fd:N or credential:NAME"), "{error}");
        assert!(!error.contains("4711-secret"), "{error}");
    }
    // Other values are repeated, which helps the user.
    let error = without_pins(parse("tokenkeep enroll --letter a --level highest").unwrap_err()).to_string();
    assert!(error.contains("highest"), "{error}");
}

#[test]
fn values_are_parsed() {
    let cli = parse("tokenkeep enroll --letter a --level medium --new-pin-source fd:3 --json").unwrap();
    assert!(cli.common.json);
    let Command::Enroll(arguments) = cli.command else { panic!("another command") };
    let shown = format!("{arguments:?}");
    assert!(shown.contains(&format!("{:?}", SecurityLevel::Medium)), "{shown}");
    assert!(shown.contains(&format!("{:?}", PinSource::Descriptor(3))), "{shown}");
    assert!(shown.contains("default"), "{shown}");
}

#[test]
fn exit_codes_are_those_of_the_documents() {
    let codes = [
        (Exit::Done, 0),
        (Exit::Fault, 1),
        (Exit::Usage, 2),
        (Exit::Absent, 3),
        (Exit::Pin, 4),
        (Exit::Refused, 5),
        (Exit::Unreachable, 6),
        (Exit::Waiting, 7),
        (Exit::NotVerified, 8),
        (Exit::Interrupted, 130),
    ];
    for (exit, code) in codes {
        assert_eq!(exit.code(), code);
    }
}
