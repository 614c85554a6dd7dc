//! `tokenkeep sign`: signs a file with one PIN.

use serde_json::json;

use super::arguments::{FormatArgument, KeysetArguments, MessageFiles, PinArguments};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::terminal_prompter::TerminalPrompter;
use crate::keyset::SignOptions;
use crate::smime::{self, Message};

/// Arguments of `tokenkeep sign`.
#[derive(Debug, clap::Args)]
pub struct SignArguments {
    #[command(flatten)]
    files: MessageFiles,
    /// Make a detached signature, without the content
    ///
    /// With --format smime, the message has the readable content before the signature.
    #[arg(long)]
    detached: bool,
    /// Format of the signed message
    #[arg(long, value_name = "FORM", default_value = "der")]
    format: FormatArgument,
    #[command(flatten)]
    which: KeysetArguments,
    #[command(flatten)]
    pin: PinArguments,
}

/// Signs one file.
pub fn run(arguments: &SignArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let content = if arguments.format == FormatArgument::Der { Content::Binary } else { Content::Text };
    file_io::check_message(cx.output, arguments.files.out(), content)?;
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &arguments.which)?;
    let mut input = file_io::read(arguments.files.input())?;
    if arguments.format == FormatArgument::Smime {
        input = smime::to_entity(&input);
    }
    let mut person = TerminalPrompter::new(cx.prompter(arguments.pin.pin_source.as_ref(), None)?, cx.output);
    let options = SignOptions { detached: arguments.detached };
    let cms = backend.sign(&keyset, &input, options, &mut person, cx.now())?;
    let detached = arguments.detached.then_some(input.as_slice());
    let signed = Message::write(&cms, arguments.format.into(), detached)?;
    file_io::deliver_message(
        cx.output,
        arguments.files.out(),
        &signed,
        content,
        &format!("Signed with keyset {:?}.", keyset.name.as_str()),
        json!({ "keyset": keyset.name.as_str(), "detached": arguments.detached }),
    )
}
