//! Times as X.509 and CMS write them: whole seconds, UTC, UTCTime through 2049 and GeneralizedTime after (RFC 5280 §4.1.2.5).

use std::time::Duration;

use der::DateTime;
use der::asn1::{GeneralizedTime, UtcTime};
use jiff::Timestamp;
use x509_cert::time::Time;

use super::PkiError;

/// The time to the second, in the form its year asks for.
pub fn to_x509(timestamp: Timestamp) -> Result<Time, PkiError> {
    let seconds = u64::try_from(timestamp.as_second())
        .map_err(|_| PkiError::malformed("a time", "it is before the year 1970"))?;
    let date = DateTime::from_unix_duration(Duration::from_secs(seconds)).map_err(PkiError::encode("a time"))?;
    match UtcTime::from_date_time(date) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date))),
    }
}

/// The moment that a certificate or a signing time names. Years after 9999 do not exist here.
pub fn from_x509(time: &Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
