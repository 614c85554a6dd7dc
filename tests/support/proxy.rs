//! A network attacker between client and authority, who sees every message, and may change or
//! drop it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::raw_cmp::connect_from;

/// One request and its response, before any change.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Method and path, such as `POST /.well-known/cmp`.
    pub target: String,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

/// What happens to a body.
#[derive(Clone, Debug)]
pub enum ProxyAction {
    Pass,
    Replace(Vec<u8>),
    /// Announce the whole body, send this many bytes of it, and close the connection.
    CutAfter(usize),
    /// Close the connection without a response.
    Swallow,
}

/// The direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToAuthority,
    ToClient,
}

type Tamper = dyn FnMut(Direction, &str, &[u8]) -> ProxyAction + Send;

/// An HTTP proxy on the loopback network that passes every body to a callback. It stops when
/// dropped. It connects from an address of its own, so that wrong guesses of another test cause no
/// delay here.
pub struct Proxy {
    address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// Forwards everything to `authority` (host and port) unchanged, and records it.
    pub fn forwarding(authority: &str) -> Self {
        Self::tampering(authority, |_, _, _| ProxyAction::Pass)
    }

    /// Forwards everything, with another date in the response headers.
    pub fn with_date(authority: &str, date: &str) -> Self {
        Self::with(authority, Some(format!("date: {date}")), |_, _, _| ProxyAction::Pass)
    }

    /// Calls `tamper` for every body with its direction, the request's method and path, and its
    /// bytes.
    pub fn tampering(
        authority: &str,
        tamper: impl FnMut(Direction, &str, &[u8]) -> ProxyAction + Send + 'static,
    ) -> Self {
        Self::with(authority, None, tamper)
    }

    fn with(
        authority: &str,
        date: Option<String>,
        tamper: impl FnMut(Direction, &str, &[u8]) -> ProxyAction + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let tamper: Arc<Mutex<Tamper>> = Arc::new(Mutex::new(tamper));
        let source = unused_address();
        let (authority, recorded, stop) = (authority.to_owned(), exchanges.clone(), stopped.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let (authority, tamper, recorded, date) =
                    (authority.clone(), tamper.clone(), recorded.clone(), date.clone());
                // The client notices a broken connection.
                std::thread::spawn(move || drop(forward(client, source, &authority, date, &tamper, &recorded)));
            }
        });
        Self { address, exchanges, stopped }
    }

    /// The URL for `--authority`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The exchanges so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then stops.
        drop(TcpStream::connect(self.address));
    }
}

/// Forwards one request and its response. Then it closes the connection, so that every exchange is
/// separate.
fn forward(
    client: TcpStream,
    source: Ipv4Addr,
    authority: &str,
    date: Option<String>,
    tamper: &Mutex<Tamper>,
    recorded: &Mutex<Vec<Exchange>>,
) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let request = Message::read(&mut from_client)?;
    let target = request.first_line.rsplit_once(' ').map_or("", |(target, _)| target).to_owned();

    let action = tamper.lock().unwrap()(Direction::ToAuthority, &target, &request.body);
    let mut server = connect_from(source, authority.parse().map_err(io::Error::other)?)?;
    if !request.send(&mut server, &action)? {
        return client.shutdown(Shutdown::Both);
    }
    let mut response = Message::read(&mut BufReader::new(server))?;
    if let Some(date) = date {
        response.headers.retain(|header| !header.to_ascii_lowercase().starts_with("date:"));
        response.headers.push(date);
    }
    let exchange = Exchange { target: target.clone(), request: request.body, response: response.body.clone() };
    recorded.lock().unwrap().push(exchange);

    let action = tamper.lock().unwrap()(Direction::ToClient, &target, &response.body);
    let mut client = client;
    response.send(&mut client, &action)?;
    client.shutdown(Shutdown::Both)
}

/// An address of the loopback network that no other proxy of this run uses.
fn unused_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

struct Message {
    first_line: String,
    /// All headers except those for the body length and the connection's persistence.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut first_line = String::new();
        if from.read_line(&mut first_line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_response = first_line.starts_with("HTTP/");
        let mut headers = Vec::new();
        let mut length = None;
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            } else if !lower.starts_with("connection:") {
                headers.push(line.to_owned());
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        from.read_exact(&mut body)?;
        if length.is_none() && is_response {
            from.read_to_end(&mut body)?;
        }
        Ok(Self { first_line: first_line.trim_end().to_owned(), headers, body })
    }

    /// Sends the message as decided. Returns false if the connection is to be closed.
    fn send(&self, to: &mut TcpStream, action: &ProxyAction) -> io::Result<bool> {
        let (announced, sent) = match action {
            ProxyAction::Pass => (self.body.len(), &self.body[..]),
            ProxyAction::Replace(other) => (other.len(), &other[..]),
            ProxyAction::CutAfter(length) => (self.body.len(), &self.body[..(*length).min(self.body.len())]),
            ProxyAction::Swallow => return Ok(false),
        };
        write!(to, "{}\r\n", self.first_line)?;
        for header in &self.headers {
            write!(to, "{header}\r\n")?;
        }
        write!(to, "Content-Length: {announced}\r\nConnection: close\r\n\r\n")?;
        to.write_all(sent)?;
        to.flush()?;
        Ok(!matches!(action, ProxyAction::CutAfter(_)))
    }
}
