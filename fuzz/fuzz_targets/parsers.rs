//! All fuzz targets in one program, so that it is built and linked only once. `TOKENKEEP_FUZZ`
//! names the target:
//!
//!     TOKENKEEP_FUZZ=letter cargo fuzz run -s none parsers fuzz/corpus/letter
//!
//! Each target is a file in `parsers/`. Its corpus, which grows during a run, has its own
//! directory.
#![no_main]

mod parsers {
    pub mod cms_message;
    pub mod letter;
    pub mod pki_message;
    pub mod ssh_agent;
    pub mod statement;
    pub mod uri;
}

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use parsers::{cms_message, letter, pki_message, ssh_agent, statement, uri};

const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("cms_message", cms_message::run),
    ("letter", letter::run),
    ("pki_message", pki_message::run),
    ("ssh_agent", ssh_agent::run),
    ("statement", statement::run),
    ("uri", uri::run),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TOKENKEEP_FUZZ").unwrap_or_default();
    let Some((_, run)) = TARGETS.iter().find(|(target, _)| *target == name) else {
        let known: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
        eprintln!("TOKENKEEP_FUZZ must name a target: {}", known.join(", "));
        std::process::exit(2);
    };
    *run
});

fuzz_target!(|data: &[u8]| TARGET(data));
