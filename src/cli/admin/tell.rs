//! `admin list` and `admin show`, for a person or a script.

use jiff::Timestamp;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::surroundings::Surroundings;
use crate::statement::{UserDetails, UserSummary};

/// A page of users; `next` is the address after which there are more.
pub(super) fn list(users: &[UserSummary], next: Option<&str>, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let rows = users
        .iter()
        .map(|user| {
            vec![
                user.email.clone(),
                user.name.clone(),
                if user.administrator { "administrator" } else { "" }.to_owned(),
                match (user.enrolled, user.certificate_expires) {
                    (true, Some(until)) => date(until),
                    (true, None) => "yes".to_owned(),
                    (false, _) => "no".to_owned(),
                },
                user.letter_expires.map(date).unwrap_or_default(),
            ]
        })
        .collect();
    let headings = ["e-mail", "name", "role", "enrolled until", "letter until"];
    let exit = around.screen.table(&headings, rows, "There are no users.", &json!({ "users": users, "next": next }))?;
    if let Some(next) = next {
        around.screen.note(format!("There are more: add --after {}", quoted(next)));
    }
    Ok(exit)
}

/// As a shell takes it.
fn quoted(address: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@.-_+".contains(c);
    if address.chars().all(is_plain) { address.to_owned() } else { format!("'{}'", address.replace('\'', r"'\''")) }
}

/// The day, in UTC; `--json` has the time.
fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

pub(super) fn show(user: &UserDetails, around: &Surroundings<'_>) -> Result<Exit, Failure> {
    let mut lines = vec![
        format!("Name           {}", user.name),
        format!("E-mail         {}", user.email),
        format!("User id        {}", user.id),
        format!("Role           {}", if user.administrator { "administrator" } else { "user" }),
        format!("Known since    {}", user.since),
        format!("Archived keys  {}", user.archived_keys),
    ];
    for certificate in &user.certificates {
        lines.push(format!(
            "\n{} certificate, {}\n  serial    {}\n  keyset    {} (level {})\n  valid     {} to {}",
            certificate.usage,
            certificate.state,
            certificate.serial,
            certificate.keyset,
            certificate.level,
            certificate.not_before,
            certificate.not_after,
        ));
    }
    for letter in &user.letters {
        lines.push(format!(
            "\nLetter {} ({}), {}, good until {}",
            letter.reference, letter.purpose, letter.state, letter.expires
        ));
    }
    around.screen.answer(lines.join("\n"), user)
}
