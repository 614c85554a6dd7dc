//! `tokenkeep keyset` and `tokenkeep keysets`: list, show, delete and hide keysets.

mod export;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::arguments::{KeysetArguments, PinArguments};
use super::context::Context;
use super::exit::{Exit, Failure};
use super::expiry;
use super::hidden_keysets::HiddenKeysets;
use super::man_page::{CHOOSES, KEYSET_FILES, Page, USES_KEY};
use super::table::TableColumn;
use super::table::line_of;
use super::terminal_prompter::TerminalPrompter;
use crate::keyset::ops::DeleteKeyset;
use crate::keyset::{
    self, CertificateSummary, CertificateUse, FoundKeyset, KeysetChoice, KeysetRef, KeysetStatus, KeysetSummary,
    TokenSelector,
};
use crate::pki::Fingerprint;
use crate::prompter::{PrompterError, showable};
use crate::token::KeysetName;

/// The manual pages of the subcommands.
pub const PAGES: &[Page] = &[
    export::PAGE,
    Page {
        name: "tokenkeep-keyset-show",
        exits: CHOOSES,
        files: KEYSET_FILES,
        examples: &[
            ("The only keyset, or the default one:", &["tokenkeep keyset show"]),
            (
                "One of several with the same name, for a script:",
                &["tokenkeep keyset show --keyset second --token second --json"],
            ),
        ],
        see_also: &["tokenkeep-keyset-list", "tokenkeep-enroll", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-keyset-delete",
        exits: USES_KEY,
        files: KEYSET_FILES,
        examples: &[
            ("Ask first:", &["tokenkeep keyset delete second"]),
            ("In a script:", &["tokenkeep keyset delete second --yes --pin-source file:pin3"]),
        ],
        see_also: &["tokenkeep-keyset-forget", "tokenkeep-token-erase"],
    },
    Page {
        name: "tokenkeep-keyset-forget",
        exits: CHOOSES,
        files: KEYSET_FILES,
        examples: &[
            ("Hide a keyset on this machine:", &["tokenkeep keyset forget default"]),
            ("Show it again:", &["tokenkeep keyset forget --undo default"]),
        ],
        see_also: &["tokenkeep-keyset-list", "tokenkeep-keyset-delete", "tokenkeep-token-erase"],
    },
];

/// Subcommands of `tokenkeep keyset`.
#[derive(Debug, Subcommand)]
pub enum KeysetCommand {
    /// List the keysets on all present tokens
    List(KeysetListArguments),
    /// Show a keyset's keys and certificates
    Show(KeysetShowArguments),
    /// Export a keyset's certificates, or its SSH public key; needs no PIN
    Export(export::ExportArguments),
    /// Delete a keyset: its keys, certificates and records
    Delete(DeleteArguments),
    /// Hide a keyset on this machine, without changing its token
    ///
    /// A hidden keyset is listed only with --all, and used only when named.
    Forget(ForgetArguments),
}

/// Arguments of `keyset list` and `keysets`.
#[derive(Debug, clap::Args)]
pub struct KeysetListArguments {
    /// Also list the keysets hidden on this machine (`keyset forget`)
    #[arg(long)]
    all: bool,
}

/// Arguments of `keyset forget`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a keyset whose PIN is lost, after a recovery. It can still be named: decrypt --keyset NAME.\n\
                  `tokenkeep token erase` removes a soft token altogether."
)]
pub struct ForgetArguments {
    /// Keyset to hide
    #[arg(value_name = "NAME")]
    name: KeysetName,
    /// Token of the keyset: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    token: Option<TokenSelector>,
    /// Show the keyset again
    #[arg(long)]
    undo: bool,
}

/// Arguments of `keyset show`.
#[derive(Debug, clap::Args)]
pub struct KeysetShowArguments {
    /// Keyset to show
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
}

/// Arguments of `keyset delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArguments {
    /// Keyset to delete; there is no default
    #[arg(conflicts_with = "keyset", required_unless_present = "keyset")]
    name: Option<KeysetName>,
    /// Alternative to NAME
    #[arg(long, value_name = "NAME")]
    keyset: Option<KeysetName>,
    /// Token of the keyset: PKCS#11 URI, serial number or label
    #[arg(long, value_name = "TOKEN")]
    token: Option<TokenSelector>,
    /// Delete without asking for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pin: PinArguments,
}

/// Runs the subcommand.
pub fn run(command: KeysetCommand, cx: &Context<'_>) -> Result<Exit, Failure> {
    match command {
        KeysetCommand::List(arguments) => list(&arguments, cx),
        KeysetCommand::Show(arguments) => show(arguments, cx),
        KeysetCommand::Export(arguments) => export::run(arguments, cx),
        KeysetCommand::Delete(arguments) => delete(arguments, cx),
        KeysetCommand::Forget(arguments) => forget(arguments, cx),
    }
}

/// Lists keysets.
pub fn list(arguments: &KeysetListArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let (keysets, unreadable) = cx.backend()?.keysets()?;
    cx.warn_about_tokens(&unreadable);
    let hidden = HiddenKeysets::of_this_user().list()?;
    let is_hidden = |keyset: &FoundKeyset| HiddenKeysets::is_hidden(&hidden, keyset);
    let (keysets, kept_back): (Vec<_>, Vec<_>) =
        keysets.into_iter().partition(|keyset| arguments.all || !is_hidden(keyset));
    let nothing = match &kept_back[..] {
        [] => "No keyset is present.".to_owned(),
        hidden => format!("No keyset is shown: {}.", HiddenKeysets::all_are_hidden(hidden)),
    };
    for keyset in &keysets {
        expiry::warn(keyset, cx.output, cx.now());
    }
    let rows = keysets
        .iter()
        .map(|keyset| {
            vec![
                keyset.name.as_str().to_owned(),
                keyset.level.to_string(),
                status(&keyset.status) + if is_hidden(keyset) { "; hidden" } else { "" },
                keyset.encryption.len().to_string(),
                keyset.token.label.clone(),
                keyset.token.serial.clone(),
                keyset.authority.name.clone(),
            ]
        })
        .collect();
    let columns = [
        TableColumn::whole("keyset"),
        TableColumn::whole("level"),
        TableColumn::shortened("status"),
        TableColumn::whole("keys"),
        TableColumn::whole("token"),
        TableColumn::whole("serial"),
        TableColumn::shortened("authority"),
    ];
    let listed = |keyset| ListedKeyset { summary: KeysetSummary::of(keyset), hidden: is_hidden(keyset) };
    let value: Vec<_> = keysets.iter().map(listed).collect();
    cx.output.table(&columns, rows, &nothing, &json!(value))
}

/// A keyset as `keyset list` shows it.
#[derive(Serialize)]
struct ListedKeyset<'a> {
    #[serde(flatten)]
    summary: KeysetSummary<'a>,
    hidden: bool,
}

fn show(arguments: KeysetShowArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let which = KeysetArguments { keyset: arguments.name.or(arguments.keyset), token: arguments.token };
    let details = keyset::show(&cx.keyset(&cx.backend()?, &which)?)?;
    let keyset = &details.keyset;
    let mut lines = vec![
        field("Keyset", keyset.name.as_str()),
        field("Level", &keyset.level.to_string()),
        field("Status", &status(&keyset.status)),
        field("Token", &keyset.token.name().to_string()),
        // From the public index, which anybody can write on some tokens.
        field(
            "Authority",
            &format!("{} ({}, {})", keyset.authority.name, keyset.authority.http, keyset.authority.https),
        ),
    ];
    lines.extend(details.certificates.iter().map(paragraph));
    cx.output.answer(lines.join("\n"), &json!(details))
}

fn forget(arguments: ForgetArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    let list = HiddenKeysets::of_this_user();
    let ForgetArguments { name, token, undo } = arguments;
    // --undo works without the keyset's token, too.
    let absent: Vec<_> =
        list.list()?.into_iter().filter(|hidden| undo && token.is_none() && hidden.keyset == name).collect();
    let keyset = if let Ok([only]) = <[KeysetRef; 1]>::try_from(absent) {
        only
    } else {
        let which = KeysetArguments { keyset: Some(name), token };
        KeysetRef::of(&cx.keyset(&cx.backend()?, &which)?)
    };
    let changed = list.set(&keyset, !undo)?;
    let name = keyset.keyset.as_str();
    let text = match (undo, changed) {
        (false, true) => format!(
            "Hid the keyset {name:?} on this machine. Its token is unchanged; {} shows it again.",
            format_args!("`tokenkeep keyset forget --undo {name}`")
        ),
        (false, false) => format!("The keyset {name:?} was already hidden."),
        (true, true) => format!("The keyset {name:?} is shown again."),
        (true, false) => format!("The keyset {name:?} was not hidden."),
    };
    cx.output.answer(text, &json!({ "keyset": name, "serial": keyset.serial, "hidden": !undo }))
}

fn delete(arguments: DeleteArguments, cx: &Context<'_>) -> Result<Exit, Failure> {
    // Showing may default to the only keyset; deleting never does.
    let Some(name) = arguments.name.or(arguments.keyset) else {
        return Err(Failure::usage("cannot delete a keyset: no name given"));
    };
    let backend = cx.backend()?;
    let which = KeysetArguments { keyset: Some(name), token: arguments.token };
    let keyset = cx.keyset(&backend, &which)?;
    let prompter = cx.prompter(arguments.pin.pin_source.as_ref(), None)?;
    if !arguments.yes {
        let question = format!(
            "Delete keyset {:?} on {}? Messages encrypted to it can then be read only after a \
             recovery.",
            keyset.name.as_str(),
            keyset.token.name()
        );
        match prompter.confirm(&question) {
            Ok(true) => {}
            Ok(false) => return Err(Failure::new(Exit::Refused, "not deleted: you answered no")),
            Err(PrompterError::Interrupted { .. }) => {
                return Err(Failure::new(Exit::Interrupted, "not deleted: interrupted"));
            }
            Err(error) if error.is_cancelled() => {
                return Err(Failure::new(Exit::Refused, "not deleted: the prompt was cancelled"));
            }
            Err(_) => {
                let why = "not deleted: no terminal for the confirmation";
                return Err(Failure::usage(why).with_remedy("--yes deletes without confirmation"));
            }
        }
    }
    let deleted = backend.call(
        DeleteKeyset { keyset: KeysetChoice::exactly(&keyset) },
        &mut TerminalPrompter::new(prompter, cx.output),
    )?;
    cx.output.answer(
        format!(
            "Deleted keyset {:?}: {} keys, {} certificates.",
            keyset.name.as_str(),
            deleted.keys,
            deleted.certificates
        ),
        &json!({ "keyset": keyset.name.as_str(), "keys": deleted.keys, "certificates": deleted.certificates }),
    )
}

fn status(status: &KeysetStatus) -> String {
    match status {
        KeysetStatus::Enrolled => "enrolled".to_owned(),
        KeysetStatus::Pending { reference } => format!("not finished (letter {reference})"),
        KeysetStatus::ReenrollmentPending { reference } => {
            format!("enrolled; re-enrollment not finished (letter {reference})")
        }
    }
}

fn paragraph(summary: &CertificateSummary) -> String {
    let what = match summary.certificate_use {
        CertificateUse::Signing => "Signing key",
        CertificateUse::Encryption => "Encryption key",
        CertificateUse::OlderEncryption => "Older encryption key",
        CertificateUse::Authority => "Authority",
    };
    let algorithm = summary.algorithm.map_or_else(|| "unknown key".to_owned(), |algorithm| algorithm.to_string());
    let mut lines = vec![format!("\n{what} ({algorithm})"), field("  subject", &summary.subject)];
    if !summary.emails.is_empty() {
        lines.push(field("  e-mail", &summary.emails.join(", ")));
    }
    lines.push(field("  serial", &summary.serial));
    lines.push(field("  valid", &format!("{} to {}", summary.not_before, summary.not_after)));
    lines.push(field("  SHA-256", &Fingerprint::from_bytes(summary.sha256).to_string()));
    lines.push(field("  id", &summary.id.to_string()));
    lines.join("\n")
}

/// A heading and its value, wrapped onto more lines if it is too long.
fn field(heading: &str, value: &str) -> String {
    line_of(heading, &showable(value), 10)
}
