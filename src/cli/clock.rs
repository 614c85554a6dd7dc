//! A wrong clock makes valid certificates look expired and new commands look old. A failure that it
//! may explain names the clock first.

use jiff::{SignedDuration, Timestamp};

use super::exit::{Exit, Failure};
use crate::keyset::UNLESS_THE_CLOCK_IS_WRONG;
use crate::transport::{HttpTransport, Transport as _};

/// Offset from which the clock is named as the cause.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Puts the clock at the beginning of the failure's message if it is far from the time in the
/// authority's answer (HTTP `Date`). That date is not authenticated: it only changes the message
/// and decides nothing.
pub fn explain_clock_error(failure: Failure, transport: &HttpTransport, now: Timestamp) -> Failure {
    if !matches!(failure.exit, Exit::Fault | Exit::Refused | Exit::NotVerified) {
        return failure;
    }
    if transport.clock_offset().is_none() && is_about_time(&failure.message) {
        // The failure came before anything was sent. Any answer of the authority has the time.
        let _ = transport.ca_certificate();
    }
    let Some(sentence) = transport.clock_offset().and_then(|offset| format_offset(offset, now)) else { return failure };
    // A remedy for an expired certificate or statement does not help if the clock is wrong.
    let remedy = failure.remedy.filter(|_| !is_about_time(&failure.message));
    let message = failure.message.split(UNLESS_THE_CLOCK_IS_WRONG).next().unwrap_or_default();
    Failure { message: format!("{sentence}; {message}"), remedy, ..failure }
}

fn is_about_time(message: &str) -> bool {
    // Whole words: a signature that is invalid has nothing to do with the time.
    let words: Vec<_> = message.split(|character: char| !character.is_ascii_alphabetic()).collect();
    words.iter().any(|word| ["valid", "expired"].contains(word))
        || words.windows(2).any(|pair| [["good", "until"], ["not", "yet"]].iter().any(|phrase| pair == phrase))
}

fn format_offset(offset: SignedDuration, now: Timestamp) -> Option<String> {
    if offset.abs() < MAX_CLOCK_SKEW {
        return None;
    }
    let second = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
    let authority_time = now.checked_add(offset).unwrap_or(now);
    Some(format!(
        "this machine's clock is probably wrong, set it first: it is {} {} the authority's (here \
         {}, there {})",
        format_duration(offset.abs()),
        if offset.is_positive() { "behind" } else { "ahead of" },
        second(now),
        second(authority_time),
    ))
}

fn format_duration(time: SignedDuration) -> String {
    match time.as_mins() {
        minutes @ ..120 => format!("{minutes} minutes"),
        minutes @ ..2880 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A transport to a server that answers once, with this date.
    fn dated(offset: SignedDuration) -> HttpTransport {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let date = (Timestamp::now() + offset).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        HttpTransport::new(&url, "https://127.0.0.1:1", [0; 32]).unwrap()
    }

    fn message_after(exit: Exit, message: &str, offset: SignedDuration) -> String {
        explain_clock_error(Failure::new(exit, message), &dated(offset), Timestamp::now()).message
    }

    const EXPIRED: &str = "cannot sign: its certificate is valid from then to then";

    #[test]
    fn a_wrong_clock_is_reported_first() {
        let behind = message_after(Exit::Refused, EXPIRED, SignedDuration::from_hours(3 * 24 + 1));
        assert!(behind.starts_with("this machine's clock is probably wrong"), "{behind}");
        assert!(behind.contains("it is 3 days behind the authority's (here ") && behind.ends_with(EXPIRED), "{behind}");
        let ahead = message_after(Exit::NotVerified, EXPIRED, -SignedDuration::from_mins(31));
        assert!(ahead.contains("it is 30 minutes ahead of") || ahead.contains("it is 31 minutes ahead of"), "{ahead}");
    }

    #[test]
    fn advice_that_would_not_help_is_left_out() {
        let expired = format!("{EXPIRED}, and this clock says later{UNLESS_THE_CLOCK_IS_WRONG}ask for a letter");
        let ahead = message_after(Exit::Refused, &expired, -SignedDuration::from_hours(800 * 24));
        assert!(ahead.ends_with("and this clock says later"), "{ahead}");
        let right = message_after(Exit::Refused, &expired, SignedDuration::ZERO);
        assert!(right.ends_with("ask for a letter"), "{right}");

        let failure = Failure::new(Exit::Refused, EXPIRED).with_remedy("leave them out");
        let ahead = explain_clock_error(failure, &dated(-SignedDuration::from_hours(2)), Timestamp::now());
        assert_eq!(ahead.remedy, None);
    }

    #[test]
    fn a_right_clock_is_not_mentioned() {
        assert_eq!(message_after(Exit::Refused, EXPIRED, SignedDuration::from_mins(2)), EXPIRED);
        let wrong_pin = "wrong PIN: the certificate is valid";
        assert_eq!(message_after(Exit::Pin, wrong_pin, SignedDuration::from_hours(24)), wrong_pin);
        // Nothing was sent, and the failure is not about time: no request is made.
        let other = "cannot use the keyset: it is not enrolled";
        assert_eq!(message_after(Exit::Refused, other, SignedDuration::from_hours(24)), other);
        let invalid = "cannot verify the answer: the signature is invalid";
        assert_eq!(message_after(Exit::Refused, invalid, SignedDuration::from_hours(24)), invalid);
    }
}
