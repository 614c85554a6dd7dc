//! A warning before a keyset's certificate ends: one line on stderr, in every command that uses the keyset.

use jiff::{SignedDuration, Timestamp};

use super::screen::Screen;
use crate::keyset::FoundKeyset;
use crate::pki::Certificate;

/// How long before its end a certificate is spoken of.
pub const SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Warns of the keyset's certificates in use that end soon. What has ended already is refused where it matters.
pub fn warn(keyset: &FoundKeyset, screen: &Screen, now: Timestamp) {
    if let Some(line) = line(keyset, now) {
        screen.warning(line);
    }
}

fn line(keyset: &FoundKeyset, now: Timestamp) -> Option<String> {
    let end = end_of_use(keyset)?;
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO || left > SOON {
        return None;
    }
    Some(format!(
        "the certificate of the keyset {} ends in {} days, on {end}; ask an administrator for a letter, and enroll with it",
        keyset.described(),
        left.as_hours() / 24,
    ))
}

/// When the first of the certificates that the keyset works with ends: its signing certificate, or the newest of its
/// encryption certificates; the older ones only open what is old.
pub fn end_of_use(keyset: &FoundKeyset) -> Option<Timestamp> {
    let end = |id| Certificate::from_der(&keyset.certificate_of(id)?.der).ok().map(|found| found.not_after());
    let signing = keyset.signing.as_ref().and_then(end);
    let encryption = keyset.encryption.iter().filter_map(end).max();
    [signing, encryption].into_iter().flatten().min()
}
