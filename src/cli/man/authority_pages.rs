//! The pages of the authority.

use crate::cli::exit::Exit;
use crate::cli::man_page::{
    AUTHORITY, AUTHORITY_FILES, AUTHORITY_TOML, CONTROL_SOCKET, DATABASE, DONE, FAULT, INTERRUPTED, LOG_BROKEN, PIN,
    Page, REFUSED, SOFTHSM_CONF, USAGE,
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
];

const ADMINISTRATOR_EXAMPLES: &[(&str, &[&str])] = &[(
    "No administrator can use a keyset any more; the authority is stopped:",
    &[
        "tokenkeep authority administrator add new@example.org \\",
        "  --name 'New, Administrator' --letter-out new.letter \\",
        "  --config hsm-config/authority.toml",
    ],
)];
