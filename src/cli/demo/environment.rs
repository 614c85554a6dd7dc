//! The demo's environment: a directory with its own tokens, in which it runs this program's
//! commands.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::config::ModulePaths;
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::{file_io, output};

/// Maximum time for the authority to start listening.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The project's configuration files, which the demo's directory contains from the start.
const FILES: &[(&str, &str)] = &[
    ("profiles/ca.toml", include_str!("../../../hsm-config/profiles/ca.toml")),
    ("profiles/cmp-response.toml", include_str!("../../../hsm-config/profiles/cmp-response.toml")),
    ("profiles/encryption.toml", include_str!("../../../hsm-config/profiles/encryption.toml")),
    ("profiles/signing.toml", include_str!("../../../hsm-config/profiles/signing.toml")),
    ("profiles/tls-server.toml", include_str!("../../../hsm-config/profiles/tls-server.toml")),
];
const AUTHORITY: &str = include_str!("../../../hsm-config/authority.toml");
const SOFTHSM: &str = include_str!("../../../hsm-config/softhsm2.conf");

/// The directory, the running authority, and the steps so far.
pub struct DemoEnvironment<'a> {
    cx: &'a Context<'a>,
    directory: PathBuf,
    /// whether the directory is removed at the end
    is_temporary: bool,
    http: u16,
    authority: Option<Child>,
    steps: Vec<Value>,
}

impl<'a> DemoEnvironment<'a> {
    /// Creates the directory, a temporary one or the one to keep, and its initial files.
    pub fn set(keep: Option<&Path>, cx: &'a Context<'a>) -> Result<Self, Failure> {
        let module = softhsm()?;
        let directory = match keep {
            Some(path) => path.to_owned(),
            None => temporary_name()?,
        };
        make_empty(&directory).map_err(|error| {
            let failure = cannot("create the directory", &directory, &error);
            if keep.is_some() { Failure { exit: Exit::Usage, ..failure } } else { failure }
        })?;
        let directory =
            fs::canonicalize(&directory).map_err(|error| cannot("use the directory", &directory, &error))?;
        if keep.is_none() {
            file_io::register_cleanup(&directory);
        }
        let (http, https) = (free_port()?, free_port()?);
        let demo = Self { cx, directory, is_temporary: keep.is_none(), http, authority: None, steps: Vec::new() };
        for name in ["tokens", "profiles", "home", "config/tokenkeep", "state", "runtime"] {
            let path = demo.directory.join(name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| cannot("create the directory", &path, &error))?;
        }
        demo.file("softhsm2.conf", &SOFTHSM.replace("@TOKENDIR@", &demo.directory.join("tokens").to_string_lossy()))?;
        demo.file("config/tokenkeep/agent.toml", &format!("modules = [{:?}]\n", module.to_string_lossy()))?;
        for (name, text) in FILES {
            demo.file(name, text)?;
        }
        let authority = AUTHORITY
            .replace("127.0.0.1:8829", &format!("127.0.0.1:{http}"))
            .replace("127.0.0.1:8830", &format!("127.0.0.1:{https}"))
            .replace("[token]\n", &format!("[token]\nmodule = {:?}\n", module.to_string_lossy()));
        demo.file("authority.toml", &authority)?;
        Ok(demo)
    }

    /// Begins a new step with a title and an explanation.
    pub fn begin_section(&mut self, title: &str, text: &str) -> Result<(), Failure> {
        self.steps.push(json!({ "scene": title, "commands": [] }));
        let number = self.steps.len();
        self.say(&format!("{number}. {title}\n   {}\n", text.replace('\n', "\n   ")))
    }

    /// Writes a file in the demo's directory.
    pub fn file(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, &error))
    }

    /// Writes a PIN, which a person would type, to a file with mode 0600.
    pub fn pin(&self, name: &str, pin: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{pin}"))
            .map_err(|error| cannot("write", &path, &error))
    }

    /// Prints a file.
    pub fn show(&self, name: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
        self.say(&format!("   $ cat {name}\n{}", indented(&text)))
    }

    /// Fails unless the two files are equal.
    pub fn assert_same(&self, one: &str, other: &str) -> Result<(), Failure> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            fs::read(&path).map_err(|error| cannot("read", &path, &error))
        };
        if read(one)? == read(other)? {
            return self.say(&format!("   {other} is identical to {one}.\n"));
        }
        Err(Failure::fault(format!("cannot continue the demo: {other} differs from {one}")))
    }

    /// Runs this program with these arguments; fails unless it succeeds.
    pub fn run(&mut self, arguments: &[&str]) -> Result<(), Failure> {
        self.run_until(Exit::Done, arguments)
    }

    /// Runs this program with these arguments; fails unless it ends with this exit code.
    pub fn run_until(&mut self, end: Exit, arguments: &[&str]) -> Result<(), Failure> {
        self.say(&format!("   $ tokenkeep {}", shown(arguments)))?;
        let output = self
            .command(arguments)?
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::fault(format!("cannot start tokenkeep: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        let commands = self.steps.last_mut().and_then(|step| step.get_mut("commands")?.as_array_mut());
        if let Some(commands) = commands {
            commands.push(json!({ "arguments": arguments, "exit": code, "output": text }));
        }
        self.say(&indented(&text))?;
        if code != Some(end.code()) {
            let what = shown(arguments);
            return Err(Failure::fault(format!("cannot continue the demo: `tokenkeep {what}`: {}", output.status)));
        }
        if end != Exit::Done {
            self.say(&format!("   (exit code {})\n", end.code()))?;
        }
        Ok(())
    }

    /// Starts the authority and waits until it listens.
    pub fn serve(&mut self, arguments: &[&str]) -> Result<(), Failure> {
        self.say(&format!("   $ tokenkeep {} &", shown(arguments)))?;
        let path = self.directory.join("authority.log");
        let log = fs::File::create(&path).map_err(|error| cannot("write", &path, &error))?;
        let again = log.try_clone().map_err(|error| cannot("write", &path, &error))?;
        let child = self.command(arguments)?.stdin(Stdio::null()).stdout(log).stderr(again).spawn();
        let child =
            self.authority.insert(child.map_err(|error| Failure::fault(format!("cannot start tokenkeep: {error}")))?);
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.http)).is_err() {
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                let mut text = String::new();
                let _ = fs::File::open(&path).and_then(|mut log| log.read_to_string(&mut text));
                return Err(Failure::fault(format!("cannot continue the demo: the authority does not serve: {text}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It prints its first line a moment after it begins to listen.
        std::thread::sleep(Duration::from_millis(100));
        let text = fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
        self.say(&indented(&text))
    }

    /// Ends the demo and returns its steps.
    pub fn finish(mut self) -> Vec<Value> {
        std::mem::take(&mut self.steps)
    }

    /// Ends the demo and keeps the directory, even without --keep.
    pub fn keep_directory(mut self) -> PathBuf {
        self.is_temporary = false;
        file_io::unregister_cleanup(&self.directory);
        self.directory.clone()
    }

    /// A command of this program, in the demo's directory and environment.
    fn command(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let program =
            env::current_exe().map_err(|error| Failure::fault(format!("cannot find this program: {error}")))?;
        let mut command = Command::new(program);
        let at = |name: &str| self.directory.join(name);
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("SOFTHSM2_CONF", at("softhsm2.conf"))
            .env("HOME", at("home"))
            .env("XDG_CONFIG_HOME", at("config"))
            .env("XDG_STATE_HOME", at("state"))
            .env("XDG_RUNTIME_DIR", at("runtime"));
        for variable in ["TOKENKEEP_KEYSET", "TOKENKEEP_AGENT_API", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"] {
            command.env_remove(variable);
        }
        Ok(command)
    }

    /// Prints text, unless the output is JSON.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.cx.output.is_json() { Ok(()) } else { output::print(&mut io::stdout().lock(), text) }
    }
}

impl Drop for DemoEnvironment<'_> {
    fn drop(&mut self) {
        if let Some(mut authority) = self.authority.take() {
            // This fails if it has already exited.
            let _ = authority.kill();
            let _ = authority.wait();
        }
        if self.is_temporary {
            // Files that cannot be removed are in the system's temporary directory, which is
            // cleaned anyway.
            let _ = fs::remove_dir_all(&self.directory);
            file_io::unregister_cleanup(&self.directory);
        }
    }
}

fn softhsm() -> Result<PathBuf, Failure> {
    ModulePaths::of_system(None).softhsm.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Failure::absent("cannot run the demo: SoftHSM is not installed").with_remedy("run ./softhsm-setup.sh")
    })
}

fn temporary_name() -> Result<PathBuf, Failure> {
    let random =
        getrandom::u64().map_err(|error| Failure::fault(format!("cannot generate random numbers: {error}")))?;
    Ok(env::temp_dir().join(format!("tokenkeep-demo-{random:016x}")))
}

/// Creates a directory with mode 0700; an existing one must be empty.
fn make_empty(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read_dir(directory)?.next() {
            None => Ok(()),
            Some(_) => Err(io::Error::other("it is not empty")),
        },
        other => other,
    }
}

/// A TCP port on 127.0.0.1 that is free now.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::fault(format!("cannot find a free port: {error}")))
}

/// Arguments as a user would type them, quoted for a shell.
fn shown(arguments: &[&str]) -> String {
    let quoted = |argument: &&str| {
        if argument.contains(|c: char| c.is_whitespace() || "'\"$\\".contains(c)) {
            format!("'{}'", argument.replace('\'', r"'\''"))
        } else {
            (*argument).to_owned()
        }
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("     {line}\n") }).collect()
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::fault(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        assert_eq!(shown(&["admin", "issue", "--name", "Example, User"]), "admin issue --name 'Example, User'");
        assert_eq!(shown(&["it's"]), r"'it'\''s'");
    }

    #[test]
    fn a_directory_with_content_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        make_empty(directory.path()).unwrap();
        make_empty(&directory.path().join("new")).unwrap();
        assert!(make_empty(directory.path()).unwrap_err().to_string().contains("not empty"));
        assert!(make_empty(&directory.path().join("no/such")).is_err());
    }

    #[test]
    fn the_configuration_files_have_the_placeholders() {
        assert!(AUTHORITY.contains("127.0.0.1:8829") && AUTHORITY.contains("127.0.0.1:8830"));
        assert!(AUTHORITY.contains("\n[token]\n") && SOFTHSM.contains("@TOKENDIR@"));
    }
}
