//! The steps of the demo, in their order.

use super::super::exit::{Exit, Failure};
use super::environment::DemoEnvironment;

const MESSAGE: &str = "Dear colleague,\nthe meeting is at ten.\n";

/// Runs all steps, from the authority's first key to the old mail that is read with a new PIN.
pub fn play(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    an_authority(demo)?;
    an_administrator(demo)?;
    a_temporary_key(demo)?;
    an_enrollment(demo)?;
    send_and_read(demo)?;
    a_re_enrollment(demo)?;
    a_forgotten_pin(demo)?;
    show_keysets_and_tokens(demo)
}

fn an_authority(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "An authority is created",
        "Its keys are generated on its own token and never leave it. The first administrator gets \
         a letter.",
    )?;
    demo.pin("authority.pin", "authority-4711")?;
    demo.run(&[
        "authority",
        "init",
        "--config",
        "authority.toml",
        "--new-pin-source",
        "file:authority.pin",
        "--first-administrator",
        "admin@example.org",
        "--letter-out",
        "admin.letter",
    ])?;
    demo.serve(&["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"])
}

fn an_administrator(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The administrator enrolls",
        "An administrator is a user with a role, who has a keyset on a token and gives the PIN for\n\
         each command.",
    )?;
    demo.pin("admin.pin", "admin-0815")?;
    demo.run(&[
        "enroll",
        "--letter",
        "admin.letter",
        "--keyset",
        "admin",
        "--level",
        "high",
        "--new-token",
        "--new-pin-source",
        "file:admin.pin",
    ])
}

fn a_temporary_key(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The administrator issues a temporary key",
        "The command is signed on the administrator's token, with one PIN. Only the letter contains\n\
         the temporary key; the authority's database does not hold it in any form.",
    )?;
    demo.run(&[
        "admin",
        "issue",
        "user@example.org",
        "--name",
        "Example, User",
        "--keyset",
        "admin",
        "--pin-source",
        "file:admin.pin",
        "--letter-out",
        "user.letter",
    ])?;
    demo.show("user.letter")
}

fn an_enrollment(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The user enrolls into the keyset \"default\", with a new PIN",
        "The signing key is generated on the user's token. The encryption key is generated on the\n\
         authority's token, archived there, and sent to the user's token wrapped: from token to\n\
         token, never in the clear.",
    )?;
    demo.pin("pin1", "first-pin-1")?;
    demo.run(&["enroll", "--letter", "user.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin1"])
}

fn send_and_read(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The user sends and reads",
        "At level high each signature and each decryption asks for the PIN.",
    )?;
    demo.file("message.txt", MESSAGE)?;
    demo.run(&[
        "sign",
        "--keyset",
        "default",
        "--pin-source",
        "file:pin1",
        "--in",
        "message.txt",
        "--out",
        "signed.p7m",
    ])?;
    demo.run(&["verify", "--in", "signed.p7m", "--out", "verified.txt"])?;
    demo.assert_same("message.txt", "verified.txt")?;
    demo.run(&["encrypt", "--to", "user@example.org", "--in", "message.txt", "--out", "secret.p7m"])?;
    demo.run(&[
        "decrypt",
        "--keyset",
        "default",
        "--pin-source",
        "file:pin1",
        "--in",
        "secret.p7m",
        "--out",
        "read.txt",
    ])?;
    demo.assert_same("message.txt", "read.txt")
}

fn a_re_enrollment(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The user re-enrolls: with the PIN, or not at all",
        "With a wrong PIN nothing is sent, the temporary key is not used up, and the keyset works \
         as before.",
    )?;
    demo.run(&[
        "admin",
        "issue",
        "user@example.org",
        "--keyset",
        "admin",
        "--pin-source",
        "file:admin.pin",
        "--letter-out",
        "again.letter",
    ])?;
    let with =
        |pin| ["enroll", "--letter", "again.letter", "--keyset", "default", "--level", "high", "--pin-source", pin];
    demo.pin("wrong.pin", "not-the-pin")?;
    demo.run_until(Exit::Pin, &with("file:wrong.pin"))?;
    demo.run(&with("file:pin1"))
}

fn a_forgotten_pin(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The user forgets the PIN; the administrator recovers the user's keys",
        "The user runs the same command with another letter, for a new keyset with a new PIN. All\n\
         archived encryption keys are installed on the new token, and the old mail can be read\n\
         again.",
    )?;
    demo.run(&[
        "admin",
        "recover",
        "user@example.org",
        "--keyset",
        "admin",
        "--pin-source",
        "file:admin.pin",
        "--letter-out",
        "recovered.letter",
    ])?;
    demo.pin("pin2", "second-pin-2")?;
    demo.run(&[
        "enroll",
        "--letter",
        "recovered.letter",
        "--keyset",
        "second",
        "--level",
        "high",
        "--new-token",
        "--new-pin-source",
        "file:pin2",
    ])?;
    demo.run(&[
        "decrypt",
        "--keyset",
        "second",
        "--pin-source",
        "file:pin2",
        "--in",
        "secret.p7m",
        "--out",
        "old-mail.txt",
    ])?;
    demo.assert_same("message.txt", "old-mail.txt")
}

fn show_keysets_and_tokens(demo: &mut DemoEnvironment<'_>) -> Result<(), Failure> {
    demo.begin_section(
        "The result",
        "All keys and certificates are on the tokens; the home directory holds none of them.",
    )?;
    demo.pin("pin3", "third-pin-3")?;
    demo.run(&["pin", "change", "--keyset", "second", "--pin-source", "file:pin2", "--new-pin-source", "file:pin3"])?;
    demo.run(&["keysets"])?;
    demo.run(&["keyset", "show", "second"])?;
    demo.run(&["keyset", "delete", "default", "--yes", "--pin-source", "file:pin1"])?;
    demo.run(&["tokens"])?;
    demo.run(&["admin", "list", "--keyset", "admin", "--pin-source", "file:admin.pin"])
}
