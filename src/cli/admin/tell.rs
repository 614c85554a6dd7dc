//! `admin list` and `admin show`, for a person or a script.

use jiff::Timestamp;

use crate::cli::exit::{Exit, Failure};
use crate::cli::surroundings::Surroundings;
use crate::statement::{UserDetails, UserSummary};

pub(super) fn list(users: &[UserSummary], around: &Surroundings<'_>) -> Result<Exit, Failure> {
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
    around.screen.table(
        &["e-mail", "name", "role", "enrolled until", "letter until"],
        rows,
        "There are no users.",
        &users,
    )
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
