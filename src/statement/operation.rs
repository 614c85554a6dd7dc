//! The commands of administrators: what each says in a statement, and how it is answered.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::serde_formats::hexadecimal;
use super::users::{UserDetails, UserSummary};
use crate::token::SecurityLevel;

/// The number of users on a page of the list, if the statement does not give one.
pub const USERS_PER_PAGE: u32 = 500;

/// The maximum number of users on a page, because a response has a size limit.
pub const MAX_USERS_PER_PAGE: u32 = 5_000;

/// The maximum length of an e-mail address.
const MAX_EMAIL_BYTES: usize = 254;

/// The operations that an administrator can request.
///
/// The members of a variant are those of `arguments` in the statement's JSON, apart from `target`,
/// which is beside them. Unknown members are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", content = "arguments", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminOperation {
    /// Issue a letter to enroll, for a known or a new person.
    Issue {
        /// The user's e-mail address, which identifies the person.
        #[serde(rename = "target")]
        email: String,
        /// The user's full name. Required for a new user; for a known one it must match.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The security levels that the letter allows. `None`: those of the profile.
        #[serde(skip_serializing_if = "Option::is_none")]
        levels: Option<Vec<SecurityLevel>>,
        /// The letter's validity in seconds. `None`: that of the authority's configuration.
        #[serde(skip_serializing_if = "Option::is_none")]
        valid_for_seconds: Option<u64>,
    },
    /// Issue a letter to recover the whole history of a user's encryption keys.
    Recover {
        /// The user's e-mail address.
        #[serde(rename = "target")]
        email: String,
        /// Whether others may have the old token. If so, its certificates are revoked and a new
        /// current encryption key is made.
        #[serde(default)]
        lost: bool,
        /// The letter's validity in seconds. `None`: that of the authority's configuration.
        #[serde(skip_serializing_if = "Option::is_none")]
        valid_for_seconds: Option<u64>,
    },
    /// Return the letter of an earlier statement of the same administrator again.
    Letter {
        /// The user's e-mail address, or the letter's reference.
        #[serde(rename = "target")]
        letter: String,
    },
    /// List a page of the users, in short, in the order of their e-mail addresses.
    List {
        /// The page begins after this e-mail address. `None`: with the first user.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The page's maximum length, from 1 to [`MAX_USERS_PER_PAGE`]. `None`: [`USERS_PER_PAGE`].
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Show one user in full.
    Show {
        /// The user's e-mail address.
        #[serde(rename = "target")]
        email: String,
    },
    /// Record that the signer knows of an administrator who was added on the authority's machine.
    Acknowledge {
        /// The number of the log entry that records the addition.
        entry: u64,
    },
}

/// The result of a statement.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementAnswer {
    /// A letter's text, encrypted to the encryption certificate that the statement names, as DER of
    /// a CMS `ContentInfo`. No letter is sent in the clear.
    EncryptedLetter(#[serde(with = "hexadecimal")] Vec<u8>),
    /// All users in short, or the last page of them.
    Users(Vec<UserSummary>),
    /// A page of the users that is not the last.
    UserPage {
        /// The users, in the order of their e-mail addresses.
        users: Vec<UserSummary>,
        /// The value of `after` in the statement for the next page.
        next: String,
    },
    /// One user, in full.
    User(Box<UserDetails>),
    /// The log records that the signer knows of the administrator whose addition is this entry.
    Acknowledged(u64),
    /// A refusal without any effect, with the reason as a sentence for the administrator. It is a
    /// decision of the authority, not a fault.
    Refused(String),
}

// Manual, because a letter's ciphertext is long.
impl fmt::Debug for StatementAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EncryptedLetter(cms) => write!(f, "EncryptedLetter({} bytes)", cms.len()),
            Self::Users(users) => f.debug_tuple("Users").field(users).finish(),
            Self::UserPage { users, next } => {
                f.debug_struct("UserPage").field("users", users).field("next", next).finish()
            }
            Self::User(user) => f.debug_tuple("User").field(user).finish(),
            Self::Acknowledged(entry) => f.debug_tuple("Acknowledged").field(entry).finish(),
            Self::Refused(reason) => f.debug_tuple("Refused").field(reason).finish(),
        }
    }
}

impl AdminOperation {
    /// The names of all operations.
    pub(super) const NAMES: [&'static str; 6] = ["issue", "recover", "letter", "list", "show", "acknowledge"];

    /// The operation's name in the statement.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Recover { .. } => "recover",
            Self::Letter { .. } => "letter",
            Self::List { .. } => "list",
            Self::Show { .. } => "show",
            Self::Acknowledge { .. } => "acknowledge",
        }
    }

    /// The operation's target, if it is about one user or letter: an e-mail address or a letter's
    /// reference.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Issue { email, .. } | Self::Recover { email, .. } | Self::Show { email } => Some(email),
            Self::Letter { letter } => Some(letter),
            Self::List { .. } | Self::Acknowledge { .. } => None,
        }
    }

    /// Whether the operation changes nothing.
    pub const fn only_reads(&self) -> bool {
        match self {
            Self::List { .. } | Self::Show { .. } => true,
            Self::Issue { .. } | Self::Recover { .. } | Self::Letter { .. } | Self::Acknowledge { .. } => false,
        }
    }

    /// Whether the response to the operation has a letter.
    pub const fn returns_letter(&self) -> bool {
        match self {
            Self::Issue { .. } | Self::Recover { .. } | Self::Letter { .. } => true,
            Self::List { .. } | Self::Show { .. } | Self::Acknowledge { .. } => false,
        }
    }

    /// Whether a second execution has no effect that the first one had not.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            // Each execution issues another letter, which voids the earlier one.
            Self::Issue { .. } | Self::Recover { .. } => false,
            Self::Letter { .. } | Self::List { .. } | Self::Show { .. } | Self::Acknowledge { .. } => true,
        }
    }

    /// Checks the form of the members. Only the authority knows whether a user or letter exists.
    ///
    /// # Errors
    /// The rule that is broken, as a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        let require = |condition: bool, rule: &str| if condition { Ok(()) } else { Err(rule.to_owned()) };
        match self {
            Self::Issue { email, name, levels, .. } => {
                require(is_email(email), NOT_AN_EMAIL)?;
                let is_good = |name: &String| !name.trim().is_empty() && !name.chars().any(char::is_control);
                let names = "a name must not be empty or contain control characters";
                require(name.as_ref().is_none_or(is_good), names)?;
                let is_good = |levels: &Vec<SecurityLevel>| !levels.is_empty() && !has_doubles(levels);
                let rule = "levels must name at least one level, without repetition";
                require(levels.as_ref().is_none_or(is_good), rule)
            }
            Self::Recover { email, .. } | Self::Show { email } => require(is_email(email), NOT_AN_EMAIL),
            Self::Letter { letter } => {
                let is_reference = !letter.is_empty() && letter.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let is_good = is_email(letter) && (is_reference || letter.contains('@'));
                require(is_good, "the target must be an e-mail address or a letter's reference")
            }
            Self::List { limit, .. } => {
                let is_good = limit.is_none_or(|limit| (1..=MAX_USERS_PER_PAGE).contains(&limit));
                require(is_good, &format!("a page has 1 to {MAX_USERS_PER_PAGE} users"))
            }
            Self::Acknowledge { .. } => Ok(()),
        }
    }
}

const NOT_AN_EMAIL: &str = "the target must be an e-mail address";

fn is_email(target: &str) -> bool {
    let is_short = !target.is_empty() && target.len() <= MAX_EMAIL_BYTES;
    is_short && !target.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn has_doubles(levels: &[SecurityLevel]) -> bool {
    levels.iter().enumerate().any(|(at, level)| levels.iter().skip(at + 1).any(|other| other == level))
}
