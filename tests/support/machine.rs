//! A test machine: a directory with its own tokens, home and runtime directory, in which the built
//! binary and other programs run as children.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::kryoptic;
use super::output::Output;

/// The PKCS#11 module of the machine's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    SoftHsm,
    /// Locks a PIN after ten wrong tries; PINs have at least eight characters.
    Kryoptic,
}

/// A directory with tokens, and the environment of all processes started there. It is removed when
/// dropped, unless the test fails or `TOKENKEEP_TEST_KEEP` is set: then it stays and its path is
/// printed.
pub struct Machine {
    directory: Option<TempDir>,
    path: PathBuf,
    pub kind: TokenKind,
    module: PathBuf,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// A machine with SoftHSM, found as for a user: no option names the module.
    pub fn new() -> Self {
        Self::with(TokenKind::SoftHsm)
    }

    pub fn with(kind: TokenKind) -> Self {
        Self::in_directory(kind, new_directory())
    }

    /// Another machine with a copy of all files of this one, including its tokens, keysets and
    /// PINs. No process may run here meanwhile.
    pub fn copy(&self) -> Self {
        let directory = new_directory();
        let (from, to) = (format!("{}/.", self.path.display()), directory.path().display().to_string());
        assert!(Command::new("cp").args(["-a", &from, &to]).status().unwrap().success(), "copying {from}");
        Self::in_directory(self.kind, directory)
    }

    fn in_directory(kind: TokenKind, directory: TempDir) -> Self {
        let path = directory.path().to_owned();
        for name in ["bin", "tokens", "home", "config/tokenkeep", "state", "runtime", "tmp"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        fs::set_permissions(path.join("runtime"), fs::Permissions::from_mode(0o700)).unwrap();
        if !path.join("bin/tokenkeep").is_symlink() {
            symlink(env!("CARGO_BIN_EXE_tokenkeep"), path.join("bin/tokenkeep")).unwrap();
        }
        let softhsm = path.join("softhsm2.conf");
        let template = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/hsm-config/softhsm2.conf")).unwrap();
        fs::write(&softhsm, template.replace("@TOKENDIR@", path.join("tokens").to_str().unwrap())).unwrap();
        let kryoptic_configuration = path.join("kryoptic/kryoptic.conf");
        kryoptic::configure(&kryoptic_configuration, 6);
        let module = match kind {
            TokenKind::SoftHsm => softhsm_module(),
            TokenKind::Kryoptic => kryoptic::module(),
        };
        // One module only: a card reader of the tester must not take part.
        fs::write(path.join("config/tokenkeep/agent.toml"), format!("modules = [\"{}\"]\n", module.display())).unwrap();
        let at = |name: &str| path.join(name).display().to_string();
        let environment = [
            ("PATH", format!("{}:{}", at("bin"), std::env::var("PATH").unwrap())),
            ("LANG", "C.UTF-8".to_owned()),
            ("SOFTHSM2_CONF", softhsm.display().to_string()),
            ("KRYOPTIC_CONF", kryoptic_configuration.display().to_string()),
            ("HOME", at("home")),
            ("XDG_CONFIG_HOME", at("config")),
            ("XDG_STATE_HOME", at("state")),
            ("XDG_RUNTIME_DIR", at("runtime")),
            ("TMPDIR", at("tmp")),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { directory: Some(directory), path, kind, module, environment }
    }

    /// The directory of this machine, and the current directory of the processes started here.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn module(&self) -> &Path {
        &self.module
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap_or_else(|error| panic!("reading {name}: {error}"))
    }

    pub fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Writes a file that only its owner can read, as required of a PIN file.
    pub fn write_secret(&self, name: &str, secret: &str) {
        let path = self.file(name);
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
        writeln!(file, "{secret}").unwrap();
    }

    /// Sets a variable for all processes started here from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Removes a variable for all processes started here from now on.
    pub fn unset_environment(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    /// A command for `program` with this machine's directory and environment, and nothing of the
    /// tester's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A command for the binary under test.
    pub fn tokenkeep_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_tokenkeep"));
        command.args(arguments);
        command
    }

    /// Runs `tokenkeep` to its end, with empty stdin.
    pub fn tokenkeep(&self, arguments: &[&str]) -> Output {
        self.tokenkeep_with_input(arguments, b"")
    }

    pub fn tokenkeep_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(self.tokenkeep_command(arguments), input)
    }

    /// Runs `tokenkeep` in a session of its own without a terminal, so that no person can be asked.
    pub fn tokenkeep_without_terminal(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("setsid");
        command.args(["--wait", env!("CARGO_BIN_EXE_tokenkeep")]).args(arguments);
        run(command, b"")
    }

    /// Runs `tokenkeep` until it dies at a crash point (`name` or `name:N`); fails if it ends
    /// otherwise.
    pub fn tokenkeep_crashing_at(&self, point: &str, arguments: &[&str]) {
        let output = self.tokenkeep_dying_at(point, arguments);
        assert!(output.was_killed(), "{point} was not reached\n{output}");
    }

    /// Runs `tokenkeep` with a crash point that may or may not be reached.
    pub fn tokenkeep_dying_at(&self, point: &str, arguments: &[&str]) -> Output {
        let mut command = self.tokenkeep_command(arguments);
        command.env("TOKENKEEP_CRASH_AT", point);
        run(command, b"")
    }

    /// Starts `tokenkeep` in the background; its output goes to the machine's file `log`.
    pub fn start_tokenkeep(&self, arguments: &[&str], log: &str, extra: &[(&str, &str)]) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file(log)).unwrap();
        self.tokenkeep_command(arguments)
            .envs(extra.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Runs a shell command line, with `tokenkeep` in the path.
    pub fn shell(&self, line: &str) -> Output {
        self.run("sh", &["-c", line], b"")
    }

    /// Runs another program to its end, with this `input` on stdin.
    pub fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(program);
        command.args(arguments);
        run(command, input)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let keep = std::thread::panicking() || std::env::var_os("TOKENKEEP_TEST_KEEP").is_some();
        if keep && let Some(directory) = self.directory.take() {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

fn new_directory() -> TempDir {
    tempfile::Builder::new().prefix("tokenkeep-test-").tempdir().unwrap()
}

/// Runs a command to its end.
pub fn run(mut command: Command, input: &[u8]) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {shown}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // In a thread: a child that writes before it has read everything must not block.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Output::new(shown, output)
}

/// The SoftHSM module at the usual paths of Debian and others.
pub fn softhsm_module() -> PathBuf {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("SoftHSM is not installed; ./softhsm-setup.sh installs it")
}
