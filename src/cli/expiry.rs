//! A warning before a keyset's certificate expires: one line on stderr from every command that uses
//! the keyset.

use jiff::{SignedDuration, Timestamp};

use super::output::Output;
use crate::keyset::FoundKeyset;
use crate::pki::Certificate;

/// Time before the end of a certificate's validity from which commands warn: 60 days.
pub const WARNING_PERIOD: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Warns if a certificate that the keyset uses expires soon. One that has expired is refused where
/// it is used.
pub fn warn(keyset: &FoundKeyset, output: &Output, now: Timestamp) {
    if let Some(line) = line(keyset, now) {
        output.warning(line);
    }
}

fn line(keyset: &FoundKeyset, now: Timestamp) -> Option<String> {
    let end = end_of_use(keyset)?;
    let left = end.duration_since(now);
    if left <= SignedDuration::ZERO || left > WARNING_PERIOD {
        return None;
    }
    Some(format!(
        "the certificate of the keyset {} expires in {} days, on {end}; ask an administrator for a \
         letter, and enroll with it",
        keyset.described(),
        left.as_hours() / 24,
    ))
}

/// The earlier end of validity: of the keyset's signing certificate, or of the newest of its
/// encryption certificates. Older encryption certificates only decrypt old messages.
pub fn end_of_use(keyset: &FoundKeyset) -> Option<Timestamp> {
    let end = |id| Certificate::from_der(&keyset.certificate_of(id)?.der).ok().map(|found| found.not_after());
    let signing = keyset.signing.as_ref().and_then(end);
    let encryption = keyset.encryption.iter().filter_map(end).max();
    [signing, encryption].into_iter().flatten().min()
}
