//! Commands and the agent speak a private protocol: both are one build, and nothing else that
//! arrives on the socket does any harm.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::prompting::write_script;
use crate::support::shared_authority::TestUser;

/// Length in bytes of a frame's head.
const HEAD_BYTES: usize = 16;

/// The answer of a process of another build to the first bytes that it gets.
fn answers_of_other_builds() -> [Vec<u8>; 2] {
    let frame = [&[0; 1][..], b"another", &[0; 8]].concat();
    // An agent that knew only HTTP.
    [frame, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()]
}

/// The head of the last frame that [`OtherAgent`] receives.
const LAST: [u8; HEAD_BYTES] = [0xff; HEAD_BYTES];

/// An agent of another build: it holds the lock and both sockets, and gives each command the same
/// answer.
struct OtherAgent {
    thread: JoinHandle<Vec<u8>>,
    api: PathBuf,
    _ssh: UnixListener,
    _lock: File,
}

impl OtherAgent {
    fn start(directory: &Path, answer: Vec<u8>) -> Self {
        let mut lock = File::create(directory.join("lock")).unwrap();
        lock.lock().unwrap();
        write!(lock, "process {}", std::process::id()).unwrap();
        let listen = |name: &str| {
            let path = directory.join(name);
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            listener
        };
        let (api, ssh) = (listen("api.sock"), listen("ssh.sock"));
        let thread = thread::spawn(move || {
            let mut received = Vec::new();
            for client in api.incoming() {
                let mut client = client.unwrap();
                let mut head = [0; HEAD_BYTES];
                // A probe of the socket sends nothing.
                if client.read_exact(&mut head).is_err() {
                    continue;
                }
                if head == LAST {
                    break;
                }
                client.write_all(&answer).unwrap();
                received.extend(head);
                // A command that does not read the whole answer resets the connection.
                let _ = client.read_to_end(&mut received);
            }
            received
        });
        Self { thread, api: directory.join("api.sock"), _ssh: ssh, _lock: lock }
    }

    /// Ends it; returns what the commands sent.
    fn stop(self) -> Vec<u8> {
        UnixStream::connect(self.api).unwrap().write_all(&LAST).unwrap();
        self.thread.join().unwrap()
    }
}

#[test]
fn an_agent_of_another_build_has_to_be_restarted() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.tokenkeep(&["keyset", "export", "--certificate", "encryption", "-o", "encryption.pem"]).ok();
    let directory = machine.file("runtime/tokenkeep/agent");
    fs::create_dir_all(&directory).unwrap();
    for private in [directory.parent().unwrap(), &directory] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    }
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "message.txt", "--pin-source", "file:pin", "--out", "signed"];
    for answer in answers_of_other_builds() {
        let agent = OtherAgent::start(&directory, answer);
        let (build, remedy) = ("another build of tokenkeep", "`tokenkeep agent stop`");
        machine.tokenkeep(&sign).fails_with(1).says(build).says(remedy);
        let status = machine.tokenkeep(&["agent", "status"]).ok().says("An agent runs");
        assert!(status.err().contains(build) && status.err().contains(remedy), "{status}");
        let status = machine.tokenkeep(&["agent", "status", "--json"]).ok();
        assert!(status.json()["process"].is_number() && status.err().contains(build), "{status}");
        // A shell evaluates what is on stdout.
        let variables = machine.tokenkeep(&["agent", "--env"]).ok();
        assert!(variables.err().contains(build) && variables.err().contains(remedy), "{variables}");
        let lines = variables.out();
        assert!(lines.lines().count() == 2 && lines.lines().all(|line| line.contains("; export ")), "{variables}");
        // Without its own keyset, which it does not need.
        let encrypt = ["encrypt", "--certificate", "encryption.pem", "message.txt", "--out", "encrypted"];
        machine.tokenkeep(&encrypt).ok().says(build);
        let sent = agent.stop();
        let pin = machine.read_text("pin");
        let pin = pin.trim().as_bytes();
        assert!(!sent.is_empty() && !sent.windows(pin.len()).any(|part| part == pin), "it got the PIN");
    }
    assert!(!machine.file("signed").exists());
    machine.tokenkeep(&sign).ok();
    assert!(!machine.listed_token("default").count_is_low());
}

#[test]
fn frames_of_another_build_and_garbage_are_refused() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    Agent::configure(machine, "");
    let agent = Agent::start(machine, &[]);
    let answer_to = |bytes: &[u8]| {
        let mut client = UnixStream::connect(agent.api_socket()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The agent may close before it has read everything.
        let _ = client.read_to_end(&mut answer);
        answer
    };
    // The agent names its own build, and nothing more.
    let other = [&[0; 1][..], b"another", &2_u32.to_be_bytes(), &0_u32.to_be_bytes(), b"{}"].concat();
    let named = answer_to(&other);
    assert_eq!((named.len(), &named[8..]), (HEAD_BYTES, &[0; 8][..]));
    let build = &named[..8];
    assert_eq!(build[0], 0, "an HTTP request could begin so");
    // A frame of this build, with content that no command sends.
    let frame = |message: &[u8], lengths: [u32; 2]| {
        [build, &lengths[0].to_be_bytes(), &lengths[1].to_be_bytes(), message].concat()
    };
    let length = |message: &[u8]| u32::try_from(message.len()).unwrap();
    for message in [
        &b"null"[..],
        b"{\"Call\":{\"number\":1,\"call\":\"SignDigest\"}}",
        b"{\"Reply\":{\"number\":1,\"reply\":null}}",
        b"\xff\xfe",
    ] {
        assert_eq!(answer_to(&frame(message, [length(message), 0])), b"", "{}", String::from_utf8_lossy(message));
    }
    assert_eq!(answer_to(&frame(b"{}", [u32::MAX, 0])), b"");
    assert_eq!(answer_to(&frame(b"{}", [2, u32::MAX])), b"");
    assert_eq!(answer_to(&frame(b"{}", [2, 5])), b"", "truncated");
    // An unknown operation, wrong arguments and a missing file are answered with an error.
    for (operation, arguments, has_input) in
        [("SignDigest", "{}", false), ("SignContent", "{}", false), ("SignContent", "{\"keyset\":{}}", true)]
    {
        let message = format!(
            "{{\"Call\":{{\"number\":1,\"call\":{{\"Run\":{{\"operation\":\"{operation}\",\"arguments\":{arguments},\
             \"has_input\":{has_input},\"has_output\":false}}}}}}}}"
        );
        let answer = answer_to(&frame(message.as_bytes(), [length(message.as_bytes()), 0]));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("cannot run the operation"), "{answer}");
    }
    machine.tokenkeep(&["keysets"]).ok().says("default");
    assert!(!machine.listed_token("default").count_is_low());
    assert!(!machine.file("questions").exists(), "a prompt appeared");
    assert!(agent.stop().success());
}

#[test]
fn a_content_that_changes_at_the_prompt_is_not_signed() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.tokenkeep(&["keyset", "export", "--certificate", "authority", "-o", "authority.pem"]).ok();
    let body = "cat >> $HERE/asked; printf 'Pay 9,000' > $HERE/order; cat $HERE/pin";
    let prompter = write_script(machine, "prompter", body);
    Agent::configure(machine, &format!("prompter = \"command:{prompter}\""));
    let agent = Agent::start(machine, &[]);
    let shown = "Pay 1,000";
    machine.write("shown", shown);
    let digest = machine.openssl(&["dgst", "-sha256", "-r", "shown"]).ok().out();

    machine.write("order", shown);
    machine.tokenkeep_without_terminal(&["sign", "order", "--out", "signed"]).fails_with(1).says("changed");
    assert!(!machine.file("signed").exists());
    assert!(machine.read_text("asked").contains(digest.split(' ').next().unwrap()));

    // A detached signature is over the content that was shown, whatever the file has become.
    machine.write("order", shown);
    machine.tokenkeep_without_terminal(&["sign", "order", "--detached", "--out", "signature"]).ok();
    let verify = |content: &str| {
        let line = ["cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-CAfile", "authority.pem"];
        machine.openssl(&[&line[..], &["-purpose", "any", "-content", content]].concat())
    };
    verify("shown").ok();
    assert_ne!(verify("order").code(), 0);
    assert!(agent.stop().success());
}
