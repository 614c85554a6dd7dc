//! The form of the table's entries, and what several entries share: files and exit statuses.

use crate::cli::exit::Exit;

/// The sections of a page that the command-line definitions do not contain.
#[derive(Debug)]
pub struct Page {
    /// the page's name, as of its file: `tokenkeep-keyset-list`
    pub name: &'static str,
    /// exit statuses, each with its meaning here; an empty text stands for that of [`status_text`]
    pub exits: &'static [(Exit, &'static str)],
    /// paths that the command reads or writes
    pub files: &'static [File],
    /// purpose and lines; a line fits into 80 columns when it is indented
    pub examples: &'static [(&'static str, &'static [&'static str])],
    /// other pages; without a section in parentheses they are pages of this program in section 1
    pub see_also: &'static [&'static str],
}

/// An entry of FILES.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// the path, with variables as a shell writes them
    pub path: &'static str,
    /// what it contains, and where it is if the variable is not set
    pub purpose: &'static str,
}

/// The meaning of an exit status where a page has no better one.
pub fn status_text(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "Success.",
        Exit::Fault => "A fault: none of the other values applies.",
        Exit::Usage => "The command line or a configuration file is invalid.",
        Exit::Absent => "The token, keyset or key was not found.",
        Exit::Pin => "No PIN, a wrong PIN, a locked PIN, or a cancelled prompt.",
        Exit::Refused => "The authority, a user or a rule refused it, or several keysets or tokens match.",
        Exit::Unreachable => "The authority cannot be reached.",
        Exit::Waiting => "The authority has not decided yet. No command ends with this value so far.",
        Exit::NotVerified => "A signature, a message or an answer is not what it claims to be.",
        Exit::LogBroken => "The authority's audit log was changed or cut off.",
        Exit::Interrupted => "Interrupted, for instance by Ctrl-C.",
    }
}

pub const DONE: (Exit, &str) = (Exit::Done, "");
pub const FAULT: (Exit, &str) = (Exit::Fault, "");
pub const USAGE: (Exit, &str) = (Exit::Usage, "");
pub const ABSENT: (Exit, &str) = (Exit::Absent, "");
pub const PIN: (Exit, &str) = (Exit::Pin, "");
pub const REFUSED: (Exit, &str) = (Exit::Refused, "");
pub const UNREACHABLE: (Exit, &str) = (Exit::Unreachable, "");
pub const NOT_VERIFIED: (Exit, &str) = (Exit::NotVerified, "");
pub const LOG_BROKEN: (Exit, &str) = (Exit::LogBroken, "");
pub const INTERRUPTED: (Exit, &str) = (Exit::Interrupted, "");

/// For a command that only reads tokens.
pub const READS: &[(Exit, &str)] = &[DONE, FAULT, USAGE, (Exit::Absent, "No PKCS#11 module was found.")];
/// For a command that chooses a keyset or a token.
pub const CHOOSES: &[(Exit, &str)] = &[DONE, FAULT, USAGE, ABSENT, REFUSED, INTERRUPTED];
/// For a command that uses a key on a token.
pub const USES_KEY: &[(Exit, &str)] = &[DONE, FAULT, USAGE, ABSENT, PIN, REFUSED, INTERRUPTED];
/// For a command that uses a key and talks to the authority.
pub const ASKS_AUTHORITY: &[(Exit, &str)] =
    &[DONE, FAULT, USAGE, ABSENT, PIN, REFUSED, UNREACHABLE, NOT_VERIFIED, INTERRUPTED];
/// For a command on the authority's own token and database.
pub const AUTHORITY: &[(Exit, &str)] = &[DONE, FAULT, USAGE, ABSENT, PIN, REFUSED, LOG_BROKEN, INTERRUPTED];
/// For a command that only prints.
pub const PRINTS: &[(Exit, &str)] = &[DONE, FAULT, USAGE];

pub const AGENT_TOML: File = File {
    path: "$XDG_CONFIG_HOME/tokenkeep/agent.toml",
    purpose: "The user's defaults: modules, keyset, PIN source, prompter. Default of the variable: ~/.config.",
};
pub const HIDDEN: File = File {
    path: "$XDG_STATE_HOME/tokenkeep/hidden-keysets.json",
    purpose: "The keysets that are hidden on this machine. Default of the variable: ~/.local/state.",
};
pub const LOCKS: File = File {
    path: "$XDG_RUNTIME_DIR/tokenkeep/",
    purpose: "A lock file for each token, named after its module and serial number, the numbers of wrong PINs, \
              and the tested modules. Without the variable: /run/user/UID/tokenkeep, otherwise /tmp/tokenkeep-UID.",
};
pub const API_SOCKET: File = File {
    path: "$XDG_RUNTIME_DIR/tokenkeep/agent/api.sock",
    purpose: "The socket of the agent's API. If an agent listens there, the command goes through it. \
              TOKENKEEP_AGENT_API names another socket.",
};
pub const OWN_API_SOCKET: File = File {
    path: "$XDG_RUNTIME_DIR/tokenkeep/agent/api.sock",
    purpose: "The socket of the agent's API, for TOKENKEEP_AGENT_API.",
};
pub const SSH_SOCKET: File = File {
    path: "$XDG_RUNTIME_DIR/tokenkeep/agent/ssh.sock",
    purpose: "The socket of the SSH agent protocol, for SSH_AUTH_SOCK.",
};
pub const AGENT_LOCK: File =
    File { path: "$XDG_RUNTIME_DIR/tokenkeep/agent/lock", purpose: "Locked by the running agent; has its process ID." };
pub const AGENT_LOG: File = File {
    path: "$XDG_RUNTIME_DIR/tokenkeep/agent/log",
    purpose: "The messages of an agent that was started with --env. Each start empties it.",
};
pub const SOFTHSM_CONF: File = File {
    path: "$SOFTHSM2_CONF",
    purpose: "SoftHSM's configuration, which names its token directory. Default: ~/.config/softhsm2/softhsm2.conf, \
              otherwise /etc/softhsm/softhsm2.conf.",
};
pub const AUTHORITY_TOML: File = File {
    path: "/etc/tokenkeep/authority.toml",
    purpose: "The authority's configuration, as the Debian package installs it; --config names it. \
              /usr/share/tokenkeep/hsm-config/authority.toml explains every key.",
};
pub const DATABASE: File = File {
    path: "STATE/authority.db",
    purpose: "The authority's database. STATE is `state` in the configuration. Default: $STATE_DIRECTORY, otherwise \
              $XDG_STATE_HOME/tokenkeep/authority, otherwise ~/.local/state/tokenkeep/authority.",
};
pub const CONTROL_SOCKET: File = File {
    path: "STATE/control.sock",
    purpose: "Exists while the authority serves. `authority answer` and `authority check` go through it.",
};

/// For a command on tokens.
pub const TOKEN_FILES: &[File] = &[AGENT_TOML, API_SOCKET, LOCKS];
/// For a command that chooses a keyset.
pub const KEYSET_FILES: &[File] = &[AGENT_TOML, HIDDEN, API_SOCKET, LOCKS];
/// For a command of the authority.
pub const AUTHORITY_FILES: &[File] = &[AUTHORITY_TOML, DATABASE, CONTROL_SOCKET, SOFTHSM_CONF];
/// For a command to the agent.
pub const AGENT_FILES: &[File] = &[SSH_SOCKET, OWN_API_SOCKET, AGENT_LOCK];
