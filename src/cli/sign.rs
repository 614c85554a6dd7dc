//! `tokenkeep sign`: signs a file with one PIN.

use serde_json::json;

use super::arguments::{ExistingPin, Files, FormatName, WhichKeyset};
use super::exit::{Exit, Failure};
use super::message;
use super::output::{self, Content};
use super::person::AtTheCommandLine;
use super::surroundings::Surroundings;
use crate::keyset::SignOptions;
use crate::smime::{self, Message};

/// Arguments of `tokenkeep sign`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Make a detached signature, without the content
    ///
    /// With --format smime, the message has the readable content before the signature.
    #[arg(long)]
    detached: bool,
    /// Format of the signed message
    #[arg(long, value_name = "FORM", default_value = "der")]
    format: FormatName,
    #[command(flatten)]
    which: WhichKeyset,
    #[command(flatten)]
    pin: ExistingPin,
}

/// Signs one file.
pub fn run(arguments: &Arguments, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let content = if arguments.format == FormatName::Der { Content::Binary } else { Content::Text };
    message::check(around.screen, arguments.files.out(), content)?;
    let desk = around.desk()?;
    let keyset = around.keyset(&desk, &arguments.which)?;
    let mut input = output::read(arguments.files.input())?;
    if arguments.format == FormatName::Smime {
        input = smime::to_entity(&input);
    }
    let mut person = AtTheCommandLine::new(around.prompter(arguments.pin.pin_source.as_ref(), None)?, around.screen);
    let options = SignOptions { detached: arguments.detached };
    let cms = desk.sign(&keyset, &input, options, &mut person, around.now())?;
    let detached = arguments.detached.then_some(input.as_slice());
    let signed = Message::write(&cms, arguments.format.into(), detached)?;
    message::deliver(
        around.screen,
        arguments.files.out(),
        &signed,
        content,
        &format!("Signed with keyset {:?}.", keyset.name.as_str()),
        json!({ "keyset": keyset.name.as_str(), "detached": arguments.detached }),
    )
}
