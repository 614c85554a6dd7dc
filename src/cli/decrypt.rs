//! `tokenkeep decrypt`: an encrypted message in, its content out; one PIN.

use serde_json::json;

use super::arguments::{ExistingPin, Files, WhichKeyset};
use super::exit::{Exit, Failure};
use super::message;
use super::output::{self, Content};
use super::person::AtTheCommandLine;
use super::surroundings::Surroundings;
use crate::smime::{self, Format, Message};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    which: WhichKeyset,
    #[command(flatten)]
    pin: ExistingPin,
}

/// Decrypts.
pub fn run(arguments: &Arguments, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    message::check(around.screen, arguments.files.out(), Content::Decrypted)?;
    let message = Message::read(&output::read(arguments.files.input())?)?;
    let desk = around.desk()?;
    let mut person = AtTheCommandLine::new(around.prompter(arguments.pin.pin_source.as_ref(), None)?, around.screen);
    let decrypted = desk.decrypt(&around.choice(&arguments.which)?, &message.cms, &mut person)?;
    let unpacked = match message.format {
        Format::Smime => smime::from_entity(&decrypted.content).map(zeroize::Zeroizing::new),
        Format::Der | Format::Pem => None,
    };
    let content = unpacked.as_ref().unwrap_or(&decrypted.content);
    let mut facts = format!("Decrypted with keyset {:?}.", decrypted.keyset);
    if !decrypted.integrity_protected {
        facts.push_str(
            "\nNot integrity-protected: who sent it, and that nobody changed it, only a signature inside can tell.",
        );
    }
    message::deliver(
        around.screen,
        arguments.files.out(),
        content,
        Content::Decrypted,
        &facts,
        json!({ "keyset": decrypted.keyset, "integrity_protected": decrypted.integrity_protected }),
    )
}
