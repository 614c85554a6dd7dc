//! `tokenkeep git-sign`: signs and verifies for git, with the interface of gpgsm that git uses for
//! `gpg.format=x509`.
//!
//! Git calls one program without a subcommand: a link to `tokenkeep` whose name ends in `git-sign`.
//! To sign, git passes `--status-fd=2 -bsau KEYID` and the commit on stdin, and expects a detached
//! signature in PEM on stdout. To verify, it passes `--status-fd=1 --verify FILE -`. Git relies on
//! the status lines (GnuPG's doc/DETAILS), so a line that means "good" is written only if
//! `tokenkeep verify` would accept the signature, too.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use der::pem::LineEnding;
use jiff::Timestamp;

use super::arguments::{KeysetArguments, PinArguments};
use super::backend::{Backend, NoTransport};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::expiry;
use super::file_io::{self, Content};
use super::person_name::without_addresses;
use super::startup;
use super::terminal_prompter::TerminalPrompter;
use super::verify::{anchors, sentence};
use crate::keyset::ops::SignContent;
use crate::keyset::{self, Attachments, FoundKeyset, KeysetChoice, KeysetError};
use crate::pki::oid::ContentType;
use crate::pki::{Certificate, Fingerprint, same_address};
use crate::prompter::showable;
use crate::smime::{self, Message, SignatureVerdict, SignerReport, VerifiedMessage};
use crate::token::{KeyAlgorithm, KeysetName};

/// The subcommand, and the end of the program name that selects it.
const NAME: &str = "git-sign";

/// gpgsm's PEM label of a signature, by which git tells S/MIME from OpenPGP.
const LABEL: &str = "SIGNED MESSAGE";

/// Arguments of `tokenkeep git-sign`: gpgsm's options that git uses.
#[derive(Debug, clap::Args)]
pub struct GitSignArguments {
    /// File descriptor for status lines
    #[arg(long, value_name = "FD")]
    status_fd: Option<u32>,
    /// Sign the content of stdin
    #[arg(short, long, conflicts_with = "verify", required_unless_present = "verify")]
    sign: bool,
    /// Make a detached signature; always on
    #[arg(short = 'b', long = "detach-sign")]
    _detached: bool,
    /// Write the signature as PEM; always on
    #[arg(short = 'a', long = "armor")]
    _armor: bool,
    /// Keyset, e-mail address or SHA-256 of the certificate to sign with
    ///
    /// Default: the same keyset as `tokenkeep sign`.
    #[arg(short = 'u', long, value_name = "KEYID")]
    local_user: Option<String>,
    /// Verify a signature file over a content file; - is stdin
    #[arg(long, num_args = 2, value_names = ["SIGNATURE", "CONTENT"], value_hint = ValueHint::FilePath)]
    verify: Vec<PathBuf>,
    /// Authority to trust, PEM or DER (may be repeated)
    ///
    /// The authorities of all present keysets are trusted, too.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Vec<PathBuf>,
    #[command(flatten)]
    pin: PinArguments,
}

/// The command line, with the subcommand inserted if the program's name selects it.
pub fn with_verb(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let name = arguments.first().and_then(|name| Path::new(name).file_name()).map(|name| name.to_string_lossy());
    if name.is_some_and(|name| name.ends_with(NAME)) {
        arguments.insert(1, NAME.into());
    }
    arguments
}

/// Signs, or verifies with `--verify`.
pub fn run(arguments: &GitSignArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let mut status = StatusLines::to(arguments.status_fd)?;
    match arguments.verify.as_slice() {
        [signature, content] => verify(signature, content, arguments, &mut status, cx),
        _ => sign(arguments, &mut status, cx),
    }
}

fn sign(arguments: &GitSignArguments, status: &mut StatusLines, cx: &Context<'_>) -> Result<Exit, Failure> {
    let backend = cx.backend()?;
    let keyset = match &arguments.local_user {
        Some(signer) => {
            let keyset = keyset_of(signer, &backend, cx)?;
            expiry::warn(&keyset, cx.output, cx.now());
            keyset
        }
        None => cx.keyset(&backend, &KeysetArguments { keyset: None, token: None })?,
    };
    let input = file_io::open_content(None)?;
    let output = file_io::unnamed_file(None, file_io::length_of(&input)?)?;
    let mut attachments = Attachments { input: Some(input), output: Some(output), ..Attachments::default() };
    let mut person = TerminalPrompter::new(cx.prompter(arguments.pin.pin_source.as_ref(), None)?, cx.output);
    let operation = SignContent { keyset: KeysetChoice::exactly(&keyset), detached: true };
    backend.call_with(operation, &mut attachments, &mut person, &NoTransport)?;
    let cms = file_io::read_back(attachments.take_output()?)?;
    let text = der::pem::encode_string(LABEL, LineEnding::LF, &cms)
        .map_err(|error| Failure::fault(format!("cannot write the signature: {error}")))?;
    file_io::write(None, text.as_bytes(), Content::Text)?;
    let (algorithm, fingerprint) = match signing_certificate(&keyset) {
        Some(certificate) => (numbers_of(&certificate), fingerprint(&certificate)),
        None => ("0 0", String::new()),
    };
    status.say(&format!("SIG_CREATED D {algorithm} 00 {} {fingerprint}", cx.now().as_second()))?;
    Ok(Exit::Done)
}

fn verify(
    signature: &Path,
    content: &Path,
    arguments: &GitSignArguments,
    status: &mut StatusLines,
    cx: &Context<'_>,
) -> Result<Exit, Failure> {
    let anchors = anchors(&arguments.ca, cx)?;
    // Git searches for the good-signature line after a line break, so it must not be the first
    // line.
    status.say("NEWSIG")?;
    let (signature, content) = (file_io::read(Some(signature))?, file_io::read(Some(content))?);
    let verified = match verify_content(&signature, &content, &anchors, cx.now()) {
        Ok(verified) => verified,
        Err(reason) => {
            status.say("ERRSIG 0000000000000000 0 0 00 0 4")?;
            return Err(Failure::new(Exit::NotVerified, format!("not verified: {reason}")));
        }
    };
    // Git supports one signature, and picks an arbitrary one of several status lines: report the
    // worst signer for all.
    for line in verified.worst().map(lines_of).unwrap_or_default() {
        status.say(&line)?;
    }
    let report = verified.signers.iter().map(sentence).collect::<Vec<_>>().join("\n");
    if !verified.is_good() {
        return Err(Failure::new(Exit::NotVerified, format!("not verified: {report}")));
    }
    cx.output.note(report);
    Ok(Exit::Done)
}

/// Verifies a signature from git. Content inside the signature must equal git's content. Another
/// content type than data (an administrator's command) is refused, and so is anything beside the
/// signature.
fn verify_content(
    signature: &[u8],
    content: &[u8],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<VerifiedMessage, String> {
    let message = Message::read(signature).map_err(|error| error.to_string())?;
    if let Some(outside) = message.outside.first() {
        return Err(format!("the signature is not alone: it comes with {outside}"));
    }
    let verified = smime::verify(&message, Some(content), &[], anchors, now).map_err(|error| error.to_string())?;
    if verified.content_type == ContentType::DATA {
        Ok(verified)
    } else {
        Err(format!("it is a signature over content of the type {}, not over data", verified.content_type))
    }
}

/// The status lines for git about one signer.
fn lines_of(signer: &SignerReport) -> Vec<String> {
    let id = signer.certificate.as_ref().map_or_else(|| "0".repeat(16), fingerprint);
    // The name must stay on one line, whatever the certificate contains.
    let name = without_addresses(&signer.name);
    let who = match signer.emails.as_slice() {
        [] => format!("{id} {name}"),
        emails => format!("{id} {name} <{}>", showable(&emails.join("> <"))),
    };
    let when = signer.signing_time.map_or(0, Timestamp::as_second);
    let valid = format!("VALIDSIG {id} {} {when} 0 0 0 0 0 00 {id}", date(signer));
    match &signer.verdict {
        SignatureVerdict::Good => vec![format!("GOODSIG {who}"), valid, "TRUST_FULLY 0 shell".to_owned()],
        SignatureVerdict::SignatureWrong { .. } => vec![format!("BADSIG {who}")],
        // GnuPG's reason codes: 4 is an unsupported algorithm, 9 a missing key. Git shows E, not B.
        SignatureVerdict::Unchecked { .. } => vec![format!("ERRSIG {id} 0 0 00 {when} 4")],
        SignatureVerdict::NoCertificate => vec![format!("ERRSIG {id} 0 0 00 {when} 9")],
        SignatureVerdict::Expired { .. } => vec![format!("EXPKEYSIG {who}"), valid],
        // The signature is right, but the signer's authority is unknown: git shows U, which does
        // not count as good.
        SignatureVerdict::UnknownIssuer(_) => {
            vec![format!("GOODSIG {who}"), valid, "TRUST_UNDEFINED 0 shell".to_owned()]
        }
        SignatureVerdict::NotTrusted(_) => vec![format!("GOODSIG {who}"), valid, "TRUST_NEVER 0 shell".to_owned()],
    }
}

fn date(signer: &SignerReport) -> String {
    let text = signer.signing_time.map(|time| time.to_string()).unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// The keyset that git's KEYID selects by e-mail address, keyset name or certificate fingerprint.
fn keyset_of(signer: &str, backend: &Backend, cx: &Context<'_>) -> Result<FoundKeyset, Failure> {
    let (keysets, unreadable) = backend.keysets()?;
    let mut fitting: Vec<_> = keysets.iter().filter(|keyset| keyset.is_usable() && is_meant(signer, keyset)).collect();
    if fitting.len() > 1 {
        // If several have this address, take the one that other commands use.
        let default = cx.choice(&KeysetArguments { keyset: None, token: None })?.default;
        if fitting.iter().filter(|keyset| Some(&keyset.name) == default.as_ref()).count() == 1 {
            fitting.retain(|keyset| Some(&keyset.name) == default.as_ref());
        } else if let Some(newest) = keyset::newest_of_one_person(fitting.iter().copied()) {
            fitting = fitting.into_iter().skip(newest).take(1).collect();
        }
    }
    match fitting.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            cx.warn_about_tokens(&unreadable);
            let message =
                format!("cannot sign for {signer:?}: no present keyset has this address, name or fingerprint");
            Err(Failure::absent(message)
                .with_remedy("insert its token, or set user.signingkey (git config) to one of `tokenkeep keysets`"))
        }
        several => Err(KeysetError::Ambiguous {
            what: "keyset",
            candidates: several
                .iter()
                .map(|keyset| format!("{:?} on {}", keyset.name.as_str(), keyset.token.name()))
                .collect::<Vec<_>>()
                .join(", "),
            remedy: "set user.signingkey (git config) to a keyset's name, or to the fingerprint of its signing \
                     certificate (`tokenkeep keyset show`)"
                .to_owned(),
        }
        .into()),
    }
}

fn is_meant(signer: &str, keyset: &FoundKeyset) -> bool {
    let certificate = signing_certificate(keyset);
    // Without user.signingkey git passes `Name <address>`.
    let address = signer.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>')).unwrap_or(signer);
    if address.contains('@') {
        let emails = certificate.map(|certificate| certificate.emails()).unwrap_or_default();
        return emails.iter().any(|email| same_address(email, address));
    }
    if signer.parse::<KeysetName>().is_ok_and(|name| name == keyset.name) {
        return true;
    }
    let fingerprint: Option<Fingerprint> = signer.trim_start_matches("0x").parse().ok();
    certificate.zip(fingerprint).is_some_and(|(certificate, signer)| certificate.fingerprint() == signer)
}

/// The signing certificate that the public index names. The signature uses the one that the private
/// index names.
fn signing_certificate(keyset: &FoundKeyset) -> Option<Certificate> {
    let id = keyset.signing.as_ref()?;
    let stored = keyset.certificates.iter().find(|certificate| certificate.id == *id)?;
    Certificate::from_der(&stored.der).ok()
}

fn fingerprint(certificate: &Certificate) -> String {
    certificate.fingerprint().to_hex().to_uppercase()
}

/// The OpenPGP numbers of the public-key and hash algorithms (RFC 9580 §9.1, §9.5), as in gpgsm's
/// status lines.
fn numbers_of(certificate: &Certificate) -> &'static str {
    match certificate.public_key_der().ok().and_then(|key| KeyAlgorithm::of_public_key(&key)) {
        Some(KeyAlgorithm::Rsa(_)) => "1 8",
        Some(KeyAlgorithm::P256) => "19 8",
        Some(KeyAlgorithm::P384) => "19 9",
        None => "0 0",
    }
}

/// The stream for git's status lines; `None` discards them.
struct StatusLines(Option<Box<dyn Write>>);

impl StatusLines {
    fn to(descriptor: Option<u32>) -> Result<Self, Failure> {
        let place: Box<dyn Write> = match descriptor {
            None => return Ok(Self(None)),
            Some(1) => Box::new(io::stdout()),
            Some(2) => Box::new(io::stderr()),
            Some(number) if !startup::descriptors_at_start().contains(&number) => {
                return Err(Failure::usage(format!("cannot write status lines: descriptor {number} is not open")));
            }
            Some(number) => {
                let opened = OpenOptions::new().write(true).open(format!("/dev/fd/{number}"));
                Box::new(opened.map_err(|error| Failure::usage(format!("cannot write status lines: {error}")))?)
            }
        };
        Ok(Self(Some(place)))
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let Some(place) = &mut self.0 else { return Ok(()) };
        writeln!(place, "[GNUPG:] {line}")
            .and_then(|()| place.flush())
            .map_err(|error| Failure::fault(format!("cannot write status lines: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called_as(line: &[&str]) -> Vec<String> {
        with_verb(line.iter().map(OsString::from)).into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_programs_name_selects_the_command() {
        let git = ["--status-fd=2", "-bsau", "user@example.org"];
        let called = |name: &str| called_as(&[&[name][..], &git].concat());
        assert_eq!(called("/usr/bin/tokenkeep-git-sign")[1..], [&["git-sign"][..], &git].concat());
        assert_eq!(called("git-sign")[1], "git-sign");
        assert_eq!(called("/opt/git-sign/tokenkeep")[1], "--status-fd=2");
        assert_eq!(called_as(&["tokenkeep", "git-sign"]), ["tokenkeep", "git-sign"]);
        assert!(called_as(&[]).is_empty());
    }

    fn signer(verdict: SignatureVerdict) -> SignerReport {
        SignerReport {
            name: "Some\none\n[GNUPG:] GOODSIG 0 boss".into(),
            emails: vec!["user@example.org\r".into()],
            certificate: None,
            signing_time: None,
            verdict,
        }
    }

    #[test]
    fn only_good_signatures_are_reported_good_and_names_add_no_line() {
        let wrong = signer(SignatureVerdict::SignatureWrong { reason: "changed".into() });
        let unchecked = signer(SignatureVerdict::Unchecked { reason: "SHA-1".into() });
        for (signer, first) in [
            (signer(SignatureVerdict::Good), "GOODSIG "),
            (wrong, "BADSIG "),
            (unchecked, "ERRSIG "),
            (signer(SignatureVerdict::NoCertificate), "ERRSIG "),
        ] {
            let lines = lines_of(&signer);
            assert!(lines[0].starts_with(first), "{lines:?}");
            assert!(lines.iter().all(|line| !line.contains(['\n', '\r'])), "{lines:?}");
            assert_eq!(lines.iter().any(|line| line == "TRUST_FULLY 0 shell"), first == "GOODSIG ", "{lines:?}");
        }
    }
}
