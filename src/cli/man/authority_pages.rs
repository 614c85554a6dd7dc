//! The pages of the authority and of its administrators.

use crate::cli::exit::Exit;
use crate::cli::man_page::{
    ASKS_AUTHORITY, AUTHORITY, AUTHORITY_FILES, AUTHORITY_TOML, CONTROL_SOCKET, DATABASE, DONE, FAULT, INTERRUPTED,
    KEYSET_FILES, LOG_BROKEN, PIN, Page, REFUSED, SOFTHSM_CONF, USAGE,
};

/// See [`Page`].
pub const PAGES: &[Page] = &[
    Page {
        name: "tokenkeep-authority",
        exits: AUTHORITY,
        files: AUTHORITY_FILES,
        examples: &[(
            "Make an authority, and run it:",
            &[
                "tokenkeep authority init --config hsm-config/authority.toml \\",
                "  --first-administrator admin@example.org \\",
                "  --letter-out admin.letter",
                "tokenkeep authority serve --config hsm-config/authority.toml",
            ],
        )],
        see_also: &["tokenkeep-admin", "tokenkeep-enroll", "systemctl(1)"],
    },
    Page {
        name: "tokenkeep-authority-init",
        exits: &[DONE, FAULT, USAGE, (Exit::Absent, "The PKCS#11 module was not found."), PIN, REFUSED, INTERRUPTED],
        files: &[AUTHORITY_TOML, DATABASE, SOFTHSM_CONF],
        examples: &[(
            "As a system service, with the Debian package, as root:",
            &[
                "runuser -u tokenkeep -- \\",
                "  env SOFTHSM2_CONF=/etc/tokenkeep/softhsm2.conf \\",
                "  tokenkeep authority init \\",
                "  --config /etc/tokenkeep/authority.toml \\",
                "  --first-administrator admin@example.org \\",
                "  --letter-out /var/lib/tokenkeep/admin.letter",
            ],
        )],
        see_also: &["tokenkeep-authority-serve", "tokenkeep-enroll", "softhsm2-util(1)", "runuser(1)"],
    },
    Page {
        name: "tokenkeep-authority-serve",
        exits: &[
            (Exit::Done, "Stopped by SIGTERM or Ctrl-C."),
            FAULT,
            USAGE,
            (Exit::Absent, "The authority's token or its module was not found."),
            PIN,
            REFUSED,
            LOG_BROKEN,
        ],
        files: AUTHORITY_FILES,
        examples: &[
            ("In the foreground:", &["tokenkeep authority serve --config hsm-config/authority.toml"]),
            (
                "With the PIN from a file that only its owner can read:",
                &[
                    "tokenkeep authority serve --config hsm-config/authority.toml \\",
                    "  --pin-source file:authority.pin",
                ],
            ),
            ("As a system service, with the Debian package, as root:", &["systemctl enable --now tokenkeep-authority"]),
        ],
        see_also: &["tokenkeep-authority-init", "systemctl(1)", "journalctl(1)", "systemd-creds(1)"],
    },
    Page {
        name: "tokenkeep-authority-answer",
        exits: &[
            (Exit::Done, "The response was written; it may be a refusal."),
            FAULT,
            USAGE,
            (Exit::Absent, "The authority's token or its module was not found."),
            PIN,
            REFUSED,
            (Exit::NotVerified, "The file is not a statement."),
            LOG_BROKEN,
            INTERRUPTED,
        ],
        files: AUTHORITY_FILES,
        examples: &[(
            "Answer a statement, to be opened with tokenkeep-admin-open(1):",
            &[
                "tokenkeep authority answer --config hsm-config/authority.toml \\",
                "  --in issue.statement --out issue.response",
            ],
        )],
        see_also: &["tokenkeep-admin-open", "tokenkeep-admin-issue"],
    },
    Page {
        name: "tokenkeep-authority-check",
        exits: &[
            (Exit::Done, "Every check passed."),
            (Exit::Fault, "A check failed, or could not be made."),
            USAGE,
            (Exit::Absent, "The authority's token or its module was not found."),
            PIN,
            REFUSED,
            LOG_BROKEN,
            INTERRUPTED,
        ],
        files: AUTHORITY_FILES,
        examples: &[
            ("By hand:", &["tokenkeep authority check --config hsm-config/authority.toml"]),
            (
                "While the service of the Debian package runs, as root:",
                &["runuser -u tokenkeep -- tokenkeep authority check \\", "  --config /etc/tokenkeep/authority.toml"],
            ),
        ],
        see_also: &["tokenkeep-authority-serve", "tokenkeep-doctor", "systemctl(1)"],
    },
    Page {
        name: "tokenkeep-authority-administrator",
        exits: AUTHORITY,
        files: AUTHORITY_FILES,
        examples: ADMINISTRATOR_EXAMPLES,
        see_also: &["tokenkeep-admin-acknowledge"],
    },
    Page {
        name: "tokenkeep-authority-administrator-add",
        exits: AUTHORITY,
        files: &[AUTHORITY_TOML, DATABASE, CONTROL_SOCKET, SOFTHSM_CONF],
        examples: ADMINISTRATOR_EXAMPLES,
        see_also: &["tokenkeep-admin-acknowledge", "tokenkeep-enroll", "systemctl(1)"],
    },
    Page {
        name: "tokenkeep-admin",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[
            ("Issue a letter, and hand it over in a way that nobody else can read:", ISSUE),
            ("List the users, and show one:", &["tokenkeep admin list --keyset admin", SHOW]),
        ],
        see_also: &["tokenkeep-authority", "tokenkeep-enroll"],
    },
    Page {
        name: "tokenkeep-admin-issue",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[
            ("A letter for somebody new:", ISSUE),
            (
                "A letter to renew with, good for two weeks, for two levels only:",
                &[
                    "tokenkeep admin issue user@example.org --keyset admin \\",
                    "  --valid-for 2w --levels high,medium --letter-out again.letter",
                ],
            ),
            (
                "For an authority without a network:",
                &[
                    "tokenkeep admin issue user@example.org --keyset admin \\",
                    "  --name 'Example, User' --statement-out issue.statement",
                ],
            ),
        ],
        see_also: &["tokenkeep-enroll", "tokenkeep-admin-letter", "tokenkeep-authority-answer"],
    },
    Page {
        name: "tokenkeep-admin-recover",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[
            (
                "The PIN is forgotten:",
                &["tokenkeep admin recover user@example.org --keyset admin \\", "  --letter-out recovered.letter"],
            ),
            (
                "The token is lost:",
                &[
                    "tokenkeep admin recover user@example.org --lost \\",
                    "  --keyset admin --letter-out recovered.letter",
                ],
            ),
        ],
        see_also: &["tokenkeep-enroll", "tokenkeep-admin-letter", "tokenkeep-pin-unblock"],
    },
    Page {
        name: "tokenkeep-admin-letter",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[(
            "The answer to an earlier command was lost:",
            &["tokenkeep admin letter user@example.org --keyset admin \\", "  --letter-out user.letter"],
        )],
        see_also: &["tokenkeep-admin-issue", "tokenkeep-admin-recover"],
    },
    Page {
        name: "tokenkeep-admin-list",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[
            ("The first page:", &["tokenkeep admin list --keyset admin"]),
            ("A later page, for a script:", &["tokenkeep admin list --keyset admin --after user@example.org --json"]),
        ],
        see_also: &["tokenkeep-admin-show"],
    },
    Page {
        name: "tokenkeep-admin-show",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[("Certificates and letters of a user:", &[SHOW])],
        see_also: &["tokenkeep-admin-list", "tokenkeep-admin-letter"],
    },
    Page {
        name: "tokenkeep-admin-acknowledge",
        exits: ASKS_AUTHORITY,
        files: KEYSET_FILES,
        examples: &[("Acknowledge entry 42 of the audit log:", &["tokenkeep admin acknowledge 42 --keyset admin"])],
        see_also: &["tokenkeep-authority-administrator-add"],
    },
    Page {
        name: "tokenkeep-admin-open",
        exits: &[
            DONE,
            FAULT,
            USAGE,
            (Exit::Absent, "The keyset was not found."),
            PIN,
            REFUSED,
            (Exit::NotVerified, "The response does not belong to the statement, or the audit log was changed."),
            INTERRUPTED,
        ],
        files: KEYSET_FILES,
        examples: &[(
            "Sign a command into a file, take it to the authority, and open its response:",
            &[
                "tokenkeep admin issue user@example.org --keyset admin \\",
                "  --name 'Example, User' --statement-out issue.statement",
                "tokenkeep authority answer --config hsm-config/authority.toml \\",
                "  --in issue.statement --out issue.response",
                "tokenkeep admin open issue.response --keyset admin \\",
                "  --statement issue.statement --letter-out user.letter",
            ],
        )],
        see_also: &["tokenkeep-authority-answer", "tokenkeep-admin-issue"],
    },
];

const ISSUE: &[&str] =
    &["tokenkeep admin issue user@example.org --name 'Example, User' \\", "  --keyset admin --letter-out user.letter"];

const SHOW: &str = "tokenkeep admin show user@example.org --keyset admin";

const ADMINISTRATOR_EXAMPLES: &[(&str, &[&str])] = &[(
    "No administrator can use a keyset any more; the authority is stopped:",
    &[
        "tokenkeep authority administrator add new@example.org \\",
        "  --name 'New, Administrator' --letter-out new.letter \\",
        "  --config hsm-config/authority.toml",
    ],
)];
