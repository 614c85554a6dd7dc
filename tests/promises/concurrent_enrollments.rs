//! One letter, one enrollment: if two clients use it at the same moment, exactly one succeeds, and
//! the other is left with nothing.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::proxy::{Direction, Proxy, ProxyAction};
use crate::support::shared_authority::TestUser;

/// A rendezvous of two clients. A client that waits too long continues alone, and the test fails at
/// its end.
#[derive(Default)]
struct Rendezvous {
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Rendezvous {
    fn wait_for_both(&self) {
        let mut arrived = self.arrived.lock().unwrap();
        *arrived += 1;
        self.changed.notify_all();
        let _ = self.changed.wait_timeout_while(arrived, Duration::from_secs(30), |arrived| *arrived < 2).unwrap();
    }

    fn both_arrived(&self) -> bool {
        *self.arrived.lock().unwrap() == 2
    }
}

/// Holds a client's second message to the authority, the request, until the other client's has
/// arrived. The first message asks whether the letter is valid.
fn proxy_with_rendezvous(authority: &str, rendezvous: &Arc<Rendezvous>) -> Proxy {
    let rendezvous = Arc::clone(rendezvous);
    let mut messages = 0;
    Proxy::tampering(authority, move |direction, _, _| {
        if direction == Direction::ToAuthority {
            messages += 1;
            if messages == 2 {
                rendezvous.wait_for_both();
            }
        }
        ProxyAction::Pass
    })
}

fn enroll(machine: &Machine, wire: &Proxy) -> Output {
    let line = ["enroll", "--letter", "the.letter", "--keyset", "default", "--level", "high", "--new-token"];
    machine.tokenkeep(&[&line[..], &["--new-pin-source", "file:pin", "--authority", &wire.url()]].concat())
}

#[test]
fn two_enrollments_with_one_letter_at_once_exactly_one_wins() {
    let one = TestUser::new();
    let other = Machine::new();
    one.issue("the.letter");
    other.write_secret("the.letter", &one.machine.read_text("the.letter"));
    other.write_secret("pin", TestUser::PIN);

    let rendezvous = Arc::new(Rendezvous::default());
    let wires = [(); 2].map(|()| proxy_with_rendezvous(one.authority.http_address(), &rendezvous));
    let (of_one, of_other) = std::thread::scope(|scope| {
        let of_other = scope.spawn(|| enroll(&other, &wires[1]));
        (enroll(&one.machine, &wires[0]), of_other.join().unwrap())
    });
    assert!(rendezvous.both_arrived(), "they did not meet\n{of_one}\n{of_other}");

    let (winner, won, loser, lost) = match (of_one.code(), of_other.code()) {
        (0, _) => (&one.machine, of_one, &other, of_other),
        (_, 0) => (&other, of_other, &one.machine, of_one),
        _ => panic!("neither enrollment succeeded\n{of_one}\n{of_other}"),
    };
    won.ok();
    lost.fails_with(5).says("not enrolled");

    // The loser has no keyset, no key and no object; at most an emptied token, which the next
    // enrollment uses.
    assert_eq!(loser.tokenkeep(&["keysets", "--json"]).ok().out().matches("default").count(), 0);
    for ((label, _), objects) in loser.inventory(&[]) {
        assert!(objects.is_empty() && label == "tokenkeep empty", "{label}: {objects:?}");
    }
    winner.write("message.txt", "a message\n");
    let sign =
        ["sign", "--keyset", "default", "--pin-source", "file:pin", "--in", "message.txt", "--out", "signed.p7m"];
    winner.tokenkeep(&sign).ok();
    winner.tokenkeep(&["verify", "--in", "signed.p7m", "--out", "verified.txt"]).ok();

    // The authority certified one pair of keys.
    let user = one.authority.admin(&["show", &one.email, "--json"]).ok().json();
    let certificates = user["certificates"].as_array().unwrap_or_else(|| panic!("no certificates in {user}"));
    assert_eq!(certificates.len(), 2, "{user}");

    // The loser is not locked out: another letter works on that machine.
    let path = loser.file("new.letter").display().to_string();
    one.authority.admin(&["issue", &one.email, "--letter-out", &path]).ok();
    let line = ["enroll", "--letter", "new.letter", "--level", "high", "--new-token", "--new-pin-source", "file:pin"];
    loser.tokenkeep(&line).ok();
}
