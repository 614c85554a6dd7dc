//! Tests of the sandbox in a process of its own: this test binary again.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// Tells the process to sandbox itself, with this directory and this home in it.
const SANDBOX_VARIABLE: &str = "TOKENKEEP_TEST_SANDBOXED";
const HOME: &str = "TOKENKEEP_TEST_HOME";
const TEST: &str = "agent::sandbox::tests::sandboxed_code_does_no_harm";

fn denied<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("{what}: allowed"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{what}: {error}"),
    }
}

#[test]
fn sandboxed_code_does_no_harm() {
    if let Some(directory) = std::env::var_os(SANDBOX_VARIABLE) {
        return sandboxed(Path::new(&directory), &std::env::var(HOME).unwrap());
    }
    // The second home is a link, as on some servers.
    for home in ["home", "linked"] {
        in_a_process_with(home);
    }
}

fn in_a_process_with(home: &str) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["home/.ssh", "home/allowed", "homes/me/.ssh", "homes/me/allowed", "homes/all", "tokens", "elsewhere"] {
        fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("homes/me", directory.path().join("linked")).unwrap();
    fs::write(directory.path().join("homes/all/file"), "for everybody").unwrap();
    fs::write(directory.path().join(home).join(".ssh/id"), "private").unwrap();
    fs::write(directory.path().join(home).join("allowed/file"), "for the module").unwrap();
    let conf = directory.path().join("softhsm2.conf");
    fs::write(&conf, format!("directories.tokendir = {}\n", directory.path().join("tokens").display())).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(SANDBOX_VARIABLE, directory.path())
        .env(HOME, home)
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output_text}");
    assert!(output_text.contains("sandboxed by: "), "the process did not run: {output_text}");
    if output_text.contains("not sandboxed") {
        // Not `eprintln!`: the test harness captures it and shows it only for failed tests.
        let _ = writeln!(io::stderr(), "SKIPPED: {TEST}: this kernel has no Landlock");
    }
}

fn sandboxed(directory: &Path, home: &str) {
    let at = |name: &str| directory.join(name);
    let home = at(home);
    let leads_to = home.canonicalize().unwrap();
    // Everything tried below works before the sandbox, so only the sandbox can forbid it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    TcpStream::connect(address).unwrap();
    // It exits with its stdin: the sandboxed process can neither signal it nor wait for it.
    #[allow(clippy::zombie_processes, reason = "this process ends at once")]
    let other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let id = Pid::from_child(&other);
    fs::read_to_string("/proc/self/comm").unwrap();
    fs::read_to_string(format!("/proc/{}/comm", other.id())).unwrap();
    fs::write(at("elsewhere/before"), "").unwrap();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let device = fs::read_link(format!("/proc/self/fd/{}", terminal.slave.as_raw_fd())).unwrap();
    assert!(device.starts_with("/dev/pts"), "{}", device.display());
    fs::OpenOptions::new().read(true).write(true).open(&device).unwrap();
    for home in [&home, &leads_to] {
        fs::read_to_string(home.join(".ssh/id")).unwrap();
    }

    let sandbox_config =
        SandboxConfig { home: Some(home.clone()), allow: vec![home.join("allowed")], ..SandboxConfig::default() };
    let status = enter(&sandbox_config, |name| std::env::var_os(name).map(PathBuf::from)).unwrap();
    println!("sandboxed by: {status}");
    if status.contains("not sandboxed") {
        return;
    }
    denied("exec", Command::new("/bin/true").status());
    denied("another process's name", fs::read_to_string(format!("/proc/{}/comm", other.id())));
    denied("the first process's name", fs::read_to_string("/proc/1/comm"));
    for home in [&home, &leads_to] {
        denied("a private file", fs::read_to_string(home.join(".ssh/id")));
        denied("listing a home directory", fs::read_dir(home));
    }
    denied("a terminal", fs::File::open(&device));
    denied("writing to a terminal", fs::OpenOptions::new().write(true).open(&device));
    denied("the terminal of one's own", fs::File::open("/dev/tty"));
    denied("making a terminal", fs::File::open("/dev/ptmx"));
    denied("listing devices", fs::read_dir("/dev"));
    denied("writing elsewhere", fs::write(at("elsewhere/after"), ""));
    denied("removing elsewhere", fs::remove_file(at("elsewhere/before")));
    denied("truncating", fs::File::create(at("elsewhere/before")));
    if status == "Landlock 7" {
        denied("connecting by TCP", TcpStream::connect(address));
        denied("listening on TCP", TcpListener::bind("127.0.0.1:0"));
        denied("a signal", kill_process(id, Signal::TERM).map_err(io::Error::from));
    }
    // The needs of modules are allowed.
    fs::read_dir("/usr/lib").unwrap();
    fs::create_dir(at("tokens/new")).unwrap();
    fs::write(at("tokens/new/token.object"), "object").unwrap();
    fs::rename(at("tokens/new/token.object"), at("tokens/moved")).unwrap();
    fs::remove_file(at("tokens/moved")).unwrap();
    assert_eq!(fs::read_to_string(home.join("allowed/file")).unwrap(), "for the module");
    fs::write(home.join("allowed/file"), "written").unwrap();
    assert_eq!(fs::read_to_string(at("homes/all/file")).unwrap(), "for everybody", "only the home is private");
    fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    getrandom::u64().unwrap();
    // Threads started later are sandboxed, too.
    let inside = std::thread::spawn(|| fs::read_to_string("/proc/1/comm").is_err()).join().unwrap();
    assert!(inside);
}
