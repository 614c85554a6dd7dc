//! The pages of the commands on keysets and tokens: enroll, sign, decrypt, PINs, lists.

use crate::cli::exit::Exit;
use crate::cli::man_page::{
    ABSENT, AGENT_TOML, API_SOCKET, ASKS_AUTHORITY, CHOOSES, DONE, FAULT, HIDDEN, INTERRUPTED, KEYSET_FILES, LOCKS,
    NOT_VERIFIED, PIN, Page, READS, REFUSED, SOFTHSM_CONF, TOKEN_FILES, UNREACHABLE, USAGE, USES_KEY,
};

/// See [`Page`].
pub const PAGES: &[Page] = &[
    Page {
        name: "tokenkeep-enroll",
        exits: ASKS_AUTHORITY,
        files: &[AGENT_TOML, HIDDEN, API_SOCKET, LOCKS, SOFTHSM_CONF],
        examples: &[
            ("Make a keyset on a new soft token:", &["tokenkeep enroll --letter user.letter --level high --new-token"]),
            ("Put it on a smart card:", &["tokenkeep enroll --letter user.letter --token 'My card'"]),
            (
                "After a forgotten PIN, make another keyset from a recovery letter:",
                &["tokenkeep enroll --letter r.letter --keyset second --new-token"],
            ),
            ("Renew a keyset with a newer letter:", &["tokenkeep enroll --letter again.letter --keyset default"]),
        ],
        see_also: &["tokenkeep-admin-issue", "tokenkeep-admin-recover", "tokenkeep-keysets", "softhsm2-util(1)"],
    },
    Page {
        name: "tokenkeep-sign",
        exits: USES_KEY,
        files: KEYSET_FILES,
        examples: &[
            ("Sign a file:", &["tokenkeep sign --keyset default message.txt -o signed.p7m"]),
            (
                "Sign a mail, with a signature that other mail programs show as an attachment:",
                &["tokenkeep sign message.txt -o signed --format smime --detached"],
            ),
            (
                "Take the PIN from a file that only its owner can read:",
                &["tokenkeep sign --pin-source file:pin1 message.txt -o signed.p7m"],
            ),
        ],
        see_also: &["tokenkeep-verify", "tokenkeep-encrypt", "tokenkeep-git-sign", "openssl-cms(1ssl)", "gpgsm(1)"],
    },
    Page {
        name: "tokenkeep-verify",
        exits: &[
            (Exit::Done, "The signature is good, and an authority that is trusted here certifies every signer."),
            FAULT,
            USAGE,
            ABSENT,
            (Exit::NotVerified, "Not verified; nothing was written."),
            INTERRUPTED,
        ],
        files: TOKEN_FILES,
        examples: &[
            ("Verify, and write the content:", &["tokenkeep verify --in signed.p7m --out message.txt"]),
            (
                "Verify a detached signature, and trust one more authority:",
                &["tokenkeep verify --in s.p7s --content message.txt --ca ca.pem"],
            ),
        ],
        see_also: &["tokenkeep-sign", "tokenkeep-decrypt", "openssl-cms(1ssl)", "gpgsm(1)"],
    },
    Page {
        name: "tokenkeep-encrypt",
        exits: &[DONE, FAULT, USAGE, ABSENT, REFUSED, UNREACHABLE, NOT_VERIFIED, INTERRUPTED],
        files: KEYSET_FILES,
        examples: &[
            (
                "Encrypt to a person; the authority is asked for the certificate:",
                &["tokenkeep encrypt --to user@example.org message.txt -o secret.p7m"],
            ),
            (
                "Encrypt to a certificate in a file:",
                &["tokenkeep encrypt --certificate user.pem message.txt -o secret.p7m"],
            ),
        ],
        see_also: &["tokenkeep-decrypt", "tokenkeep-sign", "openssl-cms(1ssl)", "gpgsm(1)"],
    },
    Page {
        name: "tokenkeep-decrypt",
        exits: &[DONE, FAULT, USAGE, ABSENT, PIN, REFUSED, NOT_VERIFIED, INTERRUPTED],
        files: KEYSET_FILES,
        examples: &[
            ("Decrypt a message:", &["tokenkeep decrypt --keyset default secret.p7m -o message.txt"]),
            ("Read old mail with the keyset of a recovery:", &["tokenkeep decrypt --keyset second secret.p7m"]),
        ],
        see_also: &["tokenkeep-encrypt", "tokenkeep-verify", "openssl-cms(1ssl)", "gpgsm(1)"],
    },
    Page {
        name: "tokenkeep-git-sign",
        exits: USES_WITH_VERDICT,
        files: KEYSET_FILES,
        examples: &[
            (
                "Let git sign with a keyset:",
                &[
                    "mkdir -p ~/.local/bin",
                    "ln -s \"$(command -v tokenkeep)\" ~/.local/bin/tokenkeep-git-sign",
                    "git config --global gpg.format x509",
                    "git config --global gpg.x509.program tokenkeep-git-sign",
                    "git config --global user.signingkey user@example.org",
                    "git commit -S -m 'A message'",
                ],
            ),
            ("The command that git runs to verify a commit:", &["tokenkeep git-sign --status-fd=1 --verify FILE -"]),
        ],
        see_also: &[
            "tokenkeep-sign",
            "tokenkeep-verify",
            "tokenkeep-agent",
            "git-config(1)",
            "git-commit(1)",
            "gpgsm(1)",
        ],
    },
    Page {
        name: "tokenkeep-pin",
        exits: USES_KEY,
        files: KEYSET_FILES,
        examples: &[
            ("See which PINs are locked or low on tries:", &["tokenkeep pin status"]),
            ("Change a PIN:", &["tokenkeep pin change --keyset second"]),
        ],
        see_also: &["tokenkeep-tokens", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-pin-change",
        exits: USES_KEY,
        files: KEYSET_FILES,
        examples: &[
            ("Type the old PIN once and the new one twice:", &["tokenkeep pin change --keyset second"]),
            (
                "In a script:",
                &["tokenkeep pin change --keyset second \\", "  --pin-source file:pin2 --new-pin-source file:pin3"],
            ),
        ],
        see_also: &["tokenkeep-pin-status", "tokenkeep-pin-unblock", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-pin-status",
        exits: &[DONE, FAULT, USAGE, ABSENT],
        files: TOKEN_FILES,
        examples: &[
            ("All tokens:", &["tokenkeep pin status"]),
            ("One token, for a script:", &["tokenkeep pin status default --json"]),
        ],
        see_also: &["tokenkeep-pin-unblock", "tokenkeep-tokens", "tokenkeep-doctor", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-pin-unblock",
        exits: USES_KEY,
        files: TOKEN_FILES,
        examples: &[
            ("Type the SO PIN, then the new PIN twice:", &["tokenkeep pin unblock default"]),
            (
                "In a script:",
                &["tokenkeep pin unblock default \\", "  --so-pin-source file:so.pin --new-pin-source file:pin1"],
            ),
        ],
        see_also: &["tokenkeep-pin-status", "tokenkeep-admin-recover", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-keyset",
        exits: USES_KEY,
        files: KEYSET_FILES,
        examples: &[
            ("List the keysets, and show one:", &["tokenkeep keyset list", "tokenkeep keyset show second"]),
            ("Hide a keyset whose PIN is forgotten:", &["tokenkeep keyset forget default"]),
        ],
        see_also: &["tokenkeep-enroll", "tokenkeep-tokens"],
    },
    KEYSET_LIST,
    Page { name: "tokenkeep-keysets", see_also: &["tokenkeep-keyset-list", "tokenkeep-tokens"], ..KEYSET_LIST },
    Page {
        name: "tokenkeep-token",
        exits: CHOOSES,
        files: &[AGENT_TOML, API_SOCKET, LOCKS, SOFTHSM_CONF],
        examples: &[
            ("List the tokens:", &["tokenkeep token list"]),
            ("Show what a token can do:", &["tokenkeep token show default"]),
            ("Remove a soft token for good:", &["tokenkeep token erase default"]),
        ],
        see_also: &["tokenkeep-tokens", "tokenkeep-pin", "pkcs11-tool(1)", "softhsm2-util(1)"],
    },
    TOKEN_LIST,
    Page {
        name: "tokenkeep-tokens",
        see_also: &["tokenkeep-token-list", "tokenkeep-keysets", "pkcs11-tool(1)", "softhsm2-util(1)"],
        ..TOKEN_LIST
    },
    Page {
        name: "tokenkeep-token-show",
        exits: CHOOSES,
        files: &[AGENT_TOML, API_SOCKET, LOCKS, SOFTHSM_CONF],
        examples: &[
            ("Show what a token can do:", &["tokenkeep token show default"]),
            ("In a script:", &["tokenkeep token show default --json"]),
        ],
        see_also: &["tokenkeep-tokens", "tokenkeep-pin-status", "pkcs11-tool(1)"],
    },
    Page {
        name: "tokenkeep-token-erase",
        exits: CHOOSES,
        files: &[AGENT_TOML, HIDDEN, LOCKS, SOFTHSM_CONF],
        examples: &[
            ("Type the serial number to confirm:", &["tokenkeep token erase default"]),
            ("In a script:", &["tokenkeep token erase default --yes-erase c9287ce204e481cd"]),
        ],
        see_also: &["tokenkeep-tokens", "tokenkeep-keyset-delete", "tokenkeep-keyset-forget", "softhsm2-util(1)"],
    },
];

/// For `git-sign`, which signs and verifies.
const USES_WITH_VERDICT: &[(Exit, &str)] =
    &[DONE, FAULT, USAGE, ABSENT, PIN, REFUSED, (Exit::NotVerified, "The signature is not good."), INTERRUPTED];

const KEYSET_LIST: Page = Page {
    name: "tokenkeep-keyset-list",
    exits: READS,
    files: KEYSET_FILES,
    examples: &[
        (
            "The keysets on all tokens, and those that are hidden too:",
            &["tokenkeep keysets", "tokenkeep keysets --all"],
        ),
        ("For a script:", &["tokenkeep keyset list --json"]),
    ],
    see_also: &["tokenkeep-keysets", "tokenkeep-keyset-show", "tokenkeep-tokens"],
};

const TOKEN_LIST: Page = Page {
    name: "tokenkeep-token-list",
    exits: READS,
    files: TOKEN_FILES,
    examples: &[
        ("All tokens:", &["tokenkeep tokens"]),
        ("The tokens of one module:", &["tokenkeep tokens --module /usr/lib/softhsm/libsofthsm2.so"]),
        ("For a script, with the PKCS#11 URI of each token:", &["tokenkeep tokens --json"]),
    ],
    see_also: &["tokenkeep-tokens", "tokenkeep-keysets", "tokenkeep-pin-status", "pkcs11-tool(1)", "softhsm2-util(1)"],
};
