//! What a flood costs somebody else: `cargo bench --bench floods`.
//!
//! An authority serves on SoftHSM tokens in a directory of its own. People enroll there, each with a letter and a new
//! token, one after the other: alone, and under a flood from 1, 3 and 8 other addresses of the loopback network. Pairs
//! are interleaved, so that a machine that is busy for a while is busy for both. Prints a line for each flood:
//! `hashing addresses=8 ALONE FLOODED RATIO REQUESTS`, the medians in milliseconds, how much longer it took, and how
//! many requests (or connections) the flood sent in all. Aimed at: a ratio of 2.5 at most.
//!
//! Then the ratio of a wrong temporary key under a reference that is known to one under a reference that is not, which
//! should be 1. `TOKENKEEP_BENCH_PAIRS` (3) makes it longer; with 3 it takes some two minutes. The floods are bounded
//! in rate (at most 100 requests a second and address), and nothing leaves the machine.
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
use support::flood::{Flood, Kind};
use support::machine::Machine;
use support::story::Story;
use tokenkeep::cmp::{MacProtection, PkiHeader, Pvno, general_request, oid};
use tokenkeep::letter::{Letter, TemporaryKey};

fn main() {
    let pairs = std::env::var("TOKENKEEP_BENCH_PAIRS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let story = Story::begin();
    println!("# flood, addresses, alone and under it in ms (medians), ratio, requests or connections of the flood");
    let mut people = 0;
    for kind in Kind::ALL {
        for addresses in [1, 3, 8] {
            let (mut alone, mut flooded, mut sent) = (Vec::new(), Vec::new(), 0);
            for _ in 0..pairs {
                alone.push(enrollment(&story, &mut people));
                let (http, https) = (story.authority.http_address(), story.authority.https_address());
                let flood = Flood::begin(kind, addresses, &http, &https);
                std::thread::sleep(Duration::from_secs(1));
                flooded.push(enrollment(&story, &mut people));
                sent += flood.sent.load(Ordering::Relaxed);
            }
            let (alone, flooded) = (median(alone), median(flooded));
            let ratio = flooded.as_secs_f64() / alone.as_secs_f64();
            let name = format!("{kind:?}").to_lowercase();
            println!("{name} addresses={addresses} {} {} {ratio:.2} {sent}", alone.as_millis(), flooded.as_millis());
        }
    }
    references(&story, pairs);
}

/// Has a letter issued, and measures how long its person takes to enroll.
fn enrollment(story: &Story, people: &mut usize) -> Duration {
    *people += 1;
    // A machine of their own: the more tokens there are in a directory, the longer SoftHSM takes.
    let person = Machine::new();
    person.write_secret("pin", "person-1234");
    let letter = person.file("letter").display().to_string();
    story.issue(&format!("person{people}@example.org"), &letter).ok();
    let begin = Instant::now();
    let arguments = ["enroll", "--letter", "letter", "--keyset", "default", "--level", "high", "--new-token"];
    person.tokenkeep(&[&arguments[..], &["--new-pin-source", "file:pin"]].concat()).ok();
    begin.elapsed()
}

/// How long an answer takes to a wrong temporary key: where the reference is known, and where it is not. Each failure
/// is answered later than the one before it; the first of an address is measured, and each has an address of its own.
fn references(story: &Story, pairs: usize) {
    story.issue("known@example.org", "known.letter").ok();
    let letter = Letter::read_file(&story.machine.file("known.letter")).unwrap();
    let wrong = TemporaryKey::from_mac(&[7; 32]);
    let mut next = 20;
    let mut measured = |reference: &str| {
        next += 1;
        let header = PkiHeader::request(Pvno::CMP2000, reference, None, Timestamp::now()).unwrap();
        let draft = general_request(header, &[oid::IT_CA_CERTS]);
        let message = draft.protect_with_mac(wrong.cmp_secret(), &MacProtection::pbmac1().unwrap()).unwrap();
        let begin = Instant::now();
        support::flood::post_from(next, &story.authority.http_address(), &message);
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
