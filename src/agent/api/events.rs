//! `/v1/events`: a stream of token and session events (`text/event-stream`, WHATWG HTML §9.2).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::agent::{Event, Keystore, LogOffReason};
use crate::keyset::TokenReference;

/// Maximum time until a closed connection is noticed.
const EVENT_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of idle intervals after which a comment is sent, to show that the agent is alive.
const HEARTBEAT: u32 = 15;

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Sends events until the listener disconnects.
pub fn serve(mut stream: &UnixStream, keystore: &Keystore) {
    let events = keystore.events();
    // The first comment marks the point after which no event is missed.
    if stream.write_all(HEAD).and_then(|()| stream.write_all(b": listening\n\n")).is_err() {
        return;
    }
    let mut silent = 0;
    while is_connected(stream) {
        let sent = match events.next(EVENT_POLL_INTERVAL) {
            Some(event) => {
                silent = 0;
                send(&mut stream, &event)
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
        if sent.is_err() {
            return;
        }
    }
}

/// A listener sends nothing, so a readable stream means that it closed.
fn is_connected(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream, PollFlags::IN | PollFlags::HUP)];
    poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 0)
}

fn send(stream: &mut &UnixStream, event: &Event) -> io::Result<()> {
    let (name, data) = to_json(event);
    stream.write_all(format!("event: {name}\ndata: {data}\n\n").as_bytes())
}

/// The event's name and its JSON, which contains no line break.
fn to_json(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Inserted(token) => ("inserted", json!({ "token": TokenReference::of(token) })),
        Event::Removed(token) => ("removed", json!({ "token": TokenReference::of(token) })),
        Event::Changed(token) => ("changed", json!({ "token": TokenReference::of(token) })),
        Event::PinLocked(token) => ("pin-locked", json!({ "token": TokenReference::of(token) })),
        Event::LoggedIn(token) => ("logged-in", json!({ "token": TokenReference::of(token) })),
        Event::LoggedOff { token, reason } => {
            ("logged-off", json!({ "token": TokenReference::of(token), "reason": reason_name(*reason) }))
        }
        Event::Locked => ("locked", json!({})),
        Event::Unlocked => ("unlocked", json!({})),
        Event::Expiring { keyset, token, not_after } => (
            "expiring",
            json!({ "keyset": keyset, "token": TokenReference::of(token), "not_after": not_after.to_string() }),
        ),
        Event::Missed(count) => ("missed", json!({ "events": count })),
    }
}

fn reason_name(reason: LogOffReason) -> &'static str {
    match reason {
        LogOffReason::Requested => "requested",
        LogOffReason::Idle => "idle",
        LogOffReason::Removed => "removed",
        LogOffReason::Suspend => "suspend",
        LogOffReason::Locked => "locked",
        LogOffReason::Changed => "changed",
        LogOffReason::Rescan => "rescan",
    }
}

#[cfg(test)]
#[path = "../../../tests/support/schema.rs"]
#[allow(dead_code, reason = "only a part of it is used here")]
mod schema;

#[cfg(test)]
mod tests {
    use super::schema::{Description, fits};
    use super::*;
    use crate::token::{KeysetName, PinState, TokenInfo};

    /// One event of each kind. A new kind does not compile until it is added here.
    fn all() -> Vec<Event> {
        let token = TokenInfo {
            label: "name, \"quoted\"\nand more".to_owned(),
            serial: "0011".to_owned(),
            manufacturer: String::new(),
            model: String::new(),
            source: "/module.so".into(),
            pin_state: PinState::Ok,
            write_protected: false,
            non_utf8_names: Vec::new(),
        };
        let keyset: KeysetName = "default".parse().unwrap();
        let not_after = "2030-01-01T00:00:00Z".parse().unwrap();
        let mut all = vec![Event::Inserted(token.clone())];
        while let Some(last) = all.last() {
            let off = |reason| Event::LoggedOff { token: token.clone(), reason };
            let next = match last {
                Event::Inserted(_) => Event::Removed(token.clone()),
                Event::Removed(_) => Event::Changed(token.clone()),
                Event::Changed(_) => Event::PinLocked(token.clone()),
                Event::PinLocked(_) => Event::LoggedIn(token.clone()),
                Event::LoggedIn(_) => off(LogOffReason::Requested),
                Event::LoggedOff { reason: LogOffReason::Requested, .. } => off(LogOffReason::Idle),
                Event::LoggedOff { reason: LogOffReason::Idle, .. } => off(LogOffReason::Removed),
                Event::LoggedOff { reason: LogOffReason::Removed, .. } => off(LogOffReason::Suspend),
                Event::LoggedOff { reason: LogOffReason::Suspend, .. } => off(LogOffReason::Locked),
                Event::LoggedOff { reason: LogOffReason::Locked, .. } => off(LogOffReason::Changed),
                Event::LoggedOff { reason: LogOffReason::Changed, .. } => off(LogOffReason::Rescan),
                Event::LoggedOff { reason: LogOffReason::Rescan, .. } => Event::Locked,
                Event::Locked => Event::Unlocked,
                Event::Unlocked => Event::Expiring { keyset: keyset.clone(), token: token.clone(), not_after },
                Event::Expiring { .. } => Event::Missed(1),
                Event::Missed(_) => break,
            };
            all.push(next);
        }
        all
    }

    #[test]
    fn events_and_their_descriptions_match() {
        let text = include_str!("../../../docs/agent-api.openapi.json");
        let description = Description::new(serde_json::from_str(text).unwrap());
        let data = description.component("EventData");
        let (mut names, mut reasons) = (Vec::new(), Vec::new());
        for event in all() {
            let (name, value) = to_json(&event);
            fits(&description, data, &json!({ name: value }));
            assert!(!value.to_string().contains('\n'), "an event's data is one line: {value}");
            names.push(name);
            reasons.extend(value.get("reason").cloned());
        }
        for name in data["properties"].as_object().unwrap().keys() {
            assert!(names.contains(&name.as_str()), "{name} is described, and no event");
        }
        let described = &data["properties"]["logged-off"]["properties"]["reason"]["enum"];
        assert_eq!(&Value::from(reasons), described);
    }
}
