//! A running service on free ports with a stub for the authority, and its test clients.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::super::*;
use crate::authority::{CmpReply, DatabaseCheckReport, EnvironmentPaths, UnsignedError};
use crate::pki::test_support::{SoftwareKey, TestAuthority, TestFiles};
use crate::statement::{Instance, StatementChannel};
use crate::store::StoreError;
use crate::token::KeyAlgorithm;

/// A stub whose answers the test determines.
pub(in crate::service) struct FakeAuthority {
    pub(super) ca: Vec<u8>,
    pub(super) delay: Duration,
    /// Requests with the body "wait" and files with that content wait for this.
    pub(super) release: Mutex<Receiver<()>>,
    /// The results of the log checks, the last element first; when it is empty, the log is valid.
    pub(super) log_faults: Mutex<Vec<AuthorityError>>,
}

impl FakeAuthority {
    /// A stub whose waiting requests wait for this.
    pub(in crate::service) fn new(release: Receiver<()>) -> Self {
        let (ca, delay, log_faults) = (Vec::new(), Duration::ZERO, Mutex::default());
        Self { ca, delay, release: Mutex::new(release), log_faults }
    }
}

impl AuthorityApi for FakeAuthority {
    fn answer_cmp(&self, message: &[u8], source: IpAddr, _now: Timestamp) -> CmpReply {
        assert!(source.is_loopback());
        match message {
            b"wait" => {
                let _ = self.release.lock().unwrap().recv();
            }
            b"panic" => panic!("a fault of the stand-in"),
            _ => {}
        }
        CmpReply { bytes: message.iter().rev().copied().collect(), delay: self.delay }
    }

    fn answer_statement(
        &self,
        statement: &[u8],
        channel: StatementChannel,
        _now: Timestamp,
    ) -> Result<Vec<u8>, UnsignedError> {
        match statement {
            b"forged" => return Err(UnsignedError::Unverified("it is forged".to_owned())),
            b"fault" => return Err(UnsignedError::Fault("the database is locked".to_owned())),
            b"wait" => {
                let _ = self.release.lock().unwrap().recv();
            }
            b"panic" => panic!("a fault of the stand-in"),
            _ => {}
        }
        let prefix: &[u8] = if channel == StatementChannel::File { b"response to the file " } else { b"response to " };
        Ok([prefix, statement].concat())
    }

    fn instance(&self) -> Instance {
        Instance::from_bytes([0xa5; 16])
    }

    fn search_certificates(&self, email: &str, _now: Timestamp) -> Result<Vec<Vec<u8>>, AuthorityError> {
        match email {
            "one@example.org" => Ok(vec![self.ca.clone()]),
            "two@example.org" => Ok(vec![self.ca.clone(), vec![0x30, 0]]),
            "locked@example.org" => Err(StoreError::Locked("authority.db".into()).into()),
            "full@example.org" => Err(StoreError::DiskFull("authority.db".into()).into()),
            "fault@example.org" => Err(AuthorityError::Random("none left".to_owned())),
            _ => Ok(Vec::new()),
        }
    }

    fn ca_certificate(&self) -> Vec<u8> {
        self.ca.clone()
    }

    fn check(&self) -> Result<DatabaseCheckReport, AuthorityError> {
        Ok(DatabaseCheckReport { users: 3, ..DatabaseCheckReport::default() })
    }

    fn check_older_log(&self) -> Result<(), AuthorityError> {
        self.log_faults.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn close(&self) -> Result<(), AuthorityError> {
        Ok(())
    }

    fn sweep(&self, _now: Timestamp) -> Result<usize, AuthorityError> {
        Ok(0)
    }
}

/// A running service, stopped on drop.
pub(super) struct TestService {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) files: TestFiles,
    pub(super) ca: Vec<u8>,
    pub(super) release: Sender<()>,
    pub(super) stop: ShutdownHandle,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl TestService {
    pub(super) fn new() -> Self {
        Self::with(true, Duration::ZERO)
    }

    pub(super) fn with(search: bool, delay: Duration) -> Self {
        Self::listening(&format!("certificate_search = {search}"), delay)
    }

    /// Starts the service with these lines in `[listen]`.
    pub(super) fn listening(lines: &str, delay: Duration) -> Self {
        let authority = TestAuthority::new("Example Authority", SoftwareKey::p256());
        let key = SoftwareKey::p256();
        let leaf = authority.issue("tls-server", "localhost", &key);
        let files = TestFiles::new();
        files.put_certificate("ca.pem", &authority.certificate);
        let chain = vec![leaf.as_der().to_vec(), authority.certificate.as_der().to_vec()];
        let config = tls::config(chain, tls::TokenSigningKey::new(key, KeyAlgorithm::P256).unwrap()).unwrap();
        let ca = authority.certificate.as_der().to_vec();
        let (release, released) = channel();
        let authority = Arc::new(FakeAuthority { ca: ca.clone(), delay, ..FakeAuthority::new(released) });
        let (stop, stopped) = ShutdownSignal::on_request();
        let (sender, addresses) = channel();
        let socket = files.path("control.sock");
        let text = format!("name = \"a\"\nstate = \".\"\n[token]\nlabel = \"a\"\n[listen]\n{lines}\n");
        let file = files.put("authority.toml", text.as_bytes());
        let listen = Configuration::load(file.as_ref(), &EnvironmentPaths::default()).unwrap().listen;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let any = "127.0.0.1:0".parse().unwrap();
                let http = bind("http", any, "x".as_ref()).await.unwrap();
                let https = bind("https", any, "x".as_ref()).await.unwrap();
                let control = ControlSocket::bind(&socket).unwrap();
                sender.send((http.local_addr().unwrap(), https.local_addr().unwrap())).unwrap();
                run(authority, &listen, (http, https, control), config, stopped.listen().unwrap()).await.unwrap();
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        let (http, https) = addresses.recv().unwrap();
        Self { http, https, files, ca, release, stop, thread: Some(thread) }
    }

    /// Runs `curl`, trusting only the CA certificate; returns status and body.
    pub(super) fn curl(&self, arguments: &[&str], path: &str) -> (String, Vec<u8>) {
        let output = self.curl_to(arguments, &format!("http://{}{path}", self.http));
        split_status(&output)
    }

    pub(super) fn curl_tls(&self, arguments: &[&str], path: &str) -> (String, Vec<u8>) {
        let output = self.curl_to(arguments, &format!("https://localhost:{}{path}", self.https.port()));
        split_status(&output)
    }

    pub(super) fn curl_to(&self, arguments: &[&str], url: &str) -> Output {
        Command::new("curl")
            .args(["-sS", "--noproxy", "*", "--max-time", "20", "-w", "\n%{http_code} %{content_type}"])
            .arg("--cacert")
            .arg(self.files.path("ca.pem"))
            .args(arguments)
            .arg(url)
            .output()
            .expect("this test needs the program curl")
    }

    /// Sends these bytes on a plain connection and returns the response.
    pub(super) fn speak(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A closed connection counts as an answer.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn split_status(output: &Output) -> (String, Vec<u8>) {
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    let at = output.stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
    (String::from_utf8_lossy(&output.stdout[at + 1..]).into_owned(), output.stdout[..at].to_vec())
}
