//! `tokenkeep encrypt`: encrypts to e-mail addresses or certificates. Needs no PIN.

use std::path::PathBuf;

use clap::ValueHint;
use jiff::Timestamp;
use serde_json::json;

use super::arguments::{AuthorityUrls, FormatArgument, KeysetArguments, MessageFiles};
use super::backend::Backend;
use super::clock;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::file_io::{self, Content};
use super::hidden_keysets::HiddenKeysets;
use crate::keyset::{self, CertificateUse, FoundKeyset, KeysetHolder, Trust};
use crate::pki::path::{self, CertificatePurpose};
use crate::pki::{Certificate, EmailAddress, PathProblem, same_address};
use crate::prompter::showable;
use crate::smime::{self, Cipher, Message};
use crate::transport::{HttpTransport, Transport};

/// Arguments of `tokenkeep encrypt`.
#[derive(Debug, clap::Args)]
pub struct EncryptArguments {
    #[command(flatten)]
    files: MessageFiles,
    /// E-mail address to encrypt to (may be repeated)
    ///
    /// The authority is asked for the certificate of the address.
    #[arg(
        long = "to",
        value_name = "EMAIL",
        required_unless_present = "certificates",
        value_hint = ValueHint::EmailAddress
    )]
    to: Vec<EmailAddress>,
    /// Certificate to encrypt to, PEM or DER (may be repeated)
    ///
    /// The certificate is used without checking its issuer or validity.
    #[arg(long = "certificate", value_name = "FILE", value_hint = ValueHint::FilePath)]
    certificates: Vec<PathBuf>,
    /// Do not also encrypt to your own keyset
    #[arg(long)]
    not_to_self: bool,
    /// Format of the encrypted message
    #[arg(long, value_name = "FORM", default_value = "der")]
    format: FormatArgument,
    #[command(flatten)]
    which: KeysetArguments,
    #[command(flatten)]
    authority: AuthorityUrls,
}

/// Encrypts to all recipients and, by default, to the own keyset.
pub fn run(arguments: &EncryptArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let content = if arguments.format == FormatArgument::Der { Content::Binary } else { Content::Text };
    file_io::check_message(cx.output, arguments.files.out(), content)?;
    let mut recipients = Vec::new();
    for path in &arguments.certificates {
        recipients.extend(Certificate::read_all(&file_io::read(Some(path))?)?);
    }
    // --to needs tokens to know the authority; to encrypt to oneself, they are optional.
    let backend = match (arguments.to.is_empty(), arguments.not_to_self) {
        (false, _) => Some(cx.backend()?),
        (true, false) => cx.optional_backend(),
        (true, true) => None,
    };
    if let Some(backend) = backend.as_ref().filter(|_| !arguments.to.is_empty()) {
        recipients.extend(search(arguments, backend, cx.now())?);
    }
    let input = file_io::read(arguments.files.input())?;
    let names: Vec<_> = recipients.iter().map(Certificate::display_name).collect();
    if let Some(backend) = backend.filter(|_| !arguments.not_to_self)
        && let Some(own) = own_certificate(arguments, cx, &backend, &recipients)?
        && !recipients.contains(&own)
    {
        recipients.push(own);
    }
    let input = if arguments.format == FormatArgument::Smime { smime::to_encryptable(&input) } else { input };
    let cms = smime::encrypt(&input, &recipients, Cipher::default())?;
    let encrypted = Message::write(&cms, arguments.format.into(), None)?;
    file_io::deliver_message(
        cx.output,
        arguments.files.out(),
        &encrypted,
        content,
        &format!("Encrypted to {}.", showable(&names.join(", "))),
        json!({ "recipients": recipients.iter().map(|certificate| json!({
            "name": certificate.display_name(),
            "emails": certificate.emails(),
            "sha256": certificate.fingerprint().to_hex(),
        })).collect::<Vec<_>>() }),
    )
}

/// The certificates of all addresses. Fails with the addresses that have none.
fn search(arguments: &EncryptArguments, backend: &Backend, now: Timestamp) -> Result<Vec<Certificate>, Failure> {
    let (keysets, unreadable_tokens) = backend.keysets()?;
    let (hidden, keysets) = hidden_and_shown(keysets)?;
    if keysets.is_empty() && !hidden.is_empty() {
        let why = HiddenKeysets::all_are_hidden(&hidden);
        return Err(Failure::absent(format!("cannot ask an authority for certificates: {why}")));
    }
    let trust = Trust::of(&keysets, &unreadable_tokens);
    let (address, fingerprint) = trust.authority(arguments.authority.http.as_deref())?;
    let http = arguments.authority.http.as_deref().unwrap_or(&address.http);
    let transport =
        HttpTransport::new(http, arguments.authority.https.as_deref().unwrap_or(&address.https), fingerprint)?;
    let anchors = anchors(&trust)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for email in arguments.to.iter().map(EmailAddress::as_str) {
        match newest_valid(email, &transport.search_certificates(email)?, &anchors, now)? {
            Ok(certificate) => found.push(certificate),
            Err(None) => missing.push(email.to_owned()),
            Err(Some(problem)) => missing.push(format!("{email} ({problem})")),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let missing = format!("cannot encrypt: no usable certificate for {}", missing.join(", "));
    let failure = Failure::new(Exit::Refused, missing);
    let failure = failure.with_remedy("omit them, or name their certificates with --certificate");
    Err(clock::explain_clock_error(failure, &transport, now))
}

fn hidden_and_shown(keysets: Vec<FoundKeyset>) -> Result<(Vec<FoundKeyset>, Vec<FoundKeyset>), Failure> {
    let hidden = HiddenKeysets::of_this_user().list()?;
    Ok(keysets.into_iter().partition(|keyset| HiddenKeysets::is_hidden(&hidden, keyset)))
}

/// The newest valid encryption certificate of exactly this address; else the problem of the last
/// one that is not valid.
fn newest_valid(
    email: &str,
    candidates: &[Vec<u8>],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<Result<Certificate, Option<PathProblem>>, Failure> {
    let (mut best, mut problem) = (None::<Certificate>, None);
    for der in candidates {
        let certificate = Certificate::from_der(der)?;
        if !certificate.emails().iter().any(|own| same_address(own, email)) {
            continue;
        }
        match path::verify(&certificate, &[], anchors, CertificatePurpose::Encryption, now) {
            Ok(_) if best.as_ref().is_none_or(|best| best.not_before() < certificate.not_before()) => {
                best = Some(certificate);
            }
            Ok(_) => {}
            Err(found) => problem = Some(found),
        }
    }
    Ok(best.ok_or(problem))
}

fn anchors(trust: &Trust) -> Result<Vec<Certificate>, Failure> {
    trust.anchors().iter().map(|der| Ok(Certificate::from_der(der)?)).collect()
}

/// The user's own encryption certificate: that of the named keyset; else the newest of the person
/// whose keyset other commands would use by default, or of the only person with keysets here. If
/// several people have keysets here, nobody is added: encryption needs no keyset, so it must not
/// demand a name; and if one of them is a recipient, the message can be read here.
fn own_certificate(
    arguments: &EncryptArguments,
    cx: &Context<'_>,
    backend: &Backend,
    recipients: &[Certificate],
) -> Result<Option<Certificate>, Failure> {
    let is_named = arguments.which.keyset.is_some() || arguments.which.token.is_some();
    let chosen = match cx.keyset(backend, &arguments.which) {
        Ok(keyset) => Some(keyset),
        Err(failure) if is_named => return Err(failure),
        Err(_) => None,
    };
    let (mut keysets, _) = backend.keysets()?;
    if let Some(keyset) = &chosen {
        keysets.retain(|other| other.has_same_holder(keyset));
        keysets.push(keyset.clone());
    } else {
        keysets = hidden_and_shown(keysets)?.1;
        let people = people(&keysets);
        let is_one = |recipient: &Certificate| {
            let recipient = KeysetHolder::of_certificate(recipient);
            people.iter().any(|person| person.is_same_person(&recipient))
        };
        if people.len() > 1 && recipients.iter().any(is_one) {
            return Ok(None);
        }
        if people.len() != 1 {
            cx.output.note(not_known(&people));
            return Ok(None);
        }
    }
    let anchors = anchors(&backend.trust()?)?;
    let named = chosen.filter(|_| is_named).map(|keyset| newest(&[keyset], &anchors, cx.now())).transpose()?;
    let own = match named.flatten() {
        Some(own) => Some(own),
        None => newest(&keysets, &anchors, cx.now())?,
    };
    if own.is_none() {
        cx.output.note("Not encrypted to yourself: you have no valid encryption certificate.");
    }
    Ok(own)
}

/// The note for a user who cannot be identified.
fn not_known(people: &[KeysetHolder]) -> String {
    if people.is_empty() {
        return "Not encrypted to yourself: no keyset here names its person.".to_owned();
    }
    let names = people.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("Not encrypted to yourself: the keysets here belong to several people ({names}); use --keyset NAME.")
}

/// The persons of these keysets, each once.
fn people(keysets: &[FoundKeyset]) -> Vec<KeysetHolder> {
    let mut people: Vec<KeysetHolder> = Vec::new();
    for holder in keysets.iter().filter_map(FoundKeyset::holder) {
        if !people.iter().any(|known| known.is_same_person(&holder)) {
            people.push(holder);
        }
    }
    people
}

/// The newest of the keysets' current encryption certificates that are valid now.
fn newest(keysets: &[FoundKeyset], anchors: &[Certificate], now: Timestamp) -> Result<Option<Certificate>, Failure> {
    let mut found = Vec::new();
    for keyset in keysets {
        let details = keyset::show(keyset)?;
        let current =
            details.certificates.iter().filter(|certificate| certificate.certificate_use == CertificateUse::Encryption);
        found
            .extend(current.map(|certificate| Certificate::from_der(&certificate.der)).collect::<Result<Vec<_>, _>>()?);
    }
    // The public index names them, and anybody who can write to the token can change it: verify the
    // path to the CA.
    found.retain(|own| path::verify(own, &[], anchors, CertificatePurpose::Encryption, now).is_ok());
    Ok(found.into_iter().max_by_key(Certificate::not_before))
}
