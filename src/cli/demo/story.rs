//! The steps of the demo, in their order.

use super::super::exit::{Exit, Failure};
use super::stage::Stage;

const MESSAGE: &str = "Dear colleague,\nthe meeting is at ten.\n";

/// Runs all steps, from the authority's first key to the old mail that is read with a new PIN.
pub fn tell(stage: &mut Stage<'_>) -> Result<(), Failure> {
    an_authority(stage)?;
    an_administrator(stage)?;
    a_temporary_key(stage)?;
    an_enrollment(stage)?;
    send_and_read(stage)?;
    a_re_enrollment(stage)?;
    a_forgotten_pin(stage)?;
    what_there_is(stage)
}

fn an_authority(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "An authority is created",
        "Its keys are generated on its own token and never leave it. The first administrator gets \
         a letter.",
    )?;
    stage.pin("authority.pin", "authority-4711")?;
    stage.run(&[
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
    stage.serve(&["authority", "serve", "--config", "authority.toml", "--pin-source", "file:authority.pin"])
}

fn an_administrator(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "The administrator enrolls",
        "An administrator is a user with a role, who has a keyset on a token and gives the PIN for\n\
         each command.",
    )?;
    stage.pin("admin.pin", "admin-0815")?;
    stage.run(&[
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

fn a_temporary_key(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "The administrator issues a temporary key",
        "The command is signed on the administrator's token, with one PIN. Only the letter contains\n\
         the temporary key; the authority's database does not hold it in any form.",
    )?;
    stage.run(&[
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
    stage.show("user.letter")
}

fn an_enrollment(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "The user enrolls into the keyset \"default\", with a new PIN",
        "The signing key is generated on the user's token. The encryption key is generated on the\n\
         authority's token, archived there, and sent to the user's token wrapped: from token to\n\
         token, never in the clear.",
    )?;
    stage.pin("pin1", "first-pin-1")?;
    stage.run(&["enroll", "--letter", "user.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin1"])
}

fn send_and_read(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene("The user sends and reads", "At level high each signature and each decryption asks for the PIN.")?;
    stage.file("message.txt", MESSAGE)?;
    stage.run(&[
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
    stage.run(&["verify", "--in", "signed.p7m", "--out", "verified.txt"])?;
    stage.same("message.txt", "verified.txt")?;
    stage.run(&["encrypt", "--to", "user@example.org", "--in", "message.txt", "--out", "secret.p7m"])?;
    stage.run(&[
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
    stage.same("message.txt", "read.txt")
}

fn a_re_enrollment(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "The user re-enrolls: with the PIN, or not at all",
        "With a wrong PIN nothing is sent, the temporary key is not used up, and the keyset works \
         as before.",
    )?;
    stage.run(&[
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
    stage.pin("wrong.pin", "not-the-pin")?;
    stage.run_until(Exit::Pin, &with("file:wrong.pin"))?;
    stage.run(&with("file:pin1"))
}

fn a_forgotten_pin(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene(
        "The user forgets the PIN; the administrator recovers the user's keys",
        "The user runs the same command with another letter, for a new keyset with a new PIN. All\n\
         archived encryption keys are installed on the new token, and the old mail can be read\n\
         again.",
    )?;
    stage.run(&[
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
    stage.pin("pin2", "second-pin-2")?;
    stage.run(&[
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
    stage.run(&[
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
    stage.same("message.txt", "old-mail.txt")
}

fn what_there_is(stage: &mut Stage<'_>) -> Result<(), Failure> {
    stage.scene("The result", "All keys and certificates are on the tokens; the home directory holds none of them.")?;
    stage.pin("pin3", "third-pin-3")?;
    stage.run(&[
        "pin",
        "change",
        "--keyset",
        "second",
        "--pin-source",
        "file:pin2",
        "--new-pin-source",
        "file:pin3",
    ])?;
    stage.run(&["keysets"])?;
    stage.run(&["keyset", "show", "second"])?;
    stage.run(&["keyset", "delete", "default", "--yes", "--pin-source", "file:pin1"])?;
    stage.run(&["tokens"])?;
    stage.run(&["admin", "list", "--keyset", "admin", "--pin-source", "file:admin.pin"])
}
