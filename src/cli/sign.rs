//! `tokenkeep sign`: signs a file with one PIN.

use std::io::Seek;

use serde_json::json;

use super::arguments::{FormatArgument, KeysetArguments, MessageFiles, PinArguments};
use super::backend::NoTransport;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::terminal_prompter::TerminalPrompter;
use crate::keyset::ops::SignContent;
use crate::keyset::{Attachments, KeysetChoice};
use crate::smime::{self, Message, MessageFormat};

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
    // A mail becomes canonical before it is signed, and so is in memory as a whole.
    let mail = match arguments.format {
        FormatArgument::Smime => Some(smime::to_entity(&file_io::read(arguments.files.input())?)),
        FormatArgument::Der | FormatArgument::Pem => None,
    };
    let input = match &mail {
        Some(mail) => file_io::content_file(mail)?,
        None => file_io::open_content(arguments.files.input())?,
    };
    let out = arguments.files.out();
    let mut person = TerminalPrompter::new(cx.prompter(arguments.pin.pin_source.as_ref(), None)?, cx.output);
    let output = file_io::unnamed_file(out, file_io::length_of(&input)?)?;
    let mut attachments = Attachments { input: Some(input), output: Some(output), ..Attachments::default() };
    let operation = SignContent { keyset: KeysetChoice::exactly(&keyset), detached: arguments.detached };
    backend.call_with(operation, &mut attachments, &mut person, &NoTransport)?;
    let mut cms = attachments.take_output()?;
    let facts = format!("Signed with keyset {:?}.", keyset.name.as_str());
    let value = json!({ "keyset": keyset.name.as_str(), "detached": arguments.detached });
    match arguments.format {
        FormatArgument::Der => file_io::deliver_file(cx.output, out, cms, content, &facts, value),
        FormatArgument::Pem => {
            let mut pem = file_io::unnamed_file(out, file_io::length_of(&cms)?)?;
            cms.rewind()
                .and_then(|()| Message::write_pem(&mut cms, &mut pem))
                .map_err(|error| Failure::fault(format!("cannot write a temporary file: {error}")))?;
            file_io::deliver_file(cx.output, out, pem, content, &facts, value)
        }
        FormatArgument::Smime => {
            let detached = mail.as_deref().filter(|_| arguments.detached);
            let signed = Message::write(&file_io::read_back(cms)?, MessageFormat::Smime, detached)?;
            file_io::deliver_message(cx.output, out, &signed, content, &facts, value)
        }
    }
}
