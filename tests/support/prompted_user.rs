//! A machine with an agent, keysets at the levels of a test, and a person at its prompter. The
//! answers are in a file, one line per question.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::sync::{Arc, Mutex, OnceLock};

use super::agent::{Agent, wait_for};
use super::machine::TokenKind;
use super::output::Output;
use super::prompting::write_script;
use super::shared_authority::{TestUser, remove_with_test_run};

/// A user whose agent asks through a prompter of the test.
pub struct PromptedUser {
    pub user: TestUser,
    /// The address prefix under which the authority knows the owners of the initial keysets.
    first_address: String,
    agent: Option<Agent>,
}

impl PromptedUser {
    /// Makes keysets with these names and levels. Each is on a token of its own with the same name,
    /// whose PIN is [`TestUser::PIN`]. The agent is not started.
    pub fn with(kind: TokenKind, keysets: &[(&str, &str)]) -> Self {
        let (user, first_address) = Self::copy_of_enrolled(kind, keysets);
        let script = format!(
            "#!/bin/sh\ncd {home} || exit 1\nread -r what\n{{ echo \"$what\"; cat; echo; echo ---; }} >> questions\n\
             n=0; while [ -e hold ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done\n\
             answer=$(head -n 1 answers); sed -i 1d answers\n\
             case $answer in '' | no) exit 1 ;; *) echo \"$answer\" ;; esac\n",
            home = user.machine.path().display()
        );
        let path = user.machine.write("bin/prompter", script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        user.machine.write("answers", "");
        Self { user, first_address, agent: None }
    }

    /// The address of the owner of an initial keyset.
    pub fn address(&self, keyset: &str) -> String {
        format!("{keyset}.{}", self.first_address)
    }

    /// A user with a copy of a machine that has these keysets, and the address prefix of the
    /// keysets' owners. Users enrolled later get an address that only this copy has.
    fn copy_of_enrolled(kind: TokenKind, keysets: &[(&str, &str)]) -> (TestUser, String) {
        static ORIGINALS: Mutex<BTreeMap<String, Arc<OnceLock<TestUser>>>> = Mutex::new(BTreeMap::new());
        let original = ORIGINALS.lock().unwrap().entry(format!("{kind:?} {keysets:?}")).or_default().clone();
        let original = original.get_or_init(|| {
            let user = TestUser::with(kind);
            remove_with_test_run(&user.machine);
            let prompted = Self { first_address: user.email.clone(), user, agent: None };
            for (name, level) in keysets {
                prompted.enroll(name, level, &[]);
            }
            prompted.user
        });
        (TestUser::on_machine(original.machine.copy()), original.email.clone())
    }

    /// Each keyset's owner gets an address of its own, because a second letter for one address
    /// would need approvals.
    pub fn enroll(&self, name: &str, level: &str, more: &[&str]) {
        let letter = self.letter(name, level);
        let enroll = ["enroll", "--letter", &letter, "--keyset", name, "--level", level];
        let rest = ["--new-token", "--new-pin-source", "file:pin"];
        self.user.tokenkeep(&[&enroll[..], &rest, more].concat()).ok();
    }

    /// A letter for a keyset with this name.
    pub fn letter(&self, name: &str, level: &str) -> String {
        let machine = &self.user.machine;
        let letter = machine.file(&format!("{name}.letter")).display().to_string();
        let email = format!("{name}.{}", self.user.email);
        let issue = ["issue", &email, "--name", "Example, Somebody", "--levels", level, "--letter-out", &letter];
        self.user.authority.admin(&issue).ok();
        letter
    }

    /// Starts the agent with these additional lines in `agent.toml`. Its prompter is a command, so
    /// its PINs count as unattended.
    pub fn start(&mut self, more: &str) -> &Agent {
        let prompter = format!("command:{}", self.user.machine.file("bin/prompter").display());
        self.start_with_prompter(&prompter, more)
    }

    /// Like [`Self::start`], with a prompter in which a person types: an askpass of OpenSSH's
    /// convention that calls the other one.
    pub fn start_typed(&mut self, more: &str) -> &Agent {
        let body = "what=pin; [ \"$SSH_ASKPASS_PROMPT\" = confirm ] && what=confirm\n\
                    printf '%s\\n%s\\n' \"$what\" \"$1\" | $HERE/bin/prompter";
        let askpass = format!("askpass:{}", write_script(&self.user.machine, "askpass", body));
        self.start_with_prompter(&askpass, more)
    }

    fn start_with_prompter(&mut self, prompter: &str, more: &str) -> &Agent {
        let machine = &self.user.machine;
        let configuration = machine.read_text("config/tokenkeep/agent.toml");
        let text = format!("{configuration}\nprompter = \"{prompter}\"\n{more}\n");
        machine.write("config/tokenkeep/agent.toml", text);
        self.agent.insert(Agent::start(machine, &[]))
    }

    /// Ends the agent, and starts another one.
    pub fn restart(&mut self) {
        drop(self.agent.take());
        self.agent = Some(Agent::start(&self.user.machine, &[]));
    }

    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("the agent is not started")
    }

    pub fn agent_mut(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the agent is not started")
    }

    /// Sets the answers: a PIN, `yes`, or `no`, which cancels a PIN prompt. One line per question,
    /// in order.
    pub fn set_answers(&self, answers: &[&str]) {
        self.user.machine.write("answers", answers.join("\n") + "\n");
    }

    /// The questions since the last call: the kind, then the text.
    pub fn questions(&self) -> Vec<String> {
        let path = self.user.machine.file("questions");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.split("---\n").filter(|question| !question.trim().is_empty()).map(str::to_owned).collect()
    }

    /// The kind of each question: `pin` or `confirm`.
    pub fn question_kinds(&self) -> Vec<String> {
        self.questions().iter().map(|question| question.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// Keeps questions open until the guard is dropped.
    pub fn hold_prompts(&self) -> PromptHold {
        let path = self.user.machine.write("hold", "");
        PromptHold(path)
    }

    /// Waits until this number of questions was asked.
    pub fn wait_for_questions(&self, number: usize) {
        let path = self.user.machine.file("questions");
        wait_for("a question", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            (text.matches("---\n").count() >= number).then_some(())
        });
    }

    /// The public keys that the agent offers, in the format of `ssh-add -L`.
    pub fn offered_keys(&self) -> String {
        self.ssh("ssh-add", &["-L"], b"").out()
    }

    /// Starts `ssh-keygen -Y sign` with a keyset's key; returns the child.
    pub fn begin_signing(&self, keyset: &str, file: &str) -> Child {
        let machine = &self.user.machine;
        let public = format!("{keyset}.pub");
        if !machine.file(&public).exists() {
            let offered = self.offered_keys();
            let line = offered.lines().find(|line| line.contains(&format!(" {keyset} ")));
            machine.write(&public, line.unwrap_or_else(|| panic!("{keyset} is not offered: {offered}")));
        }
        machine.write(file, format!("what is in {file}\n"));
        let mut command = machine.command("ssh-keygen");
        command.env("SSH_AUTH_SOCK", self.agent().ssh_socket());
        command.args(["-Y", "sign", "-f", &public, "-n", &format!("namespace-of-{file}"), file]);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    }

    /// Signs with a keyset's key. Returns whether there is a signature; an invalid one fails the
    /// test.
    #[track_caller]
    pub fn signs(&self, keyset: &str, file: &str) -> bool {
        self.finish_signing(self.begin_signing(keyset, file), file)
    }

    #[track_caller]
    pub fn finish_signing(&self, mut child: Child, file: &str) -> bool {
        let status = wait_for("ssh-keygen ends", || child.try_wait().unwrap());
        let machine = &self.user.machine;
        let signature = machine.file(&format!("{file}.sig"));
        if !status.success() {
            assert!(!signature.exists(), "there is a signature in spite of the failure");
            return false;
        }
        let (namespace, signature) = (format!("namespace-of-{file}"), signature.display().to_string());
        let check = ["-Y", "check-novalidate", "-n", &namespace, "-s", &signature];
        machine.run("ssh-keygen", &check, &machine.read(file)).ok();
        fs::remove_file(signature).unwrap();
        true
    }

    /// Runs a program with the agent's socket in its environment.
    pub fn ssh(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.user.machine.command(program);
        command.env("SSH_AUTH_SOCK", self.agent().ssh_socket()).args(arguments);
        super::machine::run(command, input)
    }
}

/// While this lives, the prompter does not answer.
pub struct PromptHold(std::path::PathBuf);

impl Drop for PromptHold {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
