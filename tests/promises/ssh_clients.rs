//! OpenSSH's programs and git, with keys on tokens: they log in, sign and verify through the agent
//! as through any other.

use std::fs;

use crate::support::agent::{Agent, BackgroundAgent, wait_for};
use crate::support::machine::Machine;
use crate::support::output::Output;
use crate::support::ssh::{PIN, Sshd, enroll_machine, questions, sign_file, ssh_add, start_agent};

/// Adds the keys of these keysets to `authorized_keys`.
fn authorize(machine: &Machine, keysets: &[&str]) {
    let keys: String = keysets.iter().map(|keyset| machine.read_text(&format!("{keyset}.pub"))).collect();
    machine.write("authorized_keys", keys);
}

#[test]
fn ssh_logs_in_with_every_kind_of_key() {
    let mut machine =
        enroll_machine(&[("curve", "low", "p256"), ("larger", "medium", "p384"), ("classic", "high", "rsa-2048")]);
    let _agent = start_agent(&mut machine);
    let sshd = Sshd::start(&machine, &["ed25519"]);
    authorize(&machine, &["curve", "larger", "classic"]);
    let log_in = |keyset| sshd.log_in(&machine, keyset, &[], "echo logged in");

    // The prompt says which program logs in where, with which keyset.
    let host = Sshd::fingerprint(&machine);
    for keyset in ["curve", "larger", "classic"] {
        log_in(keyset).ok().says("logged in");
        let asked = questions(&machine);
        assert_eq!(asked.len(), 1, "{asked:?}");
        for part in ["pin\n", &format!("as \"{}\"", sshd.user), &host, &format!("Keyset: {keyset}"), "/ssh ("] {
            assert!(asked[0].contains(part), "{part:?} is missing: {}", asked[0]);
        }
    }
    // Later uses depend on the level.
    for (keyset, expected) in [("curve", None), ("larger", Some("confirm\n")), ("classic", Some("pin\n"))] {
        log_in(keyset).ok();
        let asked = questions(&machine);
        assert_eq!(asked.len(), usize::from(expected.is_some()), "{keyset}: {asked:?}");
        assert!(asked.iter().all(|asked| asked.contains(expected.unwrap()) && asked.contains(&host)), "{asked:?}");
    }
    let log = machine.read_text("sshd.log");
    assert!(log.matches("Accepted publickey").count() >= 6 && log.contains("RSA SHA256:"), "{log}");

    // A key that is not authorized is refused.
    authorize(&machine, &["curve"]);
    log_in("classic").fails_with(255).says("Permission denied");
}

#[test]
fn a_certificate_of_a_key_is_passed_through() {
    let mut machine = enroll_machine(&[("curve", "low", "p256"), ("classic", "low", "rsa-2048")]);
    let _agent = start_agent(&mut machine);
    let sshd = Sshd::start(&machine, &["ecdsa", "-b", "256"]);
    machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ca"], b"").ok();
    machine.write("authorized_keys", format!("cert-authority {}", machine.read_text("ca.pub")));
    for keyset in ["curve", "classic"] {
        sshd.log_in(&machine, keyset, &[], "true").fails_with(255);
        let key = format!("{keyset}.pub");
        machine.run("ssh-keygen", &["-q", "-s", "ca", "-I", keyset, "-n", &sshd.user, &key], b"").ok();
        let certificate = format!("CertificateFile={}", machine.file(&format!("{keyset}-cert.pub")).display());
        sshd.log_in(&machine, keyset, &["-o", &certificate], "true").ok();
    }
    let log = machine.read_text("sshd.log");
    assert!(log.contains("ECDSA-CERT") && log.contains("RSA-CERT"), "{log}");
}

#[test]
fn a_forwarded_connection_may_only_use_keys() {
    let mut machine = enroll_machine(&[("curve", "low", "p256"), ("larger", "medium", "p384")]);
    let _agent = start_agent(&mut machine);
    let sshd = Sshd::start(&machine, &["rsa", "-b", "2048"]);
    authorize(&machine, &["curve", "larger"]);
    let there = |command: &str| sshd.log_in(&machine, "curve", &["-A"], command);
    there("true").ok();
    questions(&machine);

    // From that host to another: the prompt says that the request comes from there.
    let on = sshd.ssh(&machine, "larger", &[]).join(" ");
    there(&format!("{on} echo on from there")).ok().says("on from there");
    let asked = questions(&machine);
    let host = Sshd::fingerprint(&machine);
    assert_eq!(asked.len(), 1, "{asked:?}");
    for part in
        [format!("at the host with the key {host}"), format!("Forwarded: requested from the host with the key {host}")]
    {
        assert!(asked[0].contains(&part), "{part} is missing: {}", asked[0]);
    }

    // A file can be signed from there.
    machine.write("message", "a message\n");
    let (key, message) = (machine.file("curve.pub"), machine.file("message"));
    there(&format!("ssh-keygen -Y sign -n file -f {} {}", key.display(), message.display())).ok();
    // Logging off, logging in and locking work on the local side only.
    there("ssh-add -l").ok().says("curve curve@example.org");
    assert_ne!(there("ssh-add -D").code(), 0);
    let askpass = machine.write("bin/askpass", format!("#!/bin/sh\necho {PIN}\n"));
    fs::set_permissions(&askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let asking = format!("SSH_ASKPASS={} SSH_ASKPASS_REQUIRE=force", askpass.display());
    assert_ne!(there(&format!("{asking} ssh-add -x")).code(), 0);
    assert_ne!(there(&format!("{asking} ssh-add -s curve")).code(), 0);
    machine.run("ssh-add", &["-l"], b"").ok().says("curve curve@example.org");
    sshd.log_in(&machine, "curve", &[], "true").ok();
    assert!(questions(&machine).is_empty(), "the session is still active");
}

#[test]
fn ssh_add_lists_logs_in_and_off_locks_and_unlocks() {
    let mut machine =
        enroll_machine(&[("curve", "low", "p256"), ("asking", "medium", "p256"), ("strict", "high", "p256")]);
    let agent = start_agent(&mut machine);
    let questions_by_signing = || {
        sign_file(&machine, "curve").ok();
        questions(&machine).len()
    };
    let fingerprint = machine.run("ssh-keygen", &["-l", "-f", "curve.pub"], b"").ok().out();
    assert!(fingerprint.ends_with(" curve curve@example.org (ECDSA)\n"), "{fingerprint}");
    ssh_add(&machine, "", &["-l"]).ok().says(&fingerprint).says(" strict strict@example.org (ECDSA)");

    // The first use prompts and the second does not, until the user logs off: from all tokens, from
    // one, from the card.
    assert_eq!((questions_by_signing(), questions_by_signing()), (1, 0));
    for log_off in [&["-D"][..], &["-d", "curve.pub"], &["-e", "curve"]] {
        ssh_add(&machine, "", log_off).ok();
        assert_eq!((questions_by_signing(), questions_by_signing()), (1, 0), "{log_off:?}");
    }

    // After the PIN at ssh-add's own prompt, the agent no longer prompts.
    let shown = machine.tokenkeep(&["token", "list", "--json"]).ok().json();
    let tokens = shown.as_array().or_else(|| shown["tokens"].as_array()).unwrap().clone();
    let uri = tokens.iter().find(|token| token["label"] == "curve").unwrap()["uri"].as_str().unwrap().to_owned();
    for provider in ["curve", &uri] {
        ssh_add(&machine, "", &["-D"]).ok();
        ssh_add(&machine, PIN, &["-s", provider]).ok();
        assert_eq!(questions_by_signing(), 0, "{provider}");
    }
    // A wrong PIN starts no session; nor does a PIN for a keyset at level high, or for two tokens
    // at once.
    ssh_add(&machine, "", &["-D"]).ok();
    let module = machine.module().display().to_string();
    let wrong = "wrong-123456";
    for (pin, provider) in [(wrong, "curve"), (PIN, "strict"), (PIN, "nobody"), (PIN, &module), (PIN, "pkcs11:x=y:")] {
        let refused = ssh_add(&machine, pin, &["-s", provider]);
        assert_ne!(refused.code(), 0, "{provider}");
    }
    assert_eq!(questions_by_signing(), 1);

    // A session of two seconds, however much it is used; confirmation only where every use is
    // confirmed anyway.
    ssh_add(&machine, "", &["-D"]).ok();
    assert_ne!(ssh_add(&machine, PIN, &["-c", "-s", "curve"]).code(), 0);
    ssh_add(&machine, PIN, &["-c", "-s", "asking"]).ok();
    ssh_add(&machine, PIN, &["-t", "2", "-s", "curve"]).ok();
    assert_eq!(questions_by_signing(), 0);
    wait_for("the session ends", || (questions_by_signing() == 1).then_some(()));
    // The agent does not support destination constraints, so it refuses them.
    machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "software"], b"").ok();
    machine.write("known", format!("host.example.org {}", machine.read_text("software.pub")));
    let restricted = ["-H", "known", "-h", "host.example.org", "-s", "curve"];
    ssh_add(&machine, PIN, &restricted).fails_with(1).says("agent refused operation");

    // A locked agent offers nothing.
    ssh_add(&machine, "a pass phrase", &["-x"]).ok();
    ssh_add(&machine, "", &["-l"]).does_not_say("curve");
    assert_ne!(sign_file(&machine, "curve").code(), 0);
    assert_ne!(ssh_add(&machine, PIN, &["-s", "curve"]).code(), 0);
    assert_ne!(ssh_add(&machine, "another", &["-X"]).code(), 0);
    ssh_add(&machine, "a pass phrase", &["-X"]).ok();
    assert_eq!(questions_by_signing(), 1, "locking logs off");

    // A private key from a file is refused.
    ssh_add(&machine, "", &["software"]).fails_with(1).says("refused");
    assert!(agent.stop().success());
}

#[test]
fn refusals_are_logged_by_default() {
    let mut machine = enroll_machine(&[("curve", "low", "p256"), ("strict", "high", "p256")]);
    // Without -v, as a shell starts it.
    Agent::configure_with_pin_in(&machine, "pin", "");
    let socket = machine.file("runtime/tokenkeep/agent/ssh.sock");
    machine.set_environment("SSH_AUTH_SOCK", socket.to_str().unwrap());
    machine.tokenkeep(&["agent", "--env"]).ok();
    let _ended = BackgroundAgent(&machine);
    for line in machine.run("ssh-add", &["-L"], b"").ok().out().lines() {
        machine.write(&format!("{}.pub", line.split(' ').nth(2).unwrap()), format!("{line}\n"));
    }
    machine.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "software"], b"").ok();
    machine.write("known", format!("host.example.org {}", machine.read_text("software.pub")));
    let log = || machine.read_text("runtime/tokenkeep/agent/log");
    assert_eq!(log(), "");
    let is_told = |output: Output, what: &str, before: String| {
        assert_ne!(output.code(), 0, "{what}: {output}");
        let log = log();
        let added: Vec<_> = log.strip_prefix(&before).unwrap().lines().collect();
        assert!(
            added.len() == 1 && added[0].contains("refused an SSH client") && added[0].contains(what),
            "{added:#?}"
        );
    };
    let wrong = "wrong-123456";
    for (typed, arguments, what) in [
        (PIN, &["-s", "nobody"][..], "cannot tell which token \"nobody\" means"),
        (PIN, &["-c", "-s", "curve"], "cannot apply the constraint confirm"),
        (PIN, &["-t", "60", "-s", "strict"], "level high"),
        (PIN, &["-H", "known", "-h", "host.example.org", "-s", "curve"], "restrict-destination"),
        ("", &["software"], "cannot add a private key from a file"),
        (wrong, &["-s", "curve"], "is wrong"),
        ("a pass phrase", &["-X"], "not locked"),
    ] {
        let before = log();
        is_told(ssh_add(&machine, typed, arguments), what, before);
    }
    // The person at the prompter types a wrong PIN, too.
    machine.write_secret("pin", wrong);
    let before = log();
    is_told(sign_file(&machine, "strict"), "is wrong", before);
    ssh_add(&machine, "a pass phrase", &["-x"]).ok();
    let before = log();
    is_told(ssh_add(&machine, PIN, &["-s", "curve"]), "unlock it with `ssh-add -X`", before);
    ssh_add(&machine, "a pass phrase", &["-X"]).ok();
    assert!(!log().contains(PIN) && !log().contains(wrong) && !log().contains("a pass phrase"), "{}", log());
    // Whatever names a client sends, the log has one short line.
    let before = log();
    is_told(ssh_add(&machine, PIN, &["-s", &format!("a\nWARN b\x1b[2J{}", "x".repeat(900))]), "a\\nWARN b", before);
    assert!(log().lines().all(|line| line.len() < 500), "{}", log());
}

#[test]
fn level_high_prompts_per_signature_and_cancel_signs_nothing() {
    let mut machine = enroll_machine(&[("strict", "high", "p384")]);
    let _agent = start_agent(&mut machine);
    for _ in 0..2 {
        sign_file(&machine, "strict").ok();
        let asked = questions(&machine);
        assert_eq!(asked.len(), 1, "{asked:?}");
        // The file's hash, which `sha512sum` prints, too.
        let digest = machine.run("sha512sum", &["message"], b"").ok().out();
        assert!(asked[0].contains(digest.split(' ').next().unwrap()) && asked[0].contains("\"file\""), "{}", asked[0]);
    }
    let prompter = machine.file("bin/prompter");
    fs::write(&prompter, "#!/bin/sh\nexit 1\n").unwrap();
    assert_ne!(sign_file(&machine, "strict").code(), 0);
    assert!(!machine.file("message.sig").exists());
}

#[test]
fn files_and_commits_are_signed_and_a_changed_one_is_bad() {
    let mut machine =
        enroll_machine(&[("curve", "low", "p256"), ("larger", "low", "p384"), ("classic", "low", "rsa-2048")]);
    let _agent = start_agent(&mut machine);
    let keysets = ["curve", "larger", "classic"];
    let signers = keysets.map(|keyset| format!("{keyset}@example.org {}", machine.read_text(&format!("{keyset}.pub"))));
    machine.write("signers", signers.concat());
    for keyset in keysets {
        sign_file(&machine, keyset).ok();
        let who = format!("{keyset}@example.org");
        let line = ["-Y", "verify", "-f", "signers", "-I", &who, "-n", "file", "-s", "message.sig"];
        machine.run("ssh-keygen", &line, b"a message\n").ok().says("Good \"file\" signature");
        assert_ne!(machine.run("ssh-keygen", &line, b"another message\n").code(), 0);
    }

    for keyset in keysets {
        let settings = [
            ("user.name", "User".to_owned()),
            ("user.email", format!("{keyset}@example.org")),
            ("gpg.format", "ssh".to_owned()),
            ("user.signingKey", machine.file(&format!("{keyset}.pub")).display().to_string()),
            ("gpg.ssh.allowedSignersFile", machine.file("signers").display().to_string()),
        ];
        machine.run("git", &["init", "-q", keyset], b"").ok();
        let git = |arguments: &[&str], input: &[u8]| machine.run("git", &[&["-C", keyset], arguments].concat(), input);
        for (name, value) in &settings {
            git(&["config", name, value], b"").ok();
        }
        git(&["commit", "-q", "--allow-empty", "-S", "-m", "a signed commit"], b"").ok();
        let good = format!("Good \"git\" signature for {keyset}@example.org");
        git(&["log", "--show-signature"], b"").ok().says(&good);
        git(&["verify-commit", "HEAD"], b"").ok();
        let commit = git(&["cat-file", "commit", "HEAD"], b"").ok().out();
        let changed = commit.replace("a signed commit", "a forged commit");
        assert_ne!(changed, commit);
        let forged = git(&["hash-object", "-t", "commit", "-w", "--stdin"], changed.as_bytes()).ok().out();
        git(&["log", "--show-signature", "-1", forged.trim()], b"").does_not_say(&good);
        assert_ne!(git(&["verify-commit", forged.trim()], b"").code(), 0);
    }
}
