//! `tokenkeep verify`: verifies a signed message, and writes its content and its signers. Needs no
//! PIN and no keyset.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::{Value, json};

use super::arguments::MessageFiles;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::mail_report::{self, MailReport};
use super::output::Output;
use super::person_name::named_with_addresses;
use crate::keyset::Trust;
use crate::pki::Certificate;
use crate::pki::certificate_file::CertificateFile;
use crate::smime::{self, Message, MessageFormat, SignatureVerdict, SignerReport, SmimeError};

/// Arguments of `tokenkeep verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    files: MessageFiles,
    /// Content of a detached signature
    ///
    /// For a signature in DER or PEM without content; a multipart/signed message has its own. If
    /// the signature does not match the file, it is also tried with CR LF line ends, as in mail.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    content: Option<PathBuf>,
    /// Authority to trust, PEM or DER (may be repeated)
    ///
    /// The authorities of all present keysets are trusted, too. A person's certificate is trusted
    /// for that person only.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Vec<PathBuf>,
    #[command(flatten)]
    sender: mail_report::SenderArguments,
}

/// Verifies. If the verification fails, nothing is written, and the exit code is 8.
pub fn run(arguments: &VerifyArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    file_io::check_message(cx.output, arguments.files.out(), Content::Decrypted)?;
    let anchors = anchors(&arguments.ca, cx)?;
    let message = Message::read(&file_io::read(arguments.files.input())?).map_err(malformed_message)?;
    let detached = arguments.content.as_deref().map(|path| file_io::read(Some(path))).transpose()?;
    let verify = |content: Option<&[u8]>| smime::verify(&message, content, &[], &anchors, cx.now());
    let mut verified = verify(detached.as_deref()).map_err(malformed_message)?;
    // Mail is signed with CR LF; a file saved from it has the line ends of this system.
    let canonical = detached.as_deref().map(smime::to_canonical_lines).filter(|_| verified.word() == "wrong");
    let with_canonical = canonical.and_then(|content| verify(Some(&content)).ok());
    let with_canonical = with_canonical.filter(|verified| verified.word() != "wrong");
    let has_other_lines = with_canonical.is_some();
    verified = with_canonical.unwrap_or(verified);
    let facts = MailReport::of_signed(&message, &verified);
    let signers = verified.signers.iter().map(sentence).collect::<Vec<_>>().join("\n");
    if !verified.is_good() {
        return Err(facts.refused(format!("not verified: {signers}"), &verified));
    }
    facts.check_sender(arguments.sender, &signers)?;
    let content = match message.format {
        MessageFormat::Smime => smime::from_entity(&verified.content).unwrap_or(verified.content),
        MessageFormat::Der | MessageFormat::Pem => verified.content,
    };
    let mut value = json!({
        "verified": true,
        "signers": verified.signers.iter().map(report).collect::<Vec<_>>(),
        "line_ends_changed": has_other_lines,
    });
    facts.add_members(&mut value);
    let mut signers = facts.append_to(signers);
    if has_other_lines {
        signers
            .push_str("\nThe signature covers the content with CR LF line ends, as in mail; it was verified that way.");
    }
    if detached.is_some() && arguments.files.out().is_none() {
        // The caller has the content already.
        return cx.output.answer(signers, &value);
    }
    file_io::deliver_message(cx.output, arguments.files.out(), &content, Content::Binary, &signers, value)
}

/// A truncated or malformed message counts as not verified, not as a fault.
pub fn malformed_message(error: SmimeError) -> Failure {
    let failure = match error {
        SmimeError::Pki(error) => Failure::new(Exit::NotVerified, error.to_string()),
        other => other.into(),
    };
    if failure.exit == Exit::NotVerified { failure.with_verdict("unreadable") } else { failure }
}

/// The authorities in the files of `--ca`.
pub fn ca_anchors(ca: &[PathBuf], cx: &Context<'_>) -> Result<Vec<Certificate>, Failure> {
    let files = ca.iter().map(|path| read_authorities(path, cx.output)).collect::<Result<Vec<_>, _>>()?;
    Ok(files.into_iter().flatten().collect())
}

/// The certificates of authorities to trust in a file (`--ca`). A file without a certificate is a
/// usage error; an unreadable certificate beside readable ones is a warning.
fn read_authorities(path: &Path, output: &Output) -> Result<Vec<Certificate>, Failure> {
    let named = |reason: String| Failure::usage(format!("cannot read the authorities in {}: {reason}", path.display()));
    let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
    let file = CertificateFile::read(&bytes).map_err(|error| named(error.reason()))?;
    for unreadable in &file.unreadable {
        output.warning(format!("ignored an unreadable certificate in {}: {unreadable}", path.display()));
    }
    Ok(file.certificates)
}

/// The authorities in the files of `--ca`, and those of all present keysets.
pub fn anchors(ca: &[PathBuf], cx: &Context<'_>) -> Result<Vec<Certificate>, Failure> {
    with_known_anchors(ca_anchors(ca, cx)?, cx)
}

/// These authorities, and those of all present keysets.
pub fn with_known_anchors(mut anchors: Vec<Certificate>, cx: &Context<'_>) -> Result<Vec<Certificate>, Failure> {
    // If authorities were given, tokens are optional.
    let trust = if anchors.is_empty() {
        Some(cx.backend()?.trust()?)
    } else {
        cx.optional_backend().and_then(|backend| backend.trust().ok())
    };
    for der in trust.iter().flat_map(Trust::anchors) {
        anchors.push(Certificate::from_der(&der)?);
    }
    if anchors.is_empty() {
        return Err(Failure::absent("cannot verify: no authority is known here")
            .with_remedy("enroll, insert a token with a keyset, or name the authority's certificate with --ca"));
    }
    Ok(anchors)
}

/// A sentence about one signer, for people.
pub fn sentence(signer: &SignerReport) -> String {
    // The names come from the certificate; they must not break out of the sentence.
    let who = named_with_addresses(&signer.name, &signer.emails);
    let when = signer.signing_time.map(|time| format!(", claimed time {time}")).unwrap_or_default();
    match problem(&signer.verdict) {
        None => format!("Signed by {who}{when}."),
        Some(problem) => format!("signature claimed to be by {who}: {problem}"),
    }
}

/// The reason for a verdict that is not good.
fn problem(verdict: &SignatureVerdict) -> Option<String> {
    Some(match verdict {
        SignatureVerdict::Good => return None,
        SignatureVerdict::SignatureWrong { reason } => format!("the signature is wrong: {reason}"),
        SignatureVerdict::Unchecked { reason } => format!("cannot be checked: {reason}"),
        SignatureVerdict::NoCertificate => "cannot be checked: the signer's certificate is missing".to_owned(),
        SignatureVerdict::Expired { problem, good_at_signing_time: true } => {
            format!("{problem}; at the claimed signing time everything was valid")
        }
        SignatureVerdict::UnknownIssuer(problem)
        | SignatureVerdict::NotTrusted(problem)
        | SignatureVerdict::Expired { problem, .. } => problem.to_string(),
    })
}

pub fn report(signer: &SignerReport) -> Value {
    json!({
        "name": signer.name,
        "emails": signer.emails,
        "signing_time": signer.signing_time.map(|time| time.to_string()),
        "certificate_sha256": signer.certificate.as_ref().map(|certificate| certificate.fingerprint().to_hex()),
        "verdict": signer.verdict.word(),
        "problem": problem(&signer.verdict),
    })
}
