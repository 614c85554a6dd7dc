//! A real pcscd with a virtual reader (of vsmartcard), into which tests insert a card and from
//! which they remove it.
//!
//! It runs in its own mount namespace, where `/run/pcscd` is a directory of the test, and in its
//! own network namespace, where the reader's port is. So it affects no other pcscd. A Unix socket
//! of the test connects the two sides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::agent::wait_for;
use super::foreign_programs;
use super::machine::Machine;
use super::virtual_card::{Card, Transmission};

/// The pcscd driver of the reader.
const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";

/// Starts pcscd in the current namespaces, and forwards each connection to the socket `card` to the
/// reader. It ends when its stdin is closed, and terminates pcscd.
const START_SCRIPT: &str = r#"
import fcntl, os, shutil, socket, struct, subprocess, sys, threading

directory = sys.argv[1]
for arguments in (["-t", "tmpfs", "none", "/run"], ["--bind", directory + "/pcscd", "/run/pcscd"]):
    os.makedirs(arguments[-1], exist_ok=True)
    subprocess.run(["mount", *arguments], check=True)
# SIOCSIFFLAGS with IFF_UP: the loopback of a new namespace is down.
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1))
program = shutil.which("pcscd") or "/usr/sbin/pcscd"
pcscd = subprocess.Popen([program, "--foreground", "--config", directory + "/reader"], stdin=subprocess.DEVNULL)

def end_with_the_test():
    sys.stdin.read()
    pcscd.terminate()

def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for side in (source, sink):
        try:
            side.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def forward(card):
    while True:
        try:
            reader = socket.create_connection(("127.0.0.1", 35963))
            break
        except OSError:
            if pcscd.poll() is not None:
                return card.close()
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=pump, args=(card, reader), daemon=True).start()
    threading.Thread(target=pump, args=(reader, card), daemon=True).start()

def forward_all(listener):
    while True:
        forward(listener.accept()[0])

listener = socket.socket(socket.AF_UNIX)
if os.path.exists(directory + "/card"):
    os.unlink(directory + "/card")
listener.bind(directory + "/card")
listener.listen()
threading.Thread(target=end_with_the_test, daemon=True).start()
threading.Thread(target=forward_all, args=(listener,), daemon=True).start()
print(pcscd.pid, flush=True)
pcscd.wait()
"#;

/// The registration of the reader with pcscd, after its name.
const REGISTERED: &str = "DEVICENAME /dev/null:0x8C7B\nCHANNELID 0x8C7B\nLIBPATH ";

/// pcscd polls the reader every 0.4 s. It shows no card again if it has missed that one was pulled
/// in the middle of a command.
const POLL_DURATION: Duration = Duration::from_secs(1);

/// A name by which Yubico's programs find a reader.
pub const YUBIKEY_READER: &str = "Yubico YubiKey CCID Virtual";

/// A reader with its pcscd. It is stopped when dropped.
pub struct Reader {
    directory: PathBuf,
    path: String,
    pcscd: Option<Pcscd>,
    card: Option<Inserted>,
}

/// The running daemon and the process that started it.
struct Pcscd {
    child: Child,
    id: i32,
}

/// An inserted card: the thread that answers for it.
struct Inserted {
    link: Arc<Mutex<CardLink>>,
    thread: Option<JoinHandle<()>>,
}

/// The connection of a card; none after the removal.
#[derive(Default)]
struct CardLink {
    is_out: bool,
    is_pulled: bool,
    stream: Option<UnixStream>,
}

/// A card shared by the reader and the test.
pub type SharedCard = Arc<Mutex<Card>>;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Whether a reader is possible here; if not, reports the skipped test visibly.
pub fn is_available() -> bool {
    for file in [DRIVER, "/usr/sbin/pcscd"] {
        if !Path::new(file).exists() {
            foreign_programs::skipped(&format!("{file} is missing; ./softhsm-setup.sh installs it"));
            return false;
        }
    }
    let mut command = Command::new("unshare");
    let may =
        command.args(namespaces()).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !may {
        foreign_programs::skipped("this system does not permit the namespaces for a separate pcscd");
    }
    may
}

/// Users other than root need a user namespace to create the others.
fn namespaces() -> &'static [&'static str] {
    if geteuid().is_root() { &["--mount", "--net"] } else { &["--user", "--map-root-user", "--mount", "--net"] }
}

/// OpenSC's PKCS#11 module at the usual paths.
pub fn opensc() -> PathBuf {
    library("opensc-pkcs11.so").expect("OpenSC is not installed; ./softhsm-setup.sh installs it")
}

/// Yubico's PKCS#11 module at the usual paths; if it is missing, reports the skipped test visibly.
pub fn ykcs11() -> Option<PathBuf> {
    let module = library("libykcs11.so");
    if module.is_none() {
        foreign_programs::skipped("libykcs11.so is missing; ./softhsm-setup.sh installs it");
    }
    module
}

fn library(name: &str) -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

impl Reader {
    /// An empty reader for this machine; programs started there find it. pcscd is not started yet.
    pub fn on_machine(machine: &mut Machine) -> Self {
        Self::with_name(machine, "Virtual")
    }

    /// Like [`Self::on_machine`], with this beginning of the reader's name.
    pub fn with_name(machine: &mut Machine, name: &str) -> Self {
        for directory in ["pcscd", "reader"] {
            std::fs::create_dir(machine.file(directory)).unwrap();
        }
        machine.write("reader/virtual", format!("FRIENDLYNAME \"{name}\"\n{REGISTERED}{DRIVER}\n"));
        let socket = machine.file("pcscd/pcscd.comm").display().to_string();
        machine.set_environment("PCSCLITE_CSOCK_NAME", &socket);
        let path = std::env::var("PATH").unwrap();
        Self { directory: machine.path().to_owned(), path, pcscd: None, card: None }
    }

    /// Starts pcscd and waits until it listens. A card in the reader is connected again.
    pub fn start(&mut self) {
        let log = self.directory.join("pcscd.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("unshare");
        command.args(namespaces()).args(["python3", "-c", START_SCRIPT]).arg(&self.directory);
        command.env_clear().env("PATH", &self.path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut link = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut link).unwrap();
        let id = link.trim().parse().unwrap_or_else(|_| panic!("pcscd was not started; see pcscd.log"));
        self.pcscd = Some(Pcscd { child, id });
        let socket = self.directory.join("pcscd/pcscd.comm");
        wait_for("pcscd listens", || UnixStream::connect(&socket).ok());
    }

    /// Kills pcscd with SIGKILL.
    pub fn kill(&mut self) {
        let mut pcscd = self.pcscd.take().expect("pcscd does not run");
        kill_process(Pid::from_raw(pcscd.id).unwrap(), Signal::KILL).unwrap();
        pcscd.child.wait().unwrap();
    }

    /// Terminates pcscd regularly.
    pub fn stop(&mut self) {
        if let Some(mut pcscd) = self.pcscd.take() {
            drop(pcscd.child.stdin.take());
            pcscd.child.wait().unwrap();
        }
    }

    /// Inserts a card.
    pub fn insert(&mut self, card: &SharedCard) {
        assert!(self.card.is_none(), "there is a card in the reader");
        let link: Arc<Mutex<CardLink>> = Arc::default();
        let (card, socket, of_thread) = (Arc::clone(card), self.directory.join("card"), Arc::clone(&link));
        let thread = std::thread::spawn(move || stay_in(&card, &socket, &of_thread));
        self.card = Some(Inserted { link, thread: Some(thread) });
    }

    /// Removes the card, or clears the reader after a planned fault has removed it.
    pub fn remove(&mut self) {
        let card = self.card.take().expect("there is no card in the reader");
        if lock(&card.link).is_pulled {
            std::thread::sleep(POLL_DURATION);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.card.take());
        self.stop();
    }
}

impl Drop for Inserted {
    fn drop(&mut self) {
        {
            let mut link = lock(&self.link);
            link.is_out = true;
            if let Some(stream) = link.stream.take() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        let _ = self.thread.take().unwrap().join();
    }
}

/// Answers the reader, and after a restart of pcscd the next one, until the card is removed.
fn stay_in(card: &SharedCard, socket: &Path, link: &Mutex<CardLink>) {
    loop {
        let mut stream = {
            let mut link = lock(link);
            if link.is_out {
                return;
            }
            let stream = UnixStream::connect(socket).ok();
            link.stream = stream.as_ref().map(|stream| stream.try_clone().unwrap());
            stream
        };
        match &mut stream {
            Some(stream) => {
                lock(card).reset();
                loop {
                    match serve(card, stream) {
                        Ok(Served::Message) => {}
                        Ok(Served::Pulled) => {
                            let _ = stream.shutdown(Shutdown::Both);
                            lock(link).is_pulled = true;
                            return;
                        }
                        Err(_) => break,
                    }
                }
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// What a message of the reader led to.
enum Served {
    Message,
    /// A planned fault removes the card.
    Pulled,
}

/// Handles one message of the reader: two bytes of length, then a control byte or a command APDU.
fn serve(card: &SharedCard, stream: &mut UnixStream) -> std::io::Result<Served> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    let mut card = lock(card);
    let answer = match message[..] {
        // Off, on, reset.
        [0..=2] => {
            card.reset();
            return Ok(Served::Message);
        }
        [4] => card.atr().to_vec(),
        _ => match card.transmit(&message) {
            Transmission::Response { bytes, delay } => {
                drop(card);
                std::thread::sleep(delay);
                bytes
            }
            Transmission::Pulled => return Ok(Served::Pulled),
        },
    };
    // In one write: two parts would wait for an acknowledgment in between.
    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &answer].concat())?;
    Ok(Served::Message)
}
