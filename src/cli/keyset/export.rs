//! `tokenkeep keyset export`: writes a keyset's certificates, or its SSH public key.

use std::path::PathBuf;

use clap::{ValueEnum, ValueHint};
use der::pem::{self, LineEnding};
use serde_json::json;

use crate::agent::ssh;
use crate::cli::arguments::KeysetArguments;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::file_io::{self, Content};
use crate::cli::man_page::{CHOOSES, KEYSET_FILES, Page};
use crate::keyset::ops::{CertificateExport, ExportKeyset, ExportedCertificates};
use crate::keyset::{KeysetChoice, TokenSelector};
use crate::pki::Certificate;
use crate::token::KeysetName;

/// The manual page.
pub const PAGE: Page = Page {
    name: "tokenkeep-keyset-export",
    exits: CHOOSES,
    files: KEYSET_FILES,
    examples: &[
        ("The certificate for people who encrypt to you:", &["tokenkeep keyset export --certificate encryption"]),
        (
            "The signing certificate with the authority's, for a web form:",
            &["tokenkeep keyset export default --chain -o user.pem"],
        ),
        ("The line for a code host or authorized_keys:", &["tokenkeep keyset export --format ssh"]),
    ],
    see_also: &["tokenkeep-keyset-show", "tokenkeep-encrypt", "ssh-keygen(1)", "openssl-x509(1ssl)"],
};

/// Arguments of `keyset export`.
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// Keyset to export
    ///
    /// Default: the only keyset; else $TOKENKEEP_KEYSET; else `keyset` in agent.toml; else the
    /// newest, if all belong to one person at one authority.
    #[arg(conflicts_with = "keyset")]
    name: Option<KeysetName>,
    /// Alternative to NAME
    #[arg(long, value_name = "NAME")]
    keyset: Option<KeysetName>,
    /// Token of the keyset: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    token: Option<TokenSelector>,
    /// Which certificates to write
    #[arg(long, value_name = "WHICH", default_value = "signing")]
    certificate: CertificateArgument,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "pem")]
    format: ExportFormat,
    /// Also write the authority's certificate (PEM only)
    #[arg(long)]
    chain: bool,
    /// File to write; - is stdout [default: stdout]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CertificateArgument {
    /// The current signing certificate
    Signing,
    /// The current encryption certificate
    Encryption,
    /// The certificates of older encryption keys
    History,
    /// The authority's CA certificate
    Authority,
    /// All of these
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Text, one block for each certificate
    Pem,
    /// Binary, one certificate
    Der,
    /// The signing key as a line for authorized_keys; neither --certificate nor --chain
    Ssh,
}

impl From<CertificateArgument> for ExportedCertificates {
    fn from(argument: CertificateArgument) -> Self {
        match argument {
            CertificateArgument::Signing => Self::Signing,
            CertificateArgument::Encryption => Self::Encryption,
            CertificateArgument::History => Self::History,
            CertificateArgument::Authority => Self::Authority,
            CertificateArgument::All => Self::All,
        }
    }
}

/// Writes the certificates.
pub fn run(arguments: ExportArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let ExportArguments { name, keyset, token, certificate, format, chain, out } = arguments;
    let content = if format == ExportFormat::Der { Content::Binary } else { Content::Text };
    if format == ExportFormat::Ssh && (!matches!(certificate, CertificateArgument::Signing) || chain) {
        return Err(Failure::usage("cannot write certificates in this format: ssh is for the signing key alone")
            .with_remedy("use --format pem"));
    }
    file_io::check_message(cx.output, out.as_deref(), content)?;
    let which = KeysetArguments { keyset: name.or(keyset), token };
    let backend = cx.backend()?;
    let keyset = cx.keyset(&backend, &which)?;
    let operation = ExportKeyset { keyset: KeysetChoice::exactly(&keyset), certificates: certificate.into(), chain };
    let exported = backend.query(operation)?;
    let bytes = match format {
        ExportFormat::Pem => to_pem(&exported)?,
        ExportFormat::Der => to_der(&exported)?,
        ExportFormat::Ssh => ssh_line(&exported)?,
    };
    let facts = match &exported[..] {
        [_] if format == ExportFormat::Ssh => {
            format!("Exported the SSH public key of keyset {:?}.", keyset.name.as_str())
        }
        [_] => format!("Exported a certificate of keyset {:?}.", keyset.name.as_str()),
        several => format!("Exported {} certificates of keyset {:?}.", several.len(), keyset.name.as_str()),
    };
    let uses: Vec<_> = exported.iter().map(|(certificate_use, _)| certificate_use).collect();
    let value = json!({ "keyset": keyset.name.as_str(), "certificates": uses });
    file_io::deliver_message(cx.output, out.as_deref(), &bytes, content, &facts, value)
}

fn to_pem(exported: &[CertificateExport]) -> Result<Vec<u8>, Failure> {
    let encoded = exported.iter().map(|(_, stored)| pem::encode_string("CERTIFICATE", LineEnding::LF, &stored.der));
    let text = encoded.collect::<Result<String, _>>();
    text.map(String::into_bytes).map_err(|error| Failure::fault(format!("cannot write the certificates: {error}")))
}

fn to_der(exported: &[CertificateExport]) -> Result<Vec<u8>, Failure> {
    match exported {
        [(_, stored)] => Ok(stored.der.clone()),
        several => Err(Failure::usage(format!(
            "cannot write {} certificates as DER: a DER file holds one certificate",
            several.len()
        ))
        .with_remedy("use --format pem, or export one certificate")),
    }
}

/// The line that `ssh-keygen -D` prints for this key: the label on the token is the comment.
fn ssh_line(exported: &[CertificateExport]) -> Result<Vec<u8>, Failure> {
    let line = exported.iter().find_map(|(_, stored)| {
        let public_key = Certificate::from_der(&stored.der).ok()?.public_key_der().ok()?;
        ssh::public_key_line(&public_key, &stored.label)
    });
    match line {
        Some(line) => Ok(format!("{line}\n").into_bytes()),
        None => Err(Failure::new(Exit::Refused, "cannot export the SSH public key: SSH has no such key type")),
    }
}
