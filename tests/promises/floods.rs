//! Requests of strangers, from any number of addresses, do not keep others from the authority; a
//! request that the authority cannot verify costs it no signature, and the client reports what it
//! does not know.

use std::time::{Duration, Instant};

use crate::support::deployment::Deployment;
use crate::support::flood::{Flood, FloodKind, expensive_message};
use crate::support::raw_cmp::post;
use crate::support::shared_authority::TestUser;

#[test]
fn enrollment_works_under_floods_from_eight_addresses() {
    // A separate authority, so that other tests need not wait for it.
    let deployment = Deployment::begin();
    let (http, https) = (deployment.authority.http_address(), deployment.authority.https_address());
    deployment.machine.write_secret("pin1", Deployment::USER_PIN);
    let floods: Vec<Flood> = FloodKind::ALL.into_iter().map(|kind| Flood::start(kind, 8, &http, &https)).collect();
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    deployment.issue("user@example.org", "user.letter").ok();
    deployment.enroll_new("user.letter", "default", "pin1").ok();
    assert!(begin.elapsed() < Duration::from_mins(1), "it took {:?}", begin.elapsed());
    for (kind, flood) in FloodKind::ALL.into_iter().zip(&floods) {
        let sent = flood.sent.load(std::sync::atomic::Ordering::Relaxed);
        // A client that requests hashing waits for the answer: at least each of its threads has
        // sent a request.
        let least = if kind == FloodKind::Hashing { 16 } else { 50 };
        assert!(sent >= least, "there was no flood: {kind:?} {sent} in {:?}", begin.elapsed());
    }
}

#[test]
fn excessive_hashing_is_refused_before_it_is_done() {
    let user = TestUser::new();
    let mut message = expensive_message();
    let rounds = 262_144_u32.to_be_bytes();
    let at = message.windows(3).position(|window| window == &rounds[1..]).unwrap();
    message[at + 2] = 1;
    let begin = Instant::now();
    let (status, answer) = post(user.authority.http_address(), "/.well-known/cmp", "application/pkixcmp", &message);
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&answer).contains("262145 iterations"), "{}", String::from_utf8_lossy(&answer));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_unsigned_statement_gets_an_unsigned_refusal() {
    let user = TestUser::new();
    let url = format!("{}/statements", user.authority.https_url());
    let header = "content-type: application/pkcs7-mime";
    let curl = ["-sSk", "--noproxy", "*", "-w", " %{http_code}", "-H", header, "--data-binary", "hello", &url];
    let output = user.machine.run("curl", &curl, b"").ok();
    let result = output.out();
    assert!(result.ends_with(" 403") && result.starts_with("cannot ") && result.len() < 200, "{result}");
}
