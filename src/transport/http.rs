//! HTTP transport: CMP (RFC 9811), the CA certificate and the certificate search over `http`,
//! statements over `https` with the CA pinned.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::multipart;
use super::{Transport, TransportError};

/// Maximum size of a response in bytes. A whole encryption history takes a few hundred kilobytes.
const MAX_RESPONSE_BYTES: u64 = 8 * 1024 * 1024;
/// Maximum number of characters of an authority's error text, which is shown in one line.
const MAX_ERROR_TEXT: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Duration of the retries while the authority responds that it is busy.
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);
/// The limits for the delay between two tries that the authority may request.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(15);
/// Maximum time of one exchange. The authority generates an RSA key and several signatures before
/// it responds, which takes seconds on slow tokens.
const EXCHANGE_TIMEOUT: Duration = Duration::from_mins(2);

/// The transport to one authority, with its two addresses.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    http_url: String,
    https_url: String,
    ca_sha256: [u8; 32],
    agent: Agent,
    /// Seconds by which the authority's clock was ahead of this machine's at its last response.
    clock_offset: Arc<Mutex<Option<i64>>>,
    /// Duration of the retries while the authority is busy.
    busy_timeout: Duration,
}

impl HttpTransport {
    /// Creates a transport to the authority at `http` and `https` (`http://host:port`, with or
    /// without a path), whose CA certificate has the SHA-256 `ca_sha256`. Sends nothing yet.
    pub fn new(http: &str, https: &str, ca_sha256: [u8; 32]) -> Result<Self, TransportError> {
        Ok(Self {
            http_url: base_address(http, &["http://", "https://"])?,
            https_url: base_address(https, &["https://"])?,
            ca_sha256,
            agent: agent(TlsConfig::builder().provider(TlsProvider::Rustls).build()),
            clock_offset: Arc::default(),
            busy_timeout: BUSY_TIMEOUT,
        })
    }

    /// Lead of the authority's clock over this machine's (negative: behind), according to
    /// the `Date` of its last response. Unauthenticated over plain HTTP: a hint only, on which no
    /// decision may rest.
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        let offset = *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner);
        offset.map(SignedDuration::from_secs)
    }

    /// Repeats the request while the response is 503, after the delay that the response names.
    fn retry_while_busy(
        &self,
        url: &str,
        mut send: impl FnMut() -> Result<Response<Body>, TransportError>,
    ) -> Result<Response<Body>, TransportError> {
        let begin = Instant::now();
        loop {
            let answer = send()?;
            self.record_clock_offset(&answer);
            // RFC 9811 §3.2 permits a CMP message with any status; such a message is a response.
            if answer.status().as_u16() != 503 || media_type(&answer) == "application/pkixcmp" {
                return Ok(answer);
            }
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let wait = Duration::from_secs(header.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(5));
            let wait = wait.clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
            if begin.elapsed() + wait > self.busy_timeout {
                let reason = format!("it answered {}{}", answer.status(), sentence(answer));
                return Err(TransportError::Busy { url: url.to_owned(), reason });
            }
            std::thread::sleep(wait);
        }
    }

    fn record_clock_offset(&self, answer: &Response<Body>) {
        let date = answer.headers().get("date").and_then(|value| value.to_str().ok());
        // RFC 9110 §5.6.7: the only format that senders generate.
        let date = date.and_then(|date| jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", date).ok());
        let date = date.and_then(|date| date.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok());
        if let Some(date) = date {
            let offset = date.timestamp().as_second() - jiff::Timestamp::now().as_second();
            *self.clock_offset.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        }
    }

    /// An HTTP client that accepts only the pinned authority.
    fn pinned_agent(&self) -> Result<Agent, TransportError> {
        let root = Certificate::from_der(&self.pinned_ca()?).to_owned();
        let roots = RootCerts::Specific(Arc::new(vec![root]));
        Ok(agent(TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots).build()))
    }

    /// Fetches the CA certificate over `http`; it is trusted only if its SHA-256 is the pinned one.
    fn pinned_ca(&self) -> Result<Vec<u8>, TransportError> {
        let certificate = self.ca_certificate()?;
        let found: [u8; 32] = Sha256::digest(&certificate).into();
        if found == self.ca_sha256 {
            return Ok(certificate);
        }
        Err(TransportError::WrongAuthority {
            url: self.http_url.clone(),
            found: hex::encode(found),
            known: hex::encode(self.ca_sha256),
        })
    }
}

impl Transport for HttpTransport {
    fn cmp(&self, message: &[u8]) -> Result<Vec<u8>, TransportError> {
        let url = format!("{}/.well-known/cmp", self.http_url);
        // Repeating the same bytes is safe: the authority responds to them as before.
        let answer = self.retry_while_busy(&url, || {
            let request = self.agent.post(&url).header("content-type", "application/pkixcmp");
            request.header("accept", "application/pkixcmp").send(message).map_err(|error| failure(&url, error))
        })?;
        // RFC 9811 §3.2: a CMP error may come with a 4xx or 5xx status; only the content type
        // counts.
        if media_type(&answer) == "application/pkixcmp" { read(&url, answer) } else { Err(unusable(&url, answer)) }
    }

    fn ca_certificate(&self) -> Result<Vec<u8>, TransportError> {
        let url = format!("{}/ca.cer", self.http_url);
        let answer =
            self.retry_while_busy(&url, || self.agent.get(&url).call().map_err(|error| failure(&url, error)))?;
        if answer.status().is_success() { read(&url, answer) } else { Err(unusable(&url, answer)) }
    }

    fn search_certificates(&self, email: &str) -> Result<Vec<Vec<u8>>, TransportError> {
        let url = format!("{}/certificates/search.cgi?email={}", self.http_url, percent_encoded(email));
        let answer =
            self.retry_while_busy(&url, || self.agent.get(&url).call().map_err(|error| failure(&url, error)))?;
        let content_type = content_type(&answer);
        if matches!(answer.status().as_u16(), 204 | 404) {
            return Ok(Vec::new());
        }
        if !answer.status().is_success() {
            return Err(unusable(&url, answer));
        }
        match media_type(&answer).as_str() {
            "application/pkix-cert" => Ok(vec![read(&url, answer)?]),
            // RFC 4387 §2.2: several matches come as one multipart/mixed.
            "multipart/mixed" => {
                let body = read(&url, answer)?;
                multipart::certificates(&content_type, &body)
                    .map_err(|reason| TransportError::BadResponse { url, reason: reason.to_string() })
            }
            _ => Err(unusable(&url, answer)),
        }
    }

    fn instance(&self) -> Result<Vec<u8>, TransportError> {
        let url = format!("{}/instance", self.https_url);
        let agent = self.pinned_agent()?;
        let answer = self.retry_while_busy(&url, || agent.get(&url).call().map_err(|error| failure(&url, error)))?;
        if answer.status().is_success() { read(&url, answer) } else { Err(unusable(&url, answer)) }
    }

    fn statement(&self, statement: &[u8]) -> Result<Vec<u8>, TransportError> {
        let url = format!("{}/statements", self.https_url);
        let agent = self.pinned_agent()?;
        // Repeating is safe: an authority that responds 503 has not read the statement.
        let answer = self.retry_while_busy(&url, || {
            let request = agent.post(&url).header("content-type", "application/pkcs7-mime");
            request.send(statement).map_err(|error| failure(&url, error))
        })?;
        if answer.status().is_success() { read(&url, answer) } else { Err(unusable(&url, answer)) }
    }
}

/// Follows no redirect: the letter names the authority's address, and a redirect target is not
/// authenticated. Ignores proxies in the environment: layers below the command line do not read it.
fn agent(tls: TlsConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(EXCHANGE_TIMEOUT))
        .user_agent(concat!("tokenkeep/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn base_address(url: &str, schemes: &[&str]) -> Result<String, TransportError> {
    let wrong = |reason: String| TransportError::Address { url: url.to_owned(), reason };
    let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        return Err(wrong(format!("it does not begin with {}", schemes.join(" or "))));
    };
    let parsed: ureq::http::Uri = url.parse().map_err(|error: ureq::http::uri::InvalidUri| wrong(error.to_string()))?;
    if parsed.host().is_none_or(str::is_empty) || parsed.query().is_some() || rest.contains('@') {
        return Err(wrong("an authority's address consists of a host, a port and an optional path".to_owned()));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn content_type(answer: &Response<Body>) -> String {
    answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn media_type(answer: &Response<Body>) -> String {
    content_type(answer).split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn read(url: &str, mut answer: Response<Body>) -> Result<Vec<u8>, TransportError> {
    answer.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec().map_err(|error| match error {
        // A response that ends early is not the same as no response.
        ureq::Error::Io(error) => {
            TransportError::BadResponse { url: url.to_owned(), reason: format!("it is truncated ({error})") }
        }
        error => failure(url, error),
    })
}

/// The text of a response, after a colon; empty if there is none.
fn sentence(mut answer: Response<Body>) -> String {
    let media = media_type(&answer);
    if media != "text/plain" && media != "application/json" {
        return String::new();
    }
    let text = answer.body_mut().with_config().limit(4096).lossy_utf8(true).read_to_string().unwrap_or_default();
    let line: String = text.chars().filter(|character| !character.is_control()).take(MAX_ERROR_TEXT).collect();
    format!(": {line}")
}

/// Describes an unexpected response: its status, and its text.
fn unusable(url: &str, answer: Response<Body>) -> TransportError {
    let status = answer.status();
    let media = media_type(&answer);
    let sentence = sentence(answer);
    let url = url.to_owned();
    if status.is_client_error() {
        TransportError::Refused { url, reason: format!("it answered {status}{sentence}") }
    } else if status.is_server_error() {
        TransportError::BadResponse { url, reason: format!("it answered {status}{sentence}") }
    } else {
        TransportError::BadResponse { url, reason: format!("unexpected response {status} ({media:?}){sentence}") }
    }
}

/// Maps missing hosts, broken connections and timeouts to "unreachable": the request may have
/// arrived, and repeating the same bytes is safe. Everything else was a response.
fn failure(url: &str, error: ureq::Error) -> TransportError {
    let reason = error.to_string();
    let url = url.to_owned();
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            TransportError::BadResponse { url, reason }
        }
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
            TransportError::Unreachable { url, reason }
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => TransportError::Address { url, reason },
        _ => TransportError::BadResponse { url, reason },
    }
}

/// Percent-encodes everything but the unreserved characters (RFC 3986 §2.1).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
