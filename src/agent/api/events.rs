//! `/v1/events`: what happens to tokens and log-ins, as it happens (`text/event-stream`, WHATWG HTML §9.2).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::keysets::name_of;
use crate::agent::{Event, Keystore, LogOff};

/// How long a listener that has gone may go unnoticed.
const GLANCE: Duration = Duration::from_secs(1);
/// A comment is sent so often when nothing happens, so that nobody takes silence for a dead agent.
const HEARTBEAT: u32 = 15;

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Tells what happens until the listener goes.
pub fn serve(mut stream: UnixStream, keystore: &Keystore) {
    let events = keystore.events();
    // The first comment says that from here on nothing is missed.
    if stream.write_all(HEAD).and_then(|()| stream.write_all(b": listening\n\n")).is_err() {
        return;
    }
    let mut silent = 0;
    while is_there(&stream) {
        let told = match events.next(GLANCE) {
            Some(event) => {
                silent = 0;
                tell(&mut stream, &event)
            }
            None if silent + 1 >= HEARTBEAT => {
                silent = 0;
                stream.write_all(b": still here\n\n")
            }
            None => {
                silent += 1;
                Ok(())
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// A listener has nothing more to say: when its side can be read, that is its end.
fn is_there(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::IN | PollFlags::HUP)];
    poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 0)
}

fn tell(stream: &mut UnixStream, event: &Event) -> io::Result<()> {
    let (name, data) = written(event);
    stream.write_all(format!("event: {name}\ndata: {data}\n\n").as_bytes())
}

/// The event's name and its JSON, which has no line break.
fn written(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Inserted(token) => ("inserted", json!({ "token": name_of(token) })),
        Event::Removed(token) => ("removed", json!({ "token": name_of(token) })),
        Event::Changed(token) => ("changed", json!({ "token": name_of(token) })),
        Event::PinLocked(token) => ("pin-locked", json!({ "token": name_of(token) })),
        Event::LoggedIn(token) => ("logged-in", json!({ "token": name_of(token) })),
        Event::LoggedOff { token, why } => ("logged-off", json!({ "token": name_of(token), "why": reason(*why) })),
        Event::Locked => ("locked", json!({})),
        Event::Unlocked => ("unlocked", json!({})),
        Event::Expiring { keyset, token, not_after } => {
            ("expiring", json!({ "keyset": keyset, "token": name_of(token), "not_after": not_after.to_string() }))
        }
        Event::Missed(count) => ("missed", json!({ "events": count })),
    }
}

fn reason(why: LogOff) -> &'static str {
    match why {
        LogOff::Asked => "asked",
        LogOff::Idle => "idle",
        LogOff::Removed => "removed",
        LogOff::Suspend => "suspend",
        LogOff::Locked => "locked",
        LogOff::Changed => "changed",
        LogOff::Rescan => "rescan",
    }
}
