//! `tokenkeep enroll`: creates a keyset on a token with a letter.

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::json;

use super::arguments::{AuthorityUrls, NewPinArguments, PinArguments};
use super::backend::Backend;
use super::clock;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::hidden_keysets::HiddenKeysets;
use super::interrupt;
use super::terminal_prompter::TerminalPrompter;
use crate::agent::ssh;
use crate::keyset::ops::Enroll;
use crate::keyset::{
    self, Attachments, CertificateUse, EnrollOptions, Enrolled, FoundKeyset, KeysetHolder, KeysetRef, TokenSelector,
};
use crate::letter::Letter;
use crate::pki::Certificate;
use crate::prompter::{PinSource, showable};
use crate::token::{KeysetName, SecurityLevel};
use crate::transport::HttpTransport;

/// Arguments of `tokenkeep enroll`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Run the same command with the same letter to resume an interrupted enrollment.\n\
                        An existing keyset of that name is re-enrolled after its PIN is verified.")]
pub struct EnrollArguments {
    /// Letter to enroll with; - is stdin
    ///
    /// An administrator makes it with `tokenkeep admin issue` or `tokenkeep admin recover`.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    letter: PathBuf,
    /// Keyset to create or to re-enroll
    #[arg(long, value_name = "NAME", default_value = "default")]
    keyset: KeysetName,
    /// When the keys require the PIN: high, medium or low
    ///
    /// high: for every use. medium: once per session, and a confirmation for each later use. low:
    /// once per session. Only the agent keeps sessions; without it, a command asks once at medium
    /// and low.
    ///
    /// Default: the level of the existing keyset, else the strictest level that the letter allows.
    #[arg(long, value_name = "LEVEL")]
    level: Option<SecurityLevel>,
    /// Create a new token for the keyset, in this module if one is given
    ///
    /// MODULE is the path of a loaded PKCS#11 module (see --module). Default: the only module that
    /// can create tokens.
    #[arg(long, value_name = "MODULE", num_args = 0..=1, require_equals = true, conflicts_with = "token")]
    #[allow(clippy::option_option, reason = "not given; given; given with a module")]
    new_token: Option<Option<PathBuf>>,
    /// Token for the keyset: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    token: Option<TokenSelector>,
    #[command(flatten)]
    pin: PinArguments,
    #[command(flatten)]
    new_pin: NewPinArguments,
    /// Source of an SO PIN for the new token [default: random, not kept]
    ///
    /// prompt, file:PATH, fd:N or credential:NAME. With an SO PIN, `tokenkeep pin unblock` can set
    /// a new PIN. With the default it cannot: nobody knows the SO PIN.
    #[arg(long, value_name = "SOURCE", requires = "new_token")]
    so_pin_source: Option<PinSource>,
    /// Allow a letter for another person than the keyset's
    ///
    /// The keyset then belongs to the person of the letter. Its old signing key is destroyed. Its
    /// old encryption keys stay, so the new person can decrypt the previous person's mail.
    #[arg(long)]
    replace_person: bool,
    #[command(flatten)]
    authority: AuthorityUrls,
}

/// Enrolls, with progress and warnings on stderr.
pub fn run(arguments: &EnrollArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let letter = read_letter(&arguments.letter)?;
    let http = arguments.authority.http.as_deref().unwrap_or(&letter.http_url);
    let https = arguments.authority.https.as_deref().unwrap_or(&letter.https_url);
    let transport = HttpTransport::new(http, https, letter.ca_fingerprint)?;
    let backend = cx.backend()?;
    let options = EnrollOptions {
        keyset: arguments.keyset.clone(),
        level: arguments.level,
        new_token: arguments.new_token.clone().map(|place| match place {
            Some(path) => keyset::NewToken::In(path),
            None => keyset::NewToken::Anywhere,
        }),
        token: arguments.token.clone(),
        so_pin: arguments.so_pin_source.is_some(),
        replace_person: arguments.replace_person,
    };
    let mut person = person(arguments, cx)?;
    // Before any PIN is asked for, so that a person with somebody else's letter notices.
    cx.output.note(showable(&format!(
        "Enrolling {} at {:?} into the keyset {:?} \u{2026}",
        KeysetHolder::of_letter(&letter),
        letter.authority_name,
        arguments.keyset.as_str()
    )));
    interrupt::set_message("not enrolled: interrupted; run the same command with the same letter to resume");
    let mut attachments = Attachments::of_secret(letter.to_text().as_bytes());
    let enrolled = backend
        .call_with(Enroll { options }, &mut attachments, &mut person, &transport)
        .map_err(|failure| clock::explain_clock_error(failure, &transport, cx.now()))
        .map_err(|failure| if_hidden(failure, &arguments.keyset, &backend))?;
    interrupt::set_message("enrolled, but interrupted before the report: `tokenkeep keysets` lists the keyset");
    show_again(&enrolled.keyset, cx);
    render(&enrolled, cx)
}

/// Explains a failure with a hidden keyset of that name, which no list shows.
fn if_hidden(failure: Failure, name: &KeysetName, backend: &Backend) -> Failure {
    let hidden = HiddenKeysets::of_this_user().list().unwrap_or_default();
    if failure.remedy.is_some() || !hidden.iter().any(|hidden| hidden.keyset == *name) {
        return failure;
    }
    let is_meant = |keyset: &FoundKeyset| keyset.name == *name && HiddenKeysets::is_hidden(&hidden, keyset);
    if !backend.keysets().is_ok_and(|(keysets, _)| keysets.iter().any(is_meant)) {
        return failure;
    }
    failure.with_remedy(format!(
        "the keyset {:?} is hidden on this machine (`tokenkeep keyset forget`): `tokenkeep keysets \
         --all` lists it",
        name.as_str()
    ))
}

/// A keyset that has just been enrolled is no longer hidden.
fn show_again(keyset: &FoundKeyset, cx: &Context<'_>) {
    if let Err(failure) = HiddenKeysets::of_this_user().set(&KeysetRef::of(keyset), false) {
        cx.output.warning(failure.message);
    }
}

fn person<'a>(arguments: &EnrollArguments, cx: &Context<'a>) -> Result<TerminalPrompter<'a>, Failure> {
    let new_pin = arguments.new_pin.new_pin_source.as_ref().unwrap_or(&PinSource::Prompt);
    let prompter = cx.prompter(arguments.pin.pin_source.as_ref(), Some(new_pin))?;
    let person = TerminalPrompter::new(prompter, cx.output).resuming(cx.prompter(Some(new_pin), None)?);
    Ok(match &arguments.so_pin_source {
        Some(source) => person.with_so_pin(cx.prompter(Some(&PinSource::Prompt), Some(source))?),
        None => person,
    })
}

/// Reads a letter from a file, or from stdin for `-`.
pub fn read_letter(path: &Path) -> Result<Letter, Failure> {
    if path == Path::new("-") {
        return Ok(Letter::read(io::stdin().lock(), "standard input")?);
    }
    Ok(Letter::read_file(path)?)
}

fn render(enrolled: &Enrolled, cx: &Context<'_>) -> Result<Exit, Failure> {
    let keyset = &enrolled.keyset;
    let token = keyset.token.name();
    let keys = match enrolled.encryption_keys {
        0 => "a signing key".to_owned(),
        1 => "a signing key and an encryption key".to_owned(),
        several => format!("a signing key and {several} encryption keys"),
    };
    let what = if enrolled.reenrolled { "Re-enrolled" } else { "Enrolled" };
    let holder = enrolled.holder.as_ref().map(|holder| format!(" {holder}:")).unwrap_or_default();
    let mut lines = vec![showable(&format!(
        "{what}{holder} keyset {:?} at level {}: {keys}, on {token}.",
        keyset.name.as_str(),
        keyset.level,
    ))];
    lines.extend(enrolled.supersedes.iter().map(|old| {
        showable(&format!(
            "It supersedes the keyset {:?} on {}, which still decrypts; sign with {:?} from now \
             on.",
            old.name.as_str(),
            old.token.name(),
            keyset.name.as_str()
        ))
    }));
    let ssh = ssh_public_key(enrolled);
    if let Some(line) = ssh.as_ref().filter(|_| enrolled.reenrolled || !enrolled.supersedes.is_empty()) {
        lines.push("The signing key is new. Where SSH servers have the old key, replace it with this line:".to_owned());
        lines.push(showable(line));
    }
    cx.output.answer(
        lines.join("\n"),
        &json!({
            "keyset": keyset.name.as_str(),
            "level": keyset.level.to_string(),
            "token": { "label": token.label, "serial": token.serial },
            "reenrolled": enrolled.reenrolled,
            "resumed": enrolled.resumed,
            "encryption_keys": enrolled.encryption_keys,
            "person": enrolled.holder.as_ref().map(|holder| json!({ "name": holder.name, "emails": holder.emails })),
            "supersedes": enrolled.supersedes.iter().map(|old| old.name.as_str()).collect::<Vec<_>>(),
            "ssh_public_key": ssh,
        }),
    )
}

/// The signing key as an SSH public key line, with the comment that the agent lists it under.
fn ssh_public_key(enrolled: &Enrolled) -> Option<String> {
    let details = keyset::show(&enrolled.keyset).ok()?;
    let signing = details.certificates.iter().find(|summary| summary.certificate_use == CertificateUse::Signing)?;
    let public_key = Certificate::from_der(&signing.der).ok()?.public_key_der().ok()?;
    let user = signing.emails.first().unwrap_or(&signing.subject);
    ssh::public_key_line(&public_key, &format!("{} {user}", enrolled.keyset.name.as_str()))
}
