//! Files of any size are signed and decrypted through the agent, in constant memory. It stops
//! reading when the command ends.

use std::fs::{self, File};
use std::io::Seek;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, wait_for};
use crate::support::machine::Machine;
use crate::support::shared_authority::TestUser;
use crate::support::ssh::ssh_add;

const MIB: u64 = 1024 * 1024;

/// Maximum memory of a process, in bytes, whatever the size of the file.
const MAX_MEMORY: u64 = 64 * MIB;

/// A user's machine with an agent, the certificates in `authority.pem` and `encryption.pem`, and a
/// PIN in a file.
struct LargeFiles {
    user: TestUser,
    agent: Agent,
}

impl LargeFiles {
    fn new() -> Self {
        let user = TestUser::with_keyset();
        for certificate in ["authority", "encryption"] {
            let out = format!("{certificate}.pem");
            user.machine.tokenkeep(&["keyset", "export", "--certificate", certificate, "-o", &out]).ok();
        }
        Agent::configure(&user.machine, "");
        let agent = Agent::start(&user.machine, &[]);
        Self { user, agent }
    }

    /// Runs a command with the PIN through the agent. Both processes stay within the limit.
    #[track_caller]
    fn run(&self, arguments: &[&str]) {
        self.run_reading(arguments, Stdio::null());
    }

    /// Like [`Self::run`], with the content of this file from a pipe.
    #[track_caller]
    fn run_with_pipe(&self, file: &str, arguments: &[&str]) {
        let mut cat = self.user.machine.command("cat").arg(file).stdout(Stdio::piped()).spawn().unwrap();
        self.run_reading(arguments, cat.stdout.take().unwrap().into());
        assert!(cat.wait().unwrap().success());
    }

    /// Starts a command with the PIN. Its output goes to `command.log`.
    fn start(&self, arguments: &[&str], input: Stdio) -> Child {
        let machine = &self.user.machine;
        let line = [arguments, &["--keyset", "default", "--pin-source", "file:pin"]].concat();
        let log = File::create(machine.file("command.log")).unwrap();
        let mut command = machine.tokenkeep_command(&line);
        command.stdin(input).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    #[track_caller]
    fn run_reading(&self, arguments: &[&str], input: Stdio) {
        let machine = &self.user.machine;
        let mut command = self.start(arguments, input);
        let worker = self.agent.worker();
        let (mut of_command, mut of_worker) = (0, 0);
        let status = loop {
            of_command = of_command.max(memory_of(command.id()).unwrap_or(0));
            of_worker = of_worker.max(memory_of(worker).unwrap());
            match command.try_wait().unwrap() {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        assert!(status.success(), "{arguments:?}: {}", machine.read_text("command.log"));
        assert!(of_command > 0, "{arguments:?}: it ended before its memory was read");
        for (process, memory) in [("command", of_command), ("worker", of_worker)] {
            assert!(memory <= MAX_MEMORY, "{arguments:?}: the {process} used {} KiB", memory / 1024);
        }
    }

    fn encrypt(&self, file: &str, out: &str, more: &[&str]) {
        let line = ["cms", "-encrypt", "-binary", "-stream", "-in", file, "-out", out];
        self.user.machine.openssl(&[&line[..], more, &["encryption.pem"]].concat()).ok();
    }

    fn same(&self, one: &str, other: &str) {
        self.user.machine.run("cmp", &[one, other], b"").ok();
    }
}

/// The memory of a process that no file backs, in bytes; `None` if it has ended.
fn memory_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    Some((kilobytes("RssAnon:")? + kilobytes("RssShmem:")?) * 1024)
}

/// A file of this size that takes no space on the disk. Its end differs from its beginning.
fn make_file(machine: &Machine, name: &str, size: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::create(machine.file(name)).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"the end\n", size - 8).unwrap();
}

#[test]
fn eighty_mebibytes_are_signed_and_decrypted() {
    let large = LargeFiles::new();
    let machine = &large.user.machine;
    make_file(machine, "big", 80 * MIB);
    let verify = ["cms", "-verify", "-binary", "-inform", "der", "-CAfile", "authority.pem", "-out", "verified"];
    large.run(&["sign", "big", "-o", "big.p7m"]);
    machine.openssl(&[&verify[..], &["-in", "big.p7m"]].concat()).ok();
    large.same("big", "verified");
    large.run(&["sign", "--detached", "big", "-o", "big.p7s"]);
    machine.openssl(&[&verify[..], &["-in", "big.p7s", "-content", "big"]].concat()).ok();
    for (form, cipher) in [("DER", "-aes-256-cbc"), ("PEM", "-aes-128-gcm"), ("SMIME", "-aes-256-cbc")] {
        large.encrypt("big", "big.enc", &["-outform", form, cipher]);
        large.run(&["decrypt", "big.enc", "-o", "opened"]);
        large.same("big", "opened");
    }
    assert!(!machine.listed_token("default").count_is_low());
}

#[test]
fn eighty_mebibytes_from_a_pipe_take_no_more_memory() {
    let large = LargeFiles::new();
    let machine = &large.user.machine;
    make_file(machine, "big", 80 * MIB);
    let verify = ["cms", "-verify", "-binary", "-CAfile", "authority.pem"];
    large.run_with_pipe("big", &["sign", "--detached", "-o", "big.p7s"]);
    machine
        .openssl(&[&verify[..], &["-inform", "der", "-in", "big.p7s", "-content", "big", "-out", "same"]].concat())
        .ok();
    // In PEM, with the content.
    large.run_with_pipe("big", &["sign", "--format", "pem", "-o", "big.pem"]);
    machine.openssl(&[&verify[..], &["-inform", "pem", "-in", "big.pem", "-out", "verified"]].concat()).ok();
    large.same("big", "verified");
    large.encrypt("big", "big.enc", &["-outform", "DER", "-aes-256-cbc"]);
    large.run_with_pipe("big.enc", &["decrypt", "-o", "opened"]);
    large.same("big", "opened");
    let left = fs::read_dir(machine.file("tmp")).unwrap().count();
    assert_eq!(left, 0, "a temporary file is left");
}

#[test]
fn a_gibibyte_takes_no_more_memory() {
    let large = LargeFiles::new();
    let machine = &large.user.machine;
    make_file(machine, "big", 1024 * MIB);
    large.run(&["sign", "--detached", "big", "-o", "big.p7s"]);
    let verify = ["cms", "-verify", "-binary", "-inform", "der", "-CAfile", "authority.pem", "-out", "/dev/null"];
    machine.openssl(&[&verify[..], &["-in", "big.p7s", "-content", "big"]].concat()).ok();
    large.run(&["sign", "big", "-o", "big.p7m"]);
    let written = fs::metadata(machine.file("big.p7m")).unwrap().len();
    assert!(written > 1024 * MIB && written < 1025 * MIB, "{written}");
    fs::remove_file(machine.file("big.p7m")).unwrap();
    large.encrypt("big", "big.enc", &["-outform", "DER", "-aes-256-cbc"]);
    large.run(&["decrypt", "big.enc", "-o", "opened"]);
    large.same("big", "opened");
}

/// The position in an open file, once it has not changed for half a second.
fn final_position(file: &mut File) -> Option<u64> {
    let before = file.stream_position().unwrap();
    thread::sleep(Duration::from_millis(500));
    (file.stream_position().unwrap() == before).then_some(before)
}

#[test]
fn reading_ends_with_the_command_and_with_a_lock() {
    let mut large = LargeFiles::new();
    let socket = large.agent.ssh_socket();
    large.user.machine.set_environment("SSH_AUTH_SOCK", socket.to_str().unwrap());
    let machine = &large.user.machine;
    machine.write("small", "a message\n");
    // It takes minutes to read.
    make_file(machine, "big", 512 * 1024 * MIB);
    for is_locked in [false, true] {
        // The worker reads from the same open file: both have one position.
        let mut content = File::open(machine.file("big")).unwrap();
        let mut command = large.start(&["sign", "--detached", "-o", "big.p7s"], content.try_clone().unwrap().into());
        wait_for("the worker reads", || (content.stream_position().unwrap() > 0).then_some(()));
        if is_locked {
            ssh_add(machine, "a pass phrase", &["-x"]).ok();
        } else {
            command.kill().unwrap();
        }
        let started = Instant::now();
        let position = wait_for("the reading ends", || final_position(&mut content));
        assert!(started.elapsed() < Duration::from_secs(10), "it ended after {:?}", started.elapsed());
        assert!(!command.wait().unwrap().success());
        if is_locked {
            let log = machine.read_text("command.log");
            assert!(log.contains("the agent was locked in the meantime"), "{log}");
            ssh_add(machine, "a pass phrase", &["-X"]).ok();
        }
        large.run(&["sign", "small", "-o", "small.p7m"]);
        assert_eq!(content.stream_position().unwrap(), position, "the reading went on");
        assert!(!machine.file("big.p7s").exists());
    }
    assert!(!machine.listed_token("default").count_is_low());
}

#[test]
fn a_damaged_large_message_leaves_nothing() {
    use std::os::unix::fs::FileExt;
    let large = LargeFiles::new();
    let machine = &large.user.machine;
    make_file(machine, "big", 80 * MIB);
    large.encrypt("big", "big.enc", &["-outform", "DER", "-aes-128-gcm"]);
    let damaged = File::options().write(true).open(machine.file("big.enc")).unwrap();
    damaged.write_all_at(b"other", 40 * MIB).unwrap();
    let decrypt = ["decrypt", "--pin-source", "file:pin", "big.enc", "-o", "opened"];
    machine.tokenkeep(&decrypt).fails_with(8);
    assert!(!machine.file("opened").exists(), "a content that was changed was written");
    fs::write(machine.file("opened"), "mine").unwrap();
    machine.tokenkeep(&decrypt).fails_with(8);
    assert_eq!(machine.read_text("opened"), "mine");
    let hidden = fs::read_dir(machine.path()).unwrap().flatten();
    let left: Vec<_> =
        hidden.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().ends_with(".new")).collect();
    assert!(left.is_empty(), "{left:?}");
}
