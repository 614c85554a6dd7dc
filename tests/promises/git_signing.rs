//! Git signs and verifies with keysets, through the one program that it calls for
//! `gpg.format=x509`: it shows a good commit as good, a modified one as bad, a stranger's as a
//! stranger's, and makes no commit without the PIN.

use std::os::unix::fs::symlink;

use crate::support::agent::Agent;
use crate::support::faulty_module::FaultyModule;
use crate::support::machine;
use crate::support::output::Output;
use crate::support::prompting::{assert_contains_all, questions, write_script};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

/// A user with a keyset, a repository in `repository`, and git configured as in the documents.
struct Committer {
    user: TestUser,
}

impl Committer {
    fn new() -> Self {
        let committer = Self { user: TestUser::with_keyset() };
        let machine = &committer.user.machine;
        symlink(env!("CARGO_BIN_EXE_tokenkeep"), machine.file("bin/tokenkeep-git-sign")).unwrap();
        machine.run("git", &["init", "-q", "-b", "main", "repository"], b"").ok();
        for (key, value) in [
            ("user.name", "Example Somebody"),
            ("user.email", committer.user.email.as_str()),
            ("gpg.format", "x509"),
            ("gpg.x509.program", "tokenkeep-git-sign"),
        ] {
            committer.git(&["config", key, value]).ok();
        }
        committer.set_pin_source("pin");
        committer
    }

    fn git(&self, arguments: &[&str]) -> Output {
        self.user.machine.run("git", &[&["-C", "repository"], arguments].concat(), b"")
    }

    /// Git's output, without the final line break.
    #[track_caller]
    fn git_output(&self, arguments: &[&str]) -> String {
        self.git(arguments).ok().out().trim_end().to_owned()
    }

    fn commit(&self, message: &str) -> Output {
        self.git(&["commit", "--allow-empty", "-S", "-m", message])
    }

    /// As above, but git has no terminal, as when an editor starts it.
    fn commit_without_terminal(&self, message: &str) -> Output {
        let mut command = self.user.machine.command("setsid");
        command.args(["--wait", "git", "-C", "repository", "commit", "--allow-empty", "-S", "-m", message]);
        machine::run(command, b"")
    }

    /// Git's letter for a commit's signature: G good, B bad, U good but of unknown validity, N
    /// none.
    #[track_caller]
    fn signature_status(&self, commit: &str) -> String {
        self.git_output(&["log", "-1", "--format=%G?", commit])
    }

    /// Writes a commit object verbatim.
    fn commit_object(&self, text: &str) -> String {
        let machine = &self.user.machine;
        let write = ["-C", "repository", "hash-object", "-t", "commit", "-w", "--stdin"];
        machine.run("git", &write, text.as_bytes()).ok().out().trim().to_owned()
    }

    /// Writes agent.toml with this PIN source.
    fn set_pin_source(&self, file: &str) {
        let machine = &self.user.machine;
        let (module, pin) = (machine.module().display(), machine.file(file).display().to_string());
        let text = format!("modules = [\"{module}\"]\npin_source = \"file:{pin}\"\n");
        machine.write("config/tokenkeep/agent.toml", text);
    }
}

/// Splits a commit object into its PEM signature and the signed content.
fn split_commit(commit: &str) -> (String, String) {
    let (mut signature, mut signed, mut inside) = (String::new(), String::new(), false);
    for line in commit.split_inclusive('\n') {
        if let Some(first) = line.strip_prefix("gpgsig ") {
            inside = true;
            signature.push_str(first);
        } else if let Some(next) = line.strip_prefix(' ').filter(|_| inside) {
            signature.push_str(next);
        } else {
            inside = false;
            signed.push_str(line);
        }
    }
    (signature, signed)
}

/// Joins signature and signed content into a commit object.
fn join_commit(signature: &str, signed: &str) -> String {
    let (head, message) = signed.split_once("\n\n").unwrap();
    format!("{head}\ngpgsig {}\n\n{message}", signature.trim_end().replace('\n', "\n "))
}

#[test]
fn a_signed_commit_is_good_and_a_changed_one_is_bad() {
    let committer = Committer::new();
    let email = committer.user.email.clone();
    committer.commit("a message").ok();
    assert_eq!(committer.signature_status("HEAD"), "G");
    committer.git(&["log", "-1", "--show-signature"]).ok().says("Signed by").says(&email);
    committer.git(&["verify-commit", "HEAD"]).ok();
    assert!(committer.git_output(&["log", "-1", "--format=%GS"]).contains(&email));
    assert_eq!(committer.git_output(&["log", "-1", "--format=%GT"]), "fully");
    let shown = committer.user.keyset_info("default");
    let fingerprint = shown["certificates"][0]["sha256"].as_str().unwrap().to_uppercase();
    assert_eq!(committer.git_output(&["log", "-1", "--format=%GF"]), fingerprint);

    // Modified, or signed as another type.
    let commit = committer.git(&["cat-file", "commit", "HEAD"]).ok().out();
    let changed = committer.commit_object(&commit.replace("a message", "a massage"));
    assert_eq!(committer.signature_status(&changed), "B");
    assert_ne!(committer.git(&["verify-commit", &changed]).code(), 0);
    committer.git(&["log", "-1", "--show-signature", &changed]).ok().says("not verified");

    // A foreign program agrees.
    let (signature, signed) = split_commit(&commit);
    assert!(signature.starts_with("-----BEGIN SIGNED MESSAGE-----\n"), "{signature}");
    let machine = &committer.user.machine;
    machine.write("signature.pem", signature.replace("SIGNED MESSAGE", "CMS"));
    machine.write("signed", &signed);
    let address = committer.user.authority.http_url();
    machine.run("curl", &["-sSf", "-o", "ca.cer", &format!("{address}/ca.cer")], b"").ok();
    machine.openssl(&["x509", "-inform", "DER", "-in", "ca.cer", "-out", "ca.pem"]).ok();
    let verify =
        ["cms", "-verify", "-binary", "-inform", "PEM", "-in", "signature.pem", "-CAfile", "ca.pem", "-content"];
    machine.openssl(&[&verify[..], &["signed", "-out", "x"]].concat()).ok();
    machine.write("signed", signed.replace("a message", "a massage"));
    assert_ne!(machine.openssl(&[&verify[..], &["signed", "-out", "x"]].concat()).code(), 0);

    committer.git(&["tag", "-s", "-m", "a tag", "one"]).ok();
    committer.git(&["tag", "-v", "one"]).ok().says("Signed by");
}

#[test]
fn git_selects_the_keyset_by_every_key_id_form() {
    let committer = Committer::new();
    let shown = committer.user.keyset_info("default");
    let fingerprint = shown["certificates"][0]["sha256"].as_str().unwrap().to_owned();
    let email = committer.user.email.to_uppercase();
    for key in ["default", &email, &fingerprint, &format!("Somebody <{email}>")] {
        committer.git(&["config", "user.signingkey", key]).ok();
        committer.commit(key).ok();
        assert_eq!(committer.signature_status("HEAD"), "G", "{key}");
    }
    // Nobody else's signature is accepted.
    let head = committer.git_output(&["rev-parse", "HEAD"]);
    for key in ["another", "other@example.org", &fingerprint.replace(['0', '1', '2'], "9")] {
        committer.git(&["config", "user.signingkey", key]).ok();
        let output = committer.commit(key);
        assert_ne!(output.code(), 0, "{output}");
        output.says("user.signingkey");
    }
    // A one-line script instead of a link.
    committer.git(&["config", "--unset", "user.signingkey"]).ok();
    let machine = &committer.user.machine;
    let program = machine.write("sign-for-git", "#!/bin/sh\nexec tokenkeep git-sign \"$@\"\n");
    machine.run("chmod", &["755", "sign-for-git"], b"").ok();
    committer.git(&["config", "gpg.x509.program", program.to_str().unwrap()]).ok();
    assert_eq!(committer.git_output(&["rev-parse", "HEAD"]), head, "something was committed");
    committer.commit("by the one-line program").ok();
    assert_eq!(committer.signature_status("HEAD"), "G");
}

#[test]
fn a_commit_without_the_pin_is_not_made() {
    let committer = Committer::new();
    committer.commit("first").ok();
    let head = committer.git_output(&["rev-parse", "HEAD"]);
    committer.set_pin_source("wrong.pin");
    let output = committer.commit("second");
    assert_ne!(output.code(), 0, "{output}");
    output.says("cannot sign: the PIN of");
    committer.set_pin_source("no-such.pin");
    assert_ne!(committer.commit("third").code(), 0);

    let machine = &committer.user.machine;
    machine.write("config/tokenkeep/agent.toml", format!("modules = [\"{}\"]\n", machine.module().display()));
    let commit = "git -C repository commit -q --allow-empty -S -m fourth";
    let mut terminal = Terminal::shell(machine, commit);
    terminal.expect("PIN").interrupt();
    assert_ne!(terminal.finish().0, 0);
    assert_eq!(committer.git_output(&["rev-parse", "HEAD"]), head, "something was committed");

    let mut terminal = Terminal::shell(machine, commit);
    terminal.expect("PIN").type_line(TestUser::PIN);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(committer.signature_status("HEAD"), "G");
}

#[test]
fn a_running_agent_signs_for_git() {
    let committer = Committer::new();
    let agent = Agent::start(&committer.user.machine, &[]);
    committer.commit("through the agent").ok();
    assert_eq!(committer.signature_status("HEAD"), "G");
    // The agent owns the token since then, so it signed.
    let keysets = committer.user.machine.tokenkeep(&["--no-agent", "keysets"]).ok();
    keysets.says(&format!("the agent (process {})", agent.id()));
}

#[test]
fn git_without_a_terminal_uses_the_agents_prompter() {
    let mut committer = Committer::new();
    let machine = &mut committer.user.machine;
    let body = "{ cat; echo; echo ---; } >> $HERE/asked; [ ! -e $HERE/cancel ] && cat $HERE/$(cat $HERE/which)";
    let prompter = write_script(machine, "prompter", body);
    machine.write("which", "pin");
    let allowed = machine.path().display().to_string();
    Agent::configure(machine, &format!("prompter = \"command:{prompter}\"\nallow = [\"{allowed}\"]"));
    let faulty = FaultyModule::wrap_module_of(machine);
    // Without an agent nobody can be prompted.
    let refused = committer.commit_without_terminal("unasked");
    assert_ne!(refused.code(), 0, "{refused}");
    refused.says("there is no terminal");

    let _agent = Agent::start(&committer.user.machine, &[]);
    committer.commit_without_terminal("asked elsewhere").ok();
    assert_eq!(committer.signature_status("HEAD"), "G");
    committer.git(&["log", "-1", "--show-signature"]).ok().says("Signed by").says("asked elsewhere");
    let commit = committer.git(&["cat-file", "commit", "HEAD"]).ok().out();
    let machine = &committer.user.machine;
    machine.write("signed", split_commit(&commit).1);
    let digest = machine.openssl(&["dgst", "-sha256", "-r", "signed"]).ok().out();
    let question = questions(machine);
    assert_contains_all(
        &question,
        &[
            "tokenkeep-git-sign",
            "To sign the git commit \"asked elsewhere\"",
            digest.split(' ').next().unwrap(),
            "default (level high)",
        ],
    );
    assert_eq!(question.matches("---").count(), 1, "{question}");

    let head = committer.git_output(&["rev-parse", "HEAD"]);
    let refused = |tries: usize, result: &str| {
        faulty.reset_calls();
        let output = committer.commit_without_terminal("refused");
        assert_ne!(output.code(), 0, "{output}");
        output.says(result);
        assert_eq!((faulty.calls().len(), faulty.wrong_tries()), (tries, tries), "{:#?}", faulty.calls());
        assert_eq!(committer.git_output(&["rev-parse", "HEAD"]), head, "something was committed");
    };
    machine.write("cancel", "");
    refused(0, "cannot sign: cancelled at the prompt");
    std::fs::remove_file(machine.file("cancel")).unwrap();
    machine.write("which", "wrong.pin");
    refused(1, "is wrong");
    assert_eq!(questions(machine).matches("---").count(), 3, "{}", questions(machine));
    // If the command has its own PIN source, the PIN comes from there, and nobody is prompted.
    let configured = machine.read_text("config/tokenkeep/agent.toml");
    let source = machine.file("wrong.pin").display().to_string();
    machine.write("config/tokenkeep/agent.toml", format!("{configured}pin_source = \"file:{source}\"\n"));
    machine.write("which", "pin");
    refused(1, "is wrong");
    machine.write("config/tokenkeep/agent.toml", format!("{configured}pin_source = \"file:/no/such/file\"\n"));
    refused(0, "no such file");
    assert_eq!(questions(machine).matches("---").count(), 3, "a prompt appeared all the same");
}

#[test]
fn a_strangers_signature_is_not_good() {
    let committer = Committer::new();
    let machine = &committer.user.machine;
    let subject = format!("/CN=Example Somebody/emailAddress={}", committer.user.email);
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key", "-out", "own.pem", "-subj"];
    machine.openssl(&[&make[..], &[&subject, "-addext", "extendedKeyUsage=emailProtection"]].concat()).ok();
    committer.commit("unsigned").ok();
    let (_, unsigned) = split_commit(&committer.git(&["cat-file", "commit", "HEAD"]).ok().out());
    machine.write("to-sign", &unsigned);
    let sign =
        ["cms", "-sign", "-binary", "-in", "to-sign", "-signer", "own.pem", "-inkey", "own.key", "-outform", "PEM"];
    let forged = |more: &[&str]| {
        let signature = machine.openssl(&[&sign[..], more].concat()).ok().out();
        committer.commit_object(&join_commit(&signature.replace(" CMS-", " SIGNED MESSAGE-"), &unsigned))
    };
    let stranger = forged(&[]);
    assert_eq!(committer.signature_status(&stranger), "U");
    assert_ne!(committer.git(&["verify-commit", &stranger]).code(), 0);
    // A signature with its own content is no signature of this commit, whatever that content is.
    machine.write("to-sign", "something else\n");
    let carrying = forged(&["-nodetach"]);
    assert_eq!(committer.signature_status(&carrying), "E");
    assert_ne!(committer.git(&["verify-commit", &carrying]).code(), 0);
}
