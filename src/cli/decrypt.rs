//! `tokenkeep decrypt`: decrypts a message with one PIN. A signature inside the encryption is
//! verified and reported; the content is written as it was encrypted, for any program to read.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use clap::ValueHint;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::arguments::{KeysetArguments, MessageFiles, PinArguments};
use super::backend::NoTransport;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::expiry;
use super::file_io::{self, Content};
use super::mail_report::{MailReport, SenderArguments, unsigned_notes};
use super::terminal_prompter::TerminalPrompter;
use super::verify::{ca_anchors, malformed_message, report, sentence, with_known_anchors};
use crate::keyset::ops::DecryptContent;
use crate::keyset::{Attachments, KeysetChoice};
use crate::pki::Certificate;
use crate::smime::{
    self, Message, MessageFile, MessageFormat, MessageKind, SignatureVerdict, SmimeError, VerifiedMessage,
};

/// Arguments of `tokenkeep decrypt`.
#[derive(Debug, clap::Args)]
pub struct DecryptArguments {
    #[command(flatten)]
    files: MessageFiles,
    #[command(flatten)]
    which: KeysetArguments,
    /// Authority to trust for a signature inside, PEM or DER (may be repeated)
    ///
    /// The authorities of all present keysets are trusted, too.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Vec<PathBuf>,
    #[command(flatten)]
    sender: SenderArguments,
    #[command(flatten)]
    pin: PinArguments,
}

/// Decrypts, and verifies a signature inside.
pub fn run(arguments: &DecryptArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    file_io::check_message(cx.output, arguments.files.out(), Content::Decrypted)?;
    let ca_certificates = ca_anchors(&arguments.ca, cx)?;
    let mut input = file_io::open_content(arguments.files.input())?;
    // Before a PIN is asked for: what it is, and whether it is a message at all.
    let message = MessageFile::open(&mut input)?.about().clone();
    input.rewind().map_err(|error| Failure::fault(format!("cannot read the message: {error}")))?;
    let backend = cx.backend()?;
    let mut person = TerminalPrompter::new(cx.prompter(arguments.pin.pin_source.as_ref(), None)?, cx.output);
    let keyset = cx.choice(&arguments.which)?;
    let out = arguments.files.out();
    let output = file_io::unnamed_file(out, file_io::length_of(&input)?)?;
    let mut attachments = Attachments { input: Some(input), output: Some(output), ..Attachments::default() };
    let operation = DecryptContent { keyset: keyset.clone() };
    let by = backend.call_with(operation, &mut attachments, &mut person, &NoTransport)?;
    if let Ok(keyset) = backend.choose(&KeysetChoice { name: Some(by.keyset.clone()), ..keyset }) {
        expiry::warn(&keyset, cx.output, cx.now());
    }
    let decrypted = DecryptedContent::of(attachments.take_output()?, &message)?;
    let inside = match &decrypted {
        DecryptedContent::InMemory(content) => InnerSignature::read(&message, content, ca_certificates, cx),
        DecryptedContent::InFile(_) => InnerSignature::None,
    };
    let mut facts = vec![format!("Decrypted with keyset {:?}.", by.keyset.as_str())];
    if !by.integrity_protected && !inside.is_good() {
        facts.push("Not integrity-protected: only a signature inside can prove the sender and the content.".to_owned());
    }
    facts.extend(inside.facts(&message));
    let mut value = json!({ "keyset": by.keyset.as_str(), "integrity_protected": by.integrity_protected });
    inside.add_member(&mut value);
    let facts = facts.join("\n");
    let done = match decrypted {
        DecryptedContent::InFile(file) => {
            file_io::deliver_file(cx.output, out, file, Content::Decrypted, &facts, value)?
        }
        DecryptedContent::InMemory(content) => {
            let unpacked = match message.format {
                MessageFormat::Smime => smime::from_entity(&content).map(Zeroizing::new),
                MessageFormat::Der | MessageFormat::Pem => None,
            };
            let content = unpacked.as_ref().unwrap_or(&content);
            file_io::deliver_message(cx.output, out, content, Content::Decrypted, &facts, value)?
        }
    };
    inside.check(arguments.sender).map(|()| done)
}

/// The decrypted content. A long one stays in its file, unless it is signed or a mail.
enum DecryptedContent {
    InMemory(Zeroizing<Vec<u8>>),
    InFile(File),
}

impl DecryptedContent {
    /// Contents up to this length in bytes are read into memory.
    const MAX_IN_MEMORY: u64 = 8 * 1024 * 1024;

    /// Number of bytes that tell whether a content is a mail.
    const BEGINNING_BYTES: u64 = 64 * 1024;

    fn of(mut file: File, outer: &Message) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::fault(format!("cannot read the decrypted content: {error}"));
        let length = file.metadata().map_err(failed)?.len();
        file.rewind().map_err(failed)?;
        let mut beginning = Zeroizing::new(Vec::with_capacity(64 * 1024));
        file.by_ref().take(Self::BEGINNING_BYTES).read_to_end(&mut beginning).map_err(failed)?;
        file.rewind().map_err(failed)?;
        // To verify a signature inside, and to unpack a mail, all of it is needed.
        let is_whole_needed = length <= Self::MAX_IN_MEMORY
            || (outer.format == MessageFormat::Smime && smime::from_entity(&beginning).is_some())
            || !matches!(MessageFile::open(&mut file), Err(SmimeError::NoMessage(_)));
        if is_whole_needed { file_io::read_back(file).map(Self::InMemory) } else { Ok(Self::InFile(file)) }
    }
}

/// The verdict for a signature that cannot be read.
const UNCHECKED: &str = "unchecked";

/// The signature inside an encryption.
enum InnerSignature {
    None,
    /// The content is signed, but the signature cannot be read or checked.
    Unreadable(String),
    Read(Box<(VerifiedMessage, MailReport)>),
}

impl InnerSignature {
    /// Reads the decrypted content. Only its outermost structure decides whether it is signed: a
    /// body inside may quote a message that somebody else signed.
    fn read(outer: &Message, content: &[u8], ca_certificates: Vec<Certificate>, cx: &Context<'_>) -> Self {
        let message = match Message::read(content) {
            Ok(message) if message.kind == MessageKind::Signed => message,
            Ok(_) | Err(SmimeError::NoMessage(_)) => return Self::None,
            Err(error) => return Self::Unreadable(error.to_string()),
        };
        let verified = with_known_anchors(ca_certificates, cx)
            .and_then(|anchors| smime::verify(&message, None, &[], &anchors, cx.now()).map_err(malformed_message));
        match verified {
            Ok(verified) => {
                let facts = MailReport::of_signed_inside(outer, &message, &verified);
                Self::Read(Box::new((verified, facts)))
            }
            Err(failure) => Self::Unreadable(failure.message),
        }
    }

    /// Returns true if a good signature covers the whole content.
    fn is_good(&self) -> bool {
        matches!(self, Self::Read(read) if read.0.is_good() && read.1.is_whole())
    }

    /// The report for a person.
    fn facts(&self, outer: &Message) -> Vec<String> {
        match self {
            Self::None => unsigned_notes(outer),
            Self::Unreadable(reason) => vec![format!("The signature inside cannot be checked: {reason}")],
            Self::Read(read) => {
                let (verified, facts) = &**read;
                let signers = verified.signers.iter().map(sentence).collect::<Vec<_>>().join("\n");
                let how = if verified.is_good() { "Inside the encryption" } else { "Not verified" };
                vec![facts.append_to(format!("{how}: {signers}"))]
            }
        }
    }

    /// The report for programs: `signed`, null if the content is not signed.
    fn add_member(&self, value: &mut Value) {
        let signed = match self {
            Self::None => Value::Null,
            Self::Unreadable(reason) => json!({ "verified": false, "verdict": UNCHECKED, "problem": reason }),
            Self::Read(read) => {
                let (verified, facts) = &**read;
                let signers: Vec<_> = verified.signers.iter().map(report).collect();
                let mut signed = json!({
                    "verified": verified.is_good(),
                    "verdict": verified.word(),
                    "problem": null,
                    "signers": signers,
                });
                facts.add_members(&mut signed);
                signed
            }
        };
        if let Some(members) = value.as_object_mut() {
            members.insert("signed".to_owned(), signed);
        }
    }

    /// A bad or unreadable signature is an error, although the content has already been written. A
    /// signer from an unknown authority is no error: users must be able to read their mail.
    fn check(&self, sender: SenderArguments) -> Result<(), Failure> {
        let (verified, facts) = match self {
            Self::None => return Ok(()),
            Self::Unreadable(reason) => {
                let message = format!("decrypted, but the signature inside cannot be checked: {reason}");
                return Err(Failure::new(Exit::NotVerified, message).with_verdict(UNCHECKED));
            }
            Self::Read(read) => &**read,
        };
        let signers = verified.signers.iter().map(sentence).collect::<Vec<_>>().join("\n");
        if verified
            .signers
            .iter()
            .all(|signer| matches!(signer.verdict, SignatureVerdict::Good | SignatureVerdict::UnknownIssuer(_)))
        {
            return facts.check_sender(sender, &signers);
        }
        Err(facts.refused(format!("decrypted, but the signature inside is not verified: {signers}"), verified))
    }
}
