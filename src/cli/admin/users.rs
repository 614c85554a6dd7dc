//! `admin list` and `show`: the users that the authority knows.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::AdminIdentity;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::man_page::{ASKS_AUTHORITY, KEYSET_FILES, Page};
use crate::cli::table::TableColumn;
use crate::prompter::showable;
use crate::statement::{AdminOperation, CertificateEntry, MAX_USERS_PER_PAGE, UserDetails, UserSummary};

/// The manual page of `admin list`.
pub const LIST_PAGE: Page = Page {
    name: "tokenkeep-admin-list",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[
        ("The first page:", &["tokenkeep admin list --keyset admin"]),
        ("A later page, for a script:", &["tokenkeep admin list --keyset admin --after user@example.org --json"]),
    ],
    see_also: &["tokenkeep-admin-show"],
};

/// The manual page of `admin show`.
pub const SHOW_PAGE: Page = Page {
    name: "tokenkeep-admin-show",
    exits: ASKS_AUTHORITY,
    files: KEYSET_FILES,
    examples: &[("Certificates and letters of a user:", &["tokenkeep admin show user@example.org --keyset admin"])],
    see_also: &["tokenkeep-admin-list", "tokenkeep-admin-letter"],
};

/// Arguments of `admin list`.
#[derive(Debug, clap::Args)]
pub struct UserListArguments {
    /// List the users after this e-mail address, which the page before names
    #[arg(long, value_name = "EMAIL")]
    after: Option<String>,
    /// List at most this many users [default: 500]
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USERS_PER_PAGE))
    )]
    limit: Option<u32>,
    #[command(flatten)]
    pub(super) identity: AdminIdentity,
}

/// Arguments of `admin show`.
#[derive(Debug, clap::Args)]
pub struct UserShowArguments {
    /// E-mail address of the user
    email: String,
    #[command(flatten)]
    pub(super) identity: AdminIdentity,
}

impl UserListArguments {
    pub(super) fn operation(&self) -> AdminOperation {
        AdminOperation::List { after: self.after.clone(), limit: self.limit }
    }
}

impl UserShowArguments {
    pub(super) fn operation(&self) -> AdminOperation {
        AdminOperation::Show { email: self.email.clone() }
    }
}

/// Prints a page of users, which begins after the address `after`. More users follow after the
/// address `next`.
pub(super) fn list(
    users: &[UserSummary],
    after: Option<&str>,
    next: Option<&str>,
    cx: &Context<'_>,
) -> Result<Exit, Failure> {
    let rows = users
        .iter()
        .map(|user| {
            vec![
                user.email.clone(),
                user.name.clone(),
                match (user.administrator, user.administrator_from) {
                    (true, _) => "yes".to_owned(),
                    (false, Some(from)) => format!("from {}", date(from)),
                    (false, None) => String::new(),
                },
                match (user.enrolled, user.certificate_expires) {
                    (true, Some(until)) => date(until),
                    (true, None) => "yes".to_owned(),
                    (false, _) => "no".to_owned(),
                },
                user.letter_expires.map(date).unwrap_or_default(),
            ]
        })
        .collect();
    let columns = [
        TableColumn::whole("e-mail"),
        TableColumn::shortened("name"),
        TableColumn::whole("admin"),
        TableColumn::whole("enrolled until"),
        TableColumn::whole("letter until"),
    ];
    let nothing = match after {
        None => "There are no users.".to_owned(),
        Some(after) => format!("There are no users after {}.", showable(after)),
    };
    let value = json!({ "users": users.iter().map(with_role).collect::<Vec<_>>(), "next": next });
    let exit = cx.output.table(&columns, rows, &nothing, &value)?;
    if let Some(next) = next {
        cx.output.note(format!("More users follow: add --after {}", quoted(next)));
    }
    Ok(exit)
}

/// Adds `administrator_from` as `null` where the authority omitted it: missing values are `null`.
fn with_role(user: &impl Serialize) -> Value {
    let mut value = json!(user);
    if let Some(members) = value.as_object_mut() {
        members.entry("administrator_from").or_insert(Value::Null);
    }
    value
}

/// Quotes an address for a shell.
fn quoted(address: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    if address.chars().all(is_plain) { address.to_owned() } else { format!("'{}'", address.replace('\'', r"'\''")) }
}

/// The date in UTC; `--json` has the time, too.
fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// Prints one user in full.
pub(super) fn show(user: &UserDetails, cx: &Context<'_>) -> Result<Exit, Failure> {
    let mut lines = vec![
        format!("Name           {}", user.name),
        format!("E-mail         {}", user.email),
        format!("User id        {}", user.id),
        format!("Role           {}", role(user)),
        format!("Known since    {}", user.since),
        format!("Archived keys  {}", user.archived_keys),
    ];
    for certificate in &user.certificates {
        lines.push(format!(
            "\n{} certificate, {}\n  serial    {}\n  keyset    {}\n  valid     {} to {}",
            certificate.usage,
            certificate.state,
            certificate.serial,
            keyset_line(certificate),
            certificate.not_before,
            certificate.not_after,
        ));
    }
    for letter in &user.letters {
        lines.push(format!(
            "\nLetter {} ({}), {}, valid until {}",
            letter.reference, letter.purpose, letter.state, letter.expires
        ));
    }
    cx.output.answer(lines.join("\n"), &with_role(user))
}

fn role(user: &UserDetails) -> String {
    match (user.administrator, user.administrator_from) {
        (true, _) => "administrator".to_owned(),
        (false, Some(from)) => format!("administrator from {from}"),
        (false, None) => "user".to_owned(),
    }
}

/// Name and level of a certificate's keyset, if the authority's log has them.
fn keyset_line(certificate: &CertificateEntry) -> String {
    let name = certificate.keyset.as_deref().unwrap_or("(not in the log)");
    certificate.level.map_or_else(|| name.to_owned(), |level| format!("{name} (level {level})"))
}
