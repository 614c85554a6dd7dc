//! The command line for scripts: exit codes, a remedy with each refusal, and where secrets never
//! go.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::support::authority::{Authority, free_port};
use crate::support::faulty_module::FaultyModule;
use crate::support::machine::Machine;
use crate::support::manual_pages::ManualPages;
use crate::support::shared_authority::{TestUser, wait_until_certificates_are_newer};
use crate::support::terminal::Terminal;

#[test]
fn exit_codes_and_remedies_match_the_documents() {
    let user = TestUser::enrolled();
    let pages = ManualPages::read(&user.machine);
    let run = |arguments: &[&str]| {
        let output = user.tokenkeep(arguments);
        pages.assert_lists_exit_code(arguments, &output);
        output
    };
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m"];

    run(&[&sign[..], &["--pin-source", "file:pin"]].concat()).ok();
    // 2: usage error
    run(&[]).fails_with(2).says("Usage");
    run(&["sign", "--no-such-option"]).fails_with(2).says("--no-such-option");
    run(&["enroll"]).fails_with(2).says("--letter");
    run(&["enroll", "--letter", "no-such.letter"]).fails_with(2).says("no-such.letter");
    run(&["sign", "no-such-file", "--pin-source", "file:pin", "--out", "x"]).fails_with(2).says("no-such-file");
    run(&["sign", "--in", "message.txt", "--pin-source", "1234"]).fails_with(2).says("file:PATH");
    run(&["encrypt", "--to", "user@@example", "message.txt", "--out", "x"]).fails_with(2).says("user@@example");
    // 3: token or keyset absent
    let absent = run(&[&sign[..], &["--keyset", "other", "--pin-source", "file:pin"]].concat()).fails_with(3);
    absent.says("other").says("default");
    run(&[&sign[..], &["--token", "other", "--pin-source", "file:pin"]].concat()).fails_with(3).says("other");
    // 4: the PIN
    run(&[&sign[..], &["--pin-source", "file:wrong.pin"]].concat())
        .fails_with(4)
        .says("cannot sign: the PIN of")
        .says("wrong")
        .says("default");
    run(&[&sign[..], &["--pin-source", "file:no-such-pin"]].concat()).fails_with(4).says("no-such-pin");
    // 5: refused
    run(&["enroll", "--letter", "first.letter", "--keyset", "x", "--new-token", "--new-pin-source", "file:pin"])
        .fails_with(5);
    run(&["encrypt", "--to", "nobody@example.org", "message.txt", "--out", "x"])
        .fails_with(5)
        .says("nobody@example.org")
        .says("--certificate");
    // 6: unreachable
    let nobody = format!("http://127.0.0.1:{}", free_port());
    run(&["encrypt", "--to", &user.email, "message.txt", "--out", "x", "--authority", &nobody])
        .fails_with(6)
        .says(&nobody);
    // 8: not verified
    let mut signed = user.machine.read("signed.p7m");
    let at = signed.windows(9).position(|window| window == b"a message").unwrap();
    for length in [1, 20, 300, signed.len() - 1] {
        user.machine.write("cut.p7m", &signed[..length]);
        run(&["verify", "--in", "cut.p7m", "--out", "verified.txt"]).fails_with(8);
    }
    signed[at] = b'A';
    user.machine.write("changed.p7m", &signed);
    run(&["verify", "--in", "changed.p7m", "--out", "verified.txt"]).fails_with(8).says("not verified");
    user.machine.write("garbage.p7m", "garbage");
    run(&["verify", "--in", "garbage.p7m", "--out", "verified.txt"]).fails_with(8);
    assert!(!user.machine.file("verified.txt").exists() && !user.machine.file("x").exists());
}

#[test]
fn keyset_show_and_delete_take_the_name_with_or_without_option() {
    let user = TestUser::with_keyset();
    let keyset = |arguments: &[&str]| user.tokenkeep(&[&["keyset"], arguments].concat());
    let shown = keyset(&["show", "default"]).ok().out();
    assert_eq!(keyset(&["show", "--keyset", "default", "--token", "default"]).ok().out(), shown);
    keyset(&["show", "--keyset", "other"]).fails_with(3).says("other");
    // The same name given twice may still be a mistake: the user may have meant two keysets.
    for name in ["default", "other"] {
        keyset(&["show", "default", "--keyset", name]).fails_with(2).says("--keyset");
        keyset(&["delete", "default", "--keyset", name, "--yes", "--pin-source", "file:pin"]).fails_with(2);
    }
    // Not even the only keyset is deleted without its name.
    keyset(&["delete", "--token", "default", "--yes", "--pin-source", "file:pin"]).fails_with(2).says("NAME");
    user.signs_with("default", "pin");
    let page = user.machine.tokenkeep(&["keyset", "delete", "--help"]).ok();
    page.says("--keyset <NAME>").says("Alternative to NAME");
    keyset(&["delete", "--keyset", "default", "--yes", "--pin-source", "file:pin"]).ok().says("Deleted");
}

#[test]
fn a_machine_without_tokens_gets_a_remedy() {
    let machine = Machine::new();
    machine.tokenkeep(&["keysets"]).ok().says("No keyset");
    machine.tokenkeep(&["tokens"]).ok().says("No token");
    assert_eq!(machine.tokenkeep(&["keysets", "--json"]).ok().json(), serde_json::json!([]));
    machine.write("message.txt", "a message\n");
    for (arguments, code) in [
        (&["sign", "message.txt", "--out", "x", "--pin-source", "file:pin"][..], 3),
        (&["decrypt", "message.txt", "--out", "x", "--pin-source", "file:pin"], 8),
        (&["verify", "message.txt", "--out", "x"], 3),
        (&["encrypt", "--to", "user@example.org", "message.txt", "--out", "x"], 3),
        (&["keyset", "show"], 3),
        (&["keyset", "delete", "default", "--yes"], 3),
        (&["pin", "change"], 3),
    ] {
        machine.tokenkeep(arguments).fails_with(code).does_not_say("CKR_");
    }
    // An unreadable SoftHSM configuration is reported with a remedy, not as CKR_GENERAL_ERROR.
    let mut machine = Machine::new();
    machine.set_environment("SOFTHSM2_CONF", "/no/such/softhsm2.conf");
    let output = machine.tokenkeep(&["tokens"]);
    assert!(output.err().contains("SOFTHSM2_CONF") && !output.err().contains("GENERAL_ERROR"), "{output}");
    machine.tokenkeep(&["tokens", "--module", "/no/such/module.so"]).fails_with(3).says("/no/such/module.so");
    // An option without effect is refused.
    let serve = ["authority", "serve", "--config", "authority.toml", "--module", "/no/such/module.so"];
    machine.tokenkeep(&serve).fails_with(2).says("`module` in the authority's configuration");
}

#[test]
fn an_impossible_authority_init_is_refused_before_the_pin() {
    let machine = Machine::new();
    let authority = Authority::prepared(&machine);
    // Without an obstacle the command asks for the PIN, and without a PIN it creates nothing.
    let init = |letter: &str, more: &[&str]| {
        let line = ["authority", "init", "--config", "authority.toml", "--new-pin-source", "file:no-such-pin"];
        let first = ["--first-administrator", "admin@example.org", "--letter-out", letter];
        machine.tokenkeep(&[&line[..], &first, more].concat())
    };
    init("admin.letter", &[]).fails_with(4).says("no-such-pin");
    assert!(!machine.file("state/tokenkeep/authority").exists(), "something was made");
    machine.tokenkeep(&Authority::INIT).ok();

    // An authority exists already.
    let before = machine.inventory(&[]);
    init("again.letter", &[]).fails_with(5).says("may already belong to an authority").does_not_say("no-such-pin");
    init("again.letter", &["--so-pin-source", "file:no-such-pin"]).fails_with(5).says("is not empty");
    // Another directory, and a token that belongs to a user.
    authority.configure(&machine, "state = \"elsewhere\"");
    let serial = machine.listed_token("authority").serial;
    init("again.letter", &[]).fails_with(5).says(&format!("a token with this label exists (serial {serial})"));
    // A path that is not a directory, and one without write permission.
    authority.configure(&machine, "state = \"authority.pin/state\"");
    init("again.letter", &[]).fails_with(1).says("cannot use the state directory").says("authority.pin/state");
    authority.configure(&machine, "state = \"shut/in/here\"");
    fs::create_dir(machine.file("shut")).unwrap();
    fs::set_permissions(machine.file("shut"), fs::Permissions::from_mode(0o500)).unwrap();
    let line = "authority init --config authority.toml --new-pin-source file:no-such-pin \
                --first-administrator admin@example.org --letter-out again.letter";
    // Drop root's capabilities, so that permissions apply.
    let drop =
        "if [ \"$(id -u)\" = 0 ]; then set -- setpriv --inh-caps=-all --bounding-set=-all -- \"$@\"; fi; exec \"$@\"";
    let mut command = machine.command("sh");
    command.args(["-c", drop, "sh", "tokenkeep"]).args(line.split_whitespace()).stdin(Stdio::null());
    crate::support::machine::run(command, b"").fails_with(1).says("cannot use the state directory").says("denied");

    assert!(!machine.file("elsewhere").exists() && !machine.file("shut/in").exists(), "something was made");
    assert!(!machine.file("again.letter").exists());
    assert_eq!(machine.inventory(&[]), before);
}

#[test]
fn a_pin_file_others_can_read_is_refused_with_the_remedy() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m", "--pin-source", "file:pin"];
    let with_mode = |mode: u32| {
        fs::set_permissions(user.machine.file("pin"), fs::Permissions::from_mode(mode)).unwrap();
        user.tokenkeep(&sign)
    };
    for mode in [0o644, 0o640, 0o604, 0o660] {
        with_mode(mode).fails_with(4).says("chmod 600").does_not_say(TestUser::PIN);
    }
    assert!(!user.machine.file("signed.p7m").exists());
    with_mode(0o600).ok();
    with_mode(0o400).ok();
}

#[test]
fn binary_to_a_terminal_is_refused() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--pin-source", "file:no-such-file"];
    let (code, screen) = Terminal::tokenkeep(&user.machine, &sign).finish();
    assert_eq!(code, 2, "{screen}");
    assert!(screen.contains("--out"), "{screen}");
    // Text may be written to a terminal.
    let sign = ["sign", "--in", "message.txt", "--pin-source", "file:pin", "--format", "pem"];
    let (code, screen) = Terminal::tokenkeep(&user.machine, &sign).finish();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("-----BEGIN CMS-----"), "{screen}");
    // Binary data may be written to a pipe.
    let piped = user.tokenkeep(&["sign", "--in", "message.txt", "--pin-source", "file:pin"]).ok();
    assert_eq!(piped.stdout.first(), Some(&0x30));
    user.tokenkeep_with_input(&["encrypt", "--to", &user.email, "--out", "-"], "x").ok();
}

#[test]
fn manual_pages_are_generated() {
    let machine = Machine::new();
    let page = machine.tokenkeep(&["man"]).ok().out();
    assert!(page.contains(".TH") && page.contains("\\fB130\\fR\nInterrupted"), "{page}");
    machine.tokenkeep(&["man", "--out", "man"]).ok();
    let pages: Vec<_> = fs::read_dir(machine.file("man"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for verb in ["enroll", "sign", "verify", "encrypt", "decrypt", "admin-issue", "admin-recover", "authority-init"] {
        assert!(pages.contains(&format!("tokenkeep-{verb}.1")), "{verb} is not in {pages:?}");
    }
}

#[test]
fn no_pin_in_argv_or_environment() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m", "--keyset", "default"];
    // No option takes a PIN itself.
    for option in ["--pin", "--new-pin", "--so-pin", "--password"] {
        let output = user.tokenkeep(&[&sign[..], &[option, TestUser::PIN]].concat()).fails_with(2);
        assert!(output.out().is_empty(), "{output}");
    }
    for source in [&format!("pin:{}", TestUser::PIN), &format!("env:{}", "PIN"), TestUser::PIN] {
        let output = user.tokenkeep(&[&sign[..], &["--pin-source", source]].concat()).fails_with(2);
        // A PIN typed there by mistake appears only in clap's echo of the option's value.
        assert!(!user.machine.file("signed.p7m").exists(), "{output}");
    }
    for name in ["PIN", "TOKENKEEP_PIN", "GNUTLS_PIN", "PKCS11_PIN", "TOKENKEEP_PIN_SOURCE"] {
        let mut command = user.machine.command("setsid");
        command.args(["--wait", "tokenkeep"]).args(sign).env(name, TestUser::PIN);
        crate::support::machine::run(command, b"").fails_with(4);
    }
    // The possible sources: a file, a descriptor, a credential.
    let mut command = user.machine.command("sh");
    let line = format!("tokenkeep {} --pin-source fd:3 3<pin", sign.join(" "));
    command.args(["-c", &line]).stdin(Stdio::null());
    crate::support::machine::run(command, b"").ok();
    let mut command = user.machine.tokenkeep_command(&[&sign[..], &["--pin-source", "credential:pin"]].concat());
    command.env("CREDENTIALS_DIRECTORY", user.machine.path());
    crate::support::machine::run(command, b"").ok();
}

#[test]
fn the_second_process_names_the_owner_of_a_token() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let serial = user.machine.listed_token("default").serial;
    let name = format!("runtime/tokenkeep/libsofthsm2.so-{serial}.lock");
    let mut file = fs::File::options().read(true).write(true).open(user.machine.file(&name)).unwrap();
    file.try_lock().unwrap();
    file.set_len(0).unwrap();
    write!(file, "somebody's program (process 4711)").unwrap();
    let sign =
        ["sign", "--keyset", "default", "--in", "message.txt", "--out", "signed.p7m", "--pin-source", "file:pin"];
    user.tokenkeep(&sign).fails_with(1).says("process 4711").says("default");
    assert!(!user.machine.listed_token("default").count_is_low(), "a PIN was tried");
    // A listing reports it and continues.
    user.tokenkeep(&["tokens"]).ok().says("default").says("process 4711");
    file.unlock().unwrap();
    user.tokenkeep(&sign).ok();
}

#[test]
fn agent_toml_saves_typing_and_never_reaches_an_authority() {
    let mut user = TestUser::enrolled();
    let machine = &mut user.machine;
    machine.write("message.txt", "a message\n");
    let sign = ["sign", "message.txt", "--out", "signed.p7m"];
    machine.tokenkeep_without_terminal(&sign).fails_with(4).says("--pin-source");
    let agent = machine.read_text("config/tokenkeep/agent.toml");
    let pin = machine.file("pin").display().to_string();
    machine.write("config/tokenkeep/agent.toml", format!("{agent}pin_source = \"file:{pin}\"\n"));
    machine.tokenkeep_without_terminal(&sign).ok();

    // Of one person's two keysets the newer one is used, or the one that agent.toml names; an
    // unknown key is refused with its line.
    user.issue("other.letter");
    wait_until_certificates_are_newer();
    user.enroll_new("other.letter", "other").ok();
    user.tokenkeep(&sign).ok().says("other");
    let machine = &user.machine;
    let agent = machine.read_text("config/tokenkeep/agent.toml");
    machine.write("config/tokenkeep/agent.toml", format!("{agent}keyset = \"default\"\n"));
    machine.tokenkeep(&sign).ok().says("default");
    machine.write("config/tokenkeep/agent.toml", format!("{agent}keysets = 1\n"));
    machine.tokenkeep(&sign).fails_with(2).says("line 3").says("keysets");

    // Its PIN source is for a user: it is not tried on an authority's token.
    machine.write("config/tokenkeep/agent.toml", agent);
    machine.write(
        "authority.toml",
        "name = \"Example\"\nstate = \"none\"\n[token]\nlabel = \"authority\"\n\
         [listen]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n",
    );
    let serve = ["authority", "serve", "--config", "authority.toml"];
    machine.tokenkeep_without_terminal(&serve).fails_with(4).says("there is no terminal");
}

#[test]
fn an_interrupted_command_ends_with_130() {
    let user = TestUser::with_keyset();
    let mut terminal = Terminal::tokenkeep(&user.machine, &["sign", "--out", "signed.p7m"]);
    terminal.expect("Reading from the terminal").interrupt();
    let (code, screen) = terminal.finish();
    assert_eq!(code, 130, "{screen}");
    assert!(!user.machine.file("signed.p7m").exists());
}

#[test]
fn a_foreign_lock_directory_is_one_error_with_its_remedy() {
    let user = TestUser::with_keyset();
    user.machine.write("message.txt", "a message\n");
    let sign = ["sign", "--in", "message.txt", "--out", "signed.p7m", "--pin-source", "file:pin"];
    let directory = user.machine.file("runtime/tokenkeep");
    let others = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    let refused = || {
        for arguments in [&sign[..], &["keysets"], &["pin", "change"]] {
            let output = user.tokenkeep(arguments).fails_with(1).says("runtime/tokenkeep").says("chmod 700");
            assert_eq!(output.err().matches("runtime/tokenkeep").count(), 1, "said more than once: {output}");
        }
    };
    others(0o777);
    refused();
    others(0o700);
    fs::rename(&directory, user.machine.file("elsewhere")).unwrap();
    std::os::unix::fs::symlink(user.machine.file("elsewhere"), &directory).unwrap();
    refused();
    fs::remove_file(&directory).unwrap();
    user.tokenkeep(&sign).ok();
}

#[test]
fn deleting_without_a_terminal_names_the_confirming_option() {
    let user = TestUser::with_keyset();
    let delete = ["keyset", "delete", "default", "--pin-source", "file:pin"];
    let output = user.machine.tokenkeep_without_terminal(&delete).fails_with(2);
    output.says("not deleted").says("--yes").does_not_say("--pin-source");
    user.signs_with("default", "pin");
}

#[test]
fn tables_fit_into_80_columns() {
    let user = TestUser::enrolled();
    user.machine.make_token("a label of thirty-two characters", TestUser::PIN);
    let fits = |(code, screen): (i32, String), heading: &str| {
        assert_eq!(code, 0, "{screen}");
        let too_wide: Vec<_> = screen.lines().filter(|line| line.trim_end().chars().count() > 80).collect();
        assert!(too_wide.is_empty(), "{too_wide:#?}\n{screen}");
        assert!(screen.contains(heading), "{heading} is not in\n{screen}");
    };
    for (line, heading) in
        [("tokens", "LABEL "), ("keysets", "KEYSET "), ("pin status", "SO PIN"), ("keyset show", "SHA-256")]
    {
        let arguments: Vec<_> = line.split(' ').collect();
        fits(Terminal::tokenkeep(&user.machine, &arguments).finish(), heading);
        // In a pipe each row is one line.
        if line != "keyset show" {
            let rows = user.tokenkeep(&[&arguments[..], &["--json"]].concat()).ok().json();
            let piped = user.tokenkeep(&arguments).ok().out();
            assert_eq!(piped.lines().count(), rows.as_array().unwrap().len() + 1, "{piped}");
        }
    }
    fits(user.authority.admin_at_a_terminal(&["list"]), "ENROLLED UNTIL");
    user.tokenkeep(&["tokens"]).ok().says("a label of thirty-two characters").says("libsofthsm2.so");
    user.tokenkeep(&["keysets"]).ok().says(&user.machine.listed_token("default").serial);
    user.authority.admin(&["list"]).ok().says(&user.email);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let machine = Machine::new();
    for option in ["--version", "--help", "sign --help"] {
        machine.shell(&format!("tokenkeep {option} > /dev/full")).fails_with(1).says("cannot write to stdout");
        machine.shell(&format!("tokenkeep {option} > /dev/null")).ok();
    }
    let help = machine.tokenkeep(&["token", "erase", "--help"]).ok().out();
    // No line in the middle of a paragraph has a single word.
    for paragraph in help.split_once("Print version\n").unwrap().1.trim().split("\n\n") {
        let lines: Vec<_> = paragraph.lines().collect();
        assert!(lines.iter().rev().skip(1).all(|line| line.len() > 60), "{help}");
    }
}

#[test]
fn a_mistyped_address_is_refused_before_the_pin() {
    let user = TestUser::enrolled();
    let issue = ["admin", "issue", "nobody", "--name", "Nobody", "--pin-source", "file:no-such-file"];
    user.tokenkeep(&issue).fails_with(2).says("nobody").says("it has no @");
    user.authority.admin(&["list", "--after", "zzz"]).ok().says("There are no users after zzz.");
}

#[test]
fn a_spinner_runs_at_a_terminal_and_not_in_a_pipe() {
    let mut user = TestUser::new();
    let faulty = FaultyModule::wrap_module_of(&mut user.machine);
    // A slow token, as hardware is.
    faulty.set_faults("delay C_GenerateKeyPair 1000ms\n");
    user.issue("first.letter");
    let enroll = ["enroll", "--letter", "first.letter", "--new-token", "--new-pin-source", "file:pin"];
    let line = format!("TERM=xterm tokenkeep {}", enroll.join(" "));
    let mut terminal = Terminal::shell(&user.machine, &line);
    terminal.expect("generating keys on the token").expect("Enrolled");
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    // The spinner is removed from its line before the answer is printed there.
    let (before, _) = screen.split_once("Enrolled ").unwrap();
    let (_, after_spinner) = before.rsplit_once("confirming to the authority").unwrap();
    assert!(after_spinner.contains("\u{1b}[2K"), "the spinner is in the answer's line: {screen:?}");
    user.issue("second.letter");
    let enroll = ["enroll", "--letter", "second.letter", "--pin-source", "file:pin"];
    user.tokenkeep(&enroll).ok().does_not_say("generating keys");
}
