//! The pages of the program itself and of the commands that set up a user's account: agent,
//! doctor, demo, completions, man.

use crate::cli::exit::Exit;
use crate::cli::man_page::{
    ABSENT, AGENT_FILES, AGENT_LOCK, AGENT_LOG, AGENT_TOML, AUTHORITY_TOML, DATABASE, DONE, FAULT, File, HIDDEN,
    INTERRUPTED, LOCKS, LOG_BROKEN, NOT_VERIFIED, OWN_API_SOCKET, PIN, PRINTS, Page, REFUSED, SOFTHSM_CONF, SSH_SOCKET,
    UNREACHABLE, USAGE,
};

/// See [`Page`].
pub const PAGES: &[Page] = &[
    Page {
        name: "tokenkeep",
        exits: &[
            DONE,
            FAULT,
            USAGE,
            ABSENT,
            PIN,
            REFUSED,
            UNREACHABLE,
            (Exit::Waiting, ""),
            NOT_VERIFIED,
            LOG_BROKEN,
            INTERRUPTED,
        ],
        files: &[
            AGENT_TOML,
            HIDDEN,
            SSH_SOCKET,
            OWN_API_SOCKET,
            AGENT_LOCK,
            LOCKS,
            SOFTHSM_CONF,
            AUTHORITY_TOML,
            DATABASE,
            DOCUMENTS,
        ],
        examples: &[
            ("See the whole procedure on temporary tokens:", &["tokenkeep demo"]),
            (
                "Enroll with a letter, and sign:",
                &[
                    "tokenkeep enroll --letter user.letter --level high --new-token",
                    "tokenkeep sign --keyset default message.txt -o signed.p7m",
                ],
            ),
            (
                "Encrypt to a person, and decrypt:",
                &[
                    "tokenkeep encrypt --to user@example.org message.txt -o secret.p7m",
                    "tokenkeep decrypt --keyset default secret.p7m",
                ],
            ),
            ("Check the setup:", &["tokenkeep doctor"]),
        ],
        see_also: &["pkcs11-tool(1)", "softhsm2-util(1)", "p11-kit(8)", "ssh-add(1)", "git-config(1)", "systemctl(1)"],
    },
    Page {
        name: "tokenkeep-agent",
        exits: &[
            (Exit::Done, "Stopped by a signal or `tokenkeep agent stop`. With --env: an agent runs."),
            FAULT,
            USAGE,
            (Exit::Absent, "No PKCS#11 module was found."),
            (Exit::Refused, "An agent of this user is running already."),
        ],
        files: &[AGENT_TOML, HIDDEN, SSH_SOCKET, OWN_API_SOCKET, AGENT_LOCK, AGENT_LOG, LOCKS],
        examples: &[
            ("For a shell and the programs that it starts:", &["eval \"$(tokenkeep agent --env)\"", "ssh-add -L"]),
            ("In the foreground of a terminal, with log messages:", &["tokenkeep agent -v"]),
            ("With systemd:", &["systemctl --user enable --now tokenkeep-agent.socket"]),
        ],
        see_also: &[
            "tokenkeep-doctor",
            "tokenkeep-git-sign",
            "ssh-add(1)",
            "ssh-agent(1)",
            "ssh-keygen(1)",
            "git-config(1)",
            "systemd.socket(5)",
            "systemctl(1)",
        ],
    },
    Page {
        name: "tokenkeep-agent-status",
        exits: &[
            (Exit::Done, "An agent listens on both sockets."),
            FAULT,
            USAGE,
            (Exit::Absent, "No agent listens on one of the sockets."),
        ],
        files: AGENT_FILES,
        examples: &[
            ("For a person:", &["tokenkeep agent status"]),
            ("For a script:", &["tokenkeep agent status --json"]),
        ],
        see_also: &["tokenkeep-doctor", "ssh-add(1)"],
    },
    Page {
        name: "tokenkeep-agent-log-off",
        exits: &[DONE, FAULT, USAGE, NO_AGENT],
        files: &[SSH_SOCKET],
        examples: &[
            ("End all sessions:", &["tokenkeep agent log-off"]),
            ("Whenever the screen is locked:", &["xss-lock -- sh -c 'tokenkeep agent log-off; exec i3lock -n'"]),
        ],
        see_also: &["tokenkeep-agent-stop", "ssh-add(1)"],
    },
    Page {
        name: "tokenkeep-agent-stop",
        exits: &[DONE, FAULT, USAGE, NO_AGENT],
        files: AGENT_FILES,
        examples: &[
            ("Stop the agent, for instance after an upgrade:", &["tokenkeep agent stop"]),
            (
                "Stop it permanently, with systemd:",
                &["systemctl --user disable --now \\", "  tokenkeep-agent.socket tokenkeep-agent.service"],
            ),
        ],
        see_also: &["tokenkeep-agent-log-off", "systemctl(1)"],
    },
    Page {
        name: "tokenkeep-doctor",
        exits: &[
            (Exit::Done, "No problem was found. Notes do not count."),
            (Exit::Fault, "A problem was found."),
            USAGE,
        ],
        files: &[AGENT_TOML, SSH_SOCKET, OWN_API_SOCKET, AGENT_LOCK, LOCKS, SOFTHSM_CONF],
        examples: &[
            ("Check the setup:", &["tokenkeep doctor"]),
            ("Check one module:", &["tokenkeep doctor --module /usr/lib/softhsm/libsofthsm2.so"]),
        ],
        see_also: &["tokenkeep-tokens", "tokenkeep-agent-status", "pkcs11-tool(1)", "p11-kit(8)", "pcscd(8)"],
    },
    Page {
        name: "tokenkeep-demo",
        exits: &[
            DONE,
            (Exit::Fault, "A step failed. After any failure the directory is kept."),
            USAGE,
            ABSENT,
            INTERRUPTED,
        ],
        files: &[File {
            path: "DIR/",
            purpose: "Tokens, configurations, letters and messages of the demonstration, if --keep names a directory.",
        }],
        examples: &[
            ("Leave nothing behind:", &["tokenkeep demo"]),
            ("Keep everything in a new directory:", &["tokenkeep demo --keep kept"]),
        ],
        see_also: &["tokenkeep-authority", "tokenkeep-enroll", "softhsm2-util(1)"],
    },
    Page {
        name: "tokenkeep-completions",
        exits: PRINTS,
        files: &[
            File {
                path: "/usr/share/bash-completion/completions/tokenkeep",
                purpose: "The completions for bash that the Debian package installs.",
            },
            File { path: "/usr/share/zsh/vendor-completions/_tokenkeep", purpose: "Those for zsh." },
            File { path: "/usr/share/fish/vendor_completions.d/tokenkeep.fish", purpose: "Those for fish." },
        ],
        examples: &[
            (
                "For bash, without the package:",
                &[
                    "mkdir -p ~/.local/share/bash-completion/completions",
                    "cd ~/.local/share/bash-completion/completions",
                    "tokenkeep completions bash > tokenkeep",
                ],
            ),
            (
                "For fish, without the package:",
                &["cd ~/.config/fish/completions", "tokenkeep completions fish > tokenkeep.fish"],
            ),
        ],
        see_also: &["bash(1)", "zsh(1)", "fish(1)"],
    },
    Page {
        name: "tokenkeep-man",
        exits: PRINTS,
        files: &[File {
            path: "/usr/share/man/man1/tokenkeep*.1.gz",
            purpose: "The pages that the Debian package installs.",
        }],
        examples: &[(
            "Write all pages, and read one:",
            &["tokenkeep man --out pages", "man -l pages/tokenkeep-sign.1"],
        )],
        see_also: &["man(1)"],
    },
];

const NO_AGENT: (Exit, &str) = (Exit::Absent, "No agent is running.");

const DOCUMENTS: File = File {
    path: "/usr/share/doc/tokenkeep/",
    purpose: "Handbooks, with the Debian package: AGENT.md for users, OPERATIONS.md for administrators, GIT.md, \
              JSON.md, SECURITY.md.",
};
