//! The effect of a flood on other users: `cargo bench --bench floods`.
//!
//! An authority runs on SoftHSM tokens in a directory of its own. Users enroll there one after the
//! other, each with a letter and a new token: without a flood, and during a flood from 1, 3 and 8
//! other addresses of the loopback network. The pairs are interleaved, so that other load on the
//! machine affects both. Prints one line per flood: `hashing addresses=8 ALONE FLOODED RATIO
//! REQUESTS`, with the medians in milliseconds, their ratio, and the total number of requests (or
//! connections) of the flood. The goal is a ratio of at most 2.5.
//!
//! Then prints the ratio of the times for a wrong temporary key with a known and an unknown
//! reference, which should be 1. `TOKENKEEP_BENCH_PAIRS` (3) makes the run longer; with 3 it takes
//! about two minutes. The floods are limited (at most 100 requests per second and address), and
//! nothing leaves the machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a benchmark may panic, and prints"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use support::deployment::Deployment;
use support::flood::{Flood, FloodKind};
use support::machine::Machine;
use tokenkeep::cmp::{MacProtection, PkiHeader, Pvno, general_request, oid};
use tokenkeep::letter::{Letter, TemporaryKey};

fn main() {
    let pairs = std::env::var("TOKENKEEP_BENCH_PAIRS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let deployment = Deployment::begin();
    println!(
        "# flood, addresses, ms without and during the flood (medians), ratio, requests or connections of the flood"
    );
    let mut people = 0;
    for kind in FloodKind::ALL {
        for addresses in [1, 3, 8] {
            let (mut alone, mut flooded, mut sent) = (Vec::new(), Vec::new(), 0);
            for _ in 0..pairs {
                alone.push(enrollment(&deployment, &mut people));
                let (http, https) = (deployment.authority.http_address(), deployment.authority.https_address());
                let flood = Flood::start(kind, addresses, &http, &https);
                std::thread::sleep(Duration::from_secs(1));
                flooded.push(enrollment(&deployment, &mut people));
                sent += flood.sent.load(Ordering::Relaxed);
            }
            let (alone, flooded) = (median(alone), median(flooded));
            let ratio = flooded.as_secs_f64() / alone.as_secs_f64();
            let name = format!("{kind:?}").to_lowercase();
            println!("{name} addresses={addresses} {} {} {ratio:.2} {sent}", alone.as_millis(), flooded.as_millis());
        }
    }
    references(&deployment, pairs);
}

/// Has a letter issued, and measures the time of the enrollment.
fn enrollment(deployment: &Deployment, people: &mut usize) -> Duration {
    *people += 1;
    // A machine of its own: SoftHSM becomes slower with the number of tokens in its directory.
    let person = Machine::new();
    person.write_secret("pin", "person-1234");
    let letter = person.file("letter").display().to_string();
    deployment.issue(&format!("person{people}@example.org"), &letter).ok();
    let begin = Instant::now();
    let arguments = ["enroll", "--letter", "letter", "--keyset", "default", "--level", "high", "--new-token"];
    person.tokenkeep(&[&arguments[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    begin.elapsed()
}

/// The response time to a wrong temporary key, with a known and with an unknown reference. Each
/// failure delays the next response, so only the first of an address is measured, and each request
/// has an address of its own.
fn references(deployment: &Deployment, pairs: usize) {
    deployment.issue("known@example.org", "known.letter").ok();
    let letter = Letter::read_file(&deployment.machine.file("known.letter")).unwrap();
    let wrong = TemporaryKey::from_mac(&[7; 32]);
    let mut next = 20;
    let mut measured = |reference: &str| {
        next += 1;
        let header = PkiHeader::request(Pvno::CMP2000, reference, None, Timestamp::now()).unwrap();
        let draft = general_request(header, &[oid::IT_CA_CERTS]);
        let message = draft.protect_with_mac(wrong.cmp_secret(), &MacProtection::pbmac1().unwrap()).unwrap();
        let begin = Instant::now();
        support::flood::post_from(next, &deployment.authority.http_address(), &message);
        begin.elapsed()
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..(pairs * 10).min(100) {
        known.push(measured(letter.reference.as_str()));
        unknown.push(measured("E1234567"));
    }
    let (known, unknown) = (median(known), median(unknown));
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    println!("reference known {} unknown {} us {ratio:.2}", known.as_micros(), unknown.as_micros());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
