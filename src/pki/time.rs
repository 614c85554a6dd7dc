//! Times in X.509 and CMS: whole seconds in UTC, UTCTime through 2049 and GeneralizedTime after
//! that (RFC 5280 §4.1.2.5).

use std::time::Duration;

use der::DateTime;
use der::asn1::{GeneralizedTime, UtcTime};
use jiff::Timestamp;
use x509_cert::time::Time;

use super::PkiError;
use super::tlv::Element;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Encodes a time, without fractions of a second, in the form for its year. Times before 1970 are
/// an error.
pub fn to_x509(timestamp: Timestamp) -> Result<Time, PkiError> {
    let seconds = u64::try_from(timestamp.as_second())
        .map_err(|_| PkiError::malformed("a time", "it is before the year 1970"))?;
    let date = DateTime::from_unix_duration(Duration::from_secs(seconds)).map_err(PkiError::encode("a time"))?;
    match UtcTime::from_date_time(date) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date))),
    }
}

/// The time in a certificate or a signing time. Years after 9999 become the last possible second.
pub fn from_x509(time: &Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or_else(|_| last_second())
}

/// The last whole second that a `Timestamp` can hold, some hours before the end of the year 9999.
fn last_second() -> Timestamp {
    Timestamp::from_second(Timestamp::MAX.as_second()).unwrap_or(Timestamp::MAX)
}

/// Parses a `Time` of another issuer (RFC 5280 §4.1.2.5): with seconds, in UTC. The years 50 to 99
/// of a `UTCTime` are in the 20th century.
pub(crate) fn read(time: Element<'_>) -> Result<Timestamp, &'static str> {
    let (century_known, form) = match time.tag() {
        UTC_TIME => (false, "it is not a UTCTime of the form YYMMDDHHMMSSZ"),
        GENERALIZED_TIME => (true, "it is not a GeneralizedTime of the form YYYYMMDDHHMMSSZ"),
        _ => return Err("it is neither a UTCTime nor a GeneralizedTime"),
    };
    let digits = time.value.strip_suffix(b"Z").ok_or(form)?;
    if digits.len() != if century_known { 14 } else { 12 } || !digits.iter().all(u8::is_ascii_digit) {
        return Err(form);
    }
    let pairs: Vec<i16> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n * 10 + i16::from(d - b'0'))).collect();
    let (year, rest) = match pairs.as_slice() {
        [century, year, rest @ ..] if century_known => (century * 100 + year, rest),
        [year, rest @ ..] if *year >= 50 => (1900 + year, rest),
        [year, rest @ ..] => (2000 + year, rest),
        [] => return Err(form),
    };
    let rest: Vec<i8> = rest.iter().filter_map(|number| i8::try_from(*number).ok()).collect();
    let [month, day, hour, minute, second] = rest[..] else { return Err(form) };
    let moment = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok();
    let moment = moment.ok_or("the day or the hour does not exist")?;
    // A `Timestamp` cannot hold the last hours of the year 9999.
    Ok(moment.to_zoned(jiff::tz::TimeZone::UTC).map_or_else(|_| last_second(), |zoned| zoned.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::tlv::{Elements, element};

    #[test]
    fn foreign_times_are_read_or_rejected() {
        let read = |tag, text: &str| {
            let der = element(tag, &[text.as_bytes()]);
            read(Elements::of(&der, "a test").any().unwrap()).map(|time| time.to_string())
        };
        for (tag, text, time) in [
            (0x17, "500101000000Z", "1950-01-01T00:00:00Z"),
            (0x17, "991231235959Z", "1999-12-31T23:59:59Z"),
            (0x17, "491231235959Z", "2049-12-31T23:59:59Z"),
            (0x17, "000229000000Z", "2000-02-29T00:00:00Z"),
            (0x18, "20500101000000Z", "2050-01-01T00:00:00Z"),
            (0x18, "19500101000000Z", "1950-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(tag, text).as_deref(), Ok(time), "{text}");
        }
        assert_eq!(read(0x18, "99991231235959Z"), Ok("9999-12-30T22:00:00Z".to_owned()));
        for (tag, text) in [
            (0x17, "2601010000Z"),
            (0x17, "260101000000"),
            (0x17, "260101000000+0100"),
            (0x17, "260230000000Z"),
            (0x17, "260101240000Z"),
            (0x17, "20260101000000Z"),
            (0x17, "2601010000é"),
            (0x17, ""),
            (0x18, "20260101000000.5Z"),
            (0x18, "260101000000Z"),
            (0x0c, "260101000000Z"),
        ] {
            assert!(read(tag, text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_year_2050_changes_the_form_and_not_the_moment() {
        for (text, utc) in
            [("2049-12-31T23:59:59Z", true), ("2050-01-01T00:00:00Z", false), ("1970-01-01T00:00:00Z", true)]
        {
            let moment: Timestamp = text.parse().unwrap();
            let time = to_x509(moment).unwrap();
            assert_eq!(matches!(time, Time::UtcTime(_)), utc, "{text}");
            assert_eq!(from_x509(&time), moment, "{text}");
        }
    }

    #[test]
    fn before_1970_is_refused() {
        assert!(to_x509("1969-12-31T23:59:59Z".parse().unwrap()).is_err());
    }
}
