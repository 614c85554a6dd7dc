//! The answers of a person at the agent's prompt: a cancelled prompt cancels the request, no means
//! no, one prompt is open at a time and serves its own use, and a warning precedes a last try.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::agent::{Agent, wait_for};
use crate::support::machine::{Machine, TokenKind};
use crate::support::prompting::{
    assert_contains_all, enroll, export_offered_key, pin_state, questions, sign, sign_and_verify, sign_by_api,
    start_agent, write_askpass, write_script,
};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

#[test]
fn cancelling_costs_no_try() {
    let mut user = TestUser::with_keyset();
    let program = write_script(&user.machine, "askpass", "[ -e $HERE/cancel ] && exit 1; cat $HERE/pin");
    let agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    user.machine.write("cancel", "");
    sign(&user.machine, "git").fails_with(255).says("refused");
    let answer = sign_by_api(&user.machine, &agent).out();
    assert_contains_all(&answer, &["\"kind\":\"pin\"", "cannot sign", "\\\"default\\\"", "cancelled at the prompt"]);
    assert_eq!(pin_state(&user.machine), "ok");
    fs::remove_file(user.machine.file("cancel")).unwrap();
    sign_and_verify(&user.machine, "git");
}

#[test]
fn a_wrong_pin_is_asked_again_and_each_pin_is_one_try() {
    let mut user = TestUser::with_keyset();
    // Each prompt reads the next line of `typed`; the last line repeats.
    let body = "printf '%s\\n---\\n' \"$1\" >> $HERE/asked; head -n 1 $HERE/typed; \
                [ \"$(wc -l < $HERE/typed)\" = 1 ] || sed -i 1d $HERE/typed";
    let program = write_script(&user.machine, "askpass", body);
    let _agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    let wrong = |number: u32| format!("{}-{number}", TestUser::WRONG_PIN);
    let typed = |pins: &[&str]| {
        machine.write("typed", pins.join("\n") + "\n");
        let _ = fs::remove_file(machine.file("asked"));
    };
    typed(&[&wrong(1), &wrong(2), TestUser::PIN]);
    sign_and_verify(machine, "git");
    assert_eq!(questions(machine).matches("---").count(), 3, "{}", questions(machine));
    assert_eq!(questions(machine).matches("That PIN was wrong").count(), 2, "{}", questions(machine));
    // At most three prompts for one use.
    typed(&[&wrong(1), &wrong(2), &wrong(3), TestUser::PIN]);
    sign(machine, "git").fails_with(255).says("refused");
    assert_eq!(questions(machine).matches("---").count(), 3, "{}", questions(machine));
    typed(&[TestUser::PIN]);
    sign_and_verify(machine, "git");
    // Repeating the same PIN is not another try: a script may give it.
    typed(&[&wrong(1)]);
    sign(machine, "git").fails_with(255).says("refused");
    assert_eq!(questions(machine).matches("---").count(), 3, "{}", questions(machine));
    assert_eq!(
        questions(machine).matches("This PIN was just wrong; it was not tried again").count(),
        1,
        "{}",
        questions(machine)
    );
    assert_eq!(pin_state(machine), "count-low");
}

/// A graphical pinentry: it records its process with each command, and answers with the next line
/// of `typed`.
const PINENTRY: &str = "echo OK
while IFS= read -r line; do
  echo \"$$ $line\" >> $HERE/commands
  case \"$line\" in
    'GETINFO flavor') printf 'D qt\\nOK\\n' ;;
    GETPIN) printf 'D %s\\nOK\\n' \"$(head -n 1 $HERE/typed)\"; sed -i 1d $HERE/typed ;;
    *) echo OK ;;
  esac
done";

#[test]
fn one_pinentry_asks_again_and_ends_with_the_use() {
    let mut user = TestUser::enrolled();
    let program = write_script(&user.machine, "pinentry", PINENTRY);
    let _agent = start_agent(&mut user, &format!("pinentry:{program}"), &[("DISPLAY", ":99")]);
    let machine = &user.machine;
    let answer_dialog = |pins: &[&str], succeeds: bool| {
        machine.write("typed", pins.join("\n") + "\n");
        let _ = fs::remove_file(machine.file("commands"));
        let output = sign(machine, "git");
        if succeeds {
            output.ok()
        } else {
            output.fails_with(255)
        };
        let commands = fs::read_to_string(machine.file("commands")).unwrap();
        let processes: Vec<_> = commands.lines().filter_map(|line| line.strip_suffix(" GETPIN")).collect();
        assert_eq!(processes.len(), pins.len(), "{commands}");
        assert!(processes.iter().all(|process| *process == processes[0]), "{commands}");
        let repeated = pins.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!(commands.matches("SETERROR That PIN was wrong").count(), pins.len() - 1 - repeated, "{commands}");
        assert_eq!(commands.matches("SETERROR This PIN was just wrong").count(), repeated, "{commands}");
        let process = Path::new("/proc").join(processes[0]);
        wait_for("the end of the dialog", || (!process.exists()).then_some(()));
        processes[0].to_owned()
    };
    let wrong = |number: u32| format!("{}-{number}", TestUser::WRONG_PIN);
    let first = answer_dialog(&[&wrong(1), &wrong(2), TestUser::PIN], true);
    // Another use gets another dialog.
    assert_ne!(answer_dialog(&[&wrong(1), TestUser::PIN], true), first);
    answer_dialog(&[&wrong(1), &wrong(2), &wrong(3)], false);
    // The dialog reports a repeated PIN, which costs no try.
    answer_dialog(&[&wrong(1), &wrong(1), TestUser::PIN], true);
}

#[test]
fn an_unanswered_prompt_times_out_and_its_window_closes() {
    let mut user = TestUser::with_keyset();
    let program = write_script(&user.machine, "askpass", "sleep 654 & echo $$ $! > $HERE/processes; wait");
    Agent::configure(&user.machine, &format!("prompter = \"askpass:{program}\"\nprompter_timeout = \"3s\""));
    let agent = Agent::start(&user.machine, &["-v"]);
    export_offered_key(&mut user.machine, &agent);
    let answer = sign_by_api(&user.machine, &agent).out();
    assert_contains_all(&answer, &["\"kind\":\"pin\"", "cancelled at the prompt"]);
    for process in user.machine.read_text("processes").split_whitespace() {
        wait_for("its processes end", || {
            let line = fs::read(Path::new("/proc").join(process).join("cmdline")).unwrap_or_default();
            line.is_empty().then_some(())
        });
    }
    assert_eq!(pin_state(&user.machine), "ok");
}

#[test]
fn a_prompt_is_withdrawn_when_its_program_ends() {
    let mut user = TestUser::with_keyset();
    let body = "echo \"$1\" >> $HERE/asked; case \"$1\" in *'\"first\"'*) sleep 654 & echo $! > $HERE/sleeper; wait ;; \
                esac; cat $HERE/pin";
    let program = write_script(&user.machine, "askpass", body);
    let _agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    let mut command = machine.command("ssh-keygen");
    let input = fs::File::open(machine.write("message", "a message\n")).unwrap();
    command.args(["-Y", "sign", "-n", "first", "-f", "key.pub"]).stdin(input).stdout(Stdio::null());
    let mut first = command.stderr(Stdio::null()).spawn().unwrap();
    let sleeper = wait_for("the first question", || {
        fs::read_to_string(machine.file("sleeper")).ok().filter(|number| number.ends_with('\n'))
    });
    // As Ctrl-C does.
    first.kill().unwrap();
    first.wait().unwrap();
    let began = Instant::now();
    sign_and_verify(machine, "second");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let line = fs::read(Path::new("/proc").join(sleeper.trim()).join("cmdline")).unwrap_or_default();
    assert!(line.is_empty(), "the first dialog is still open");
    assert_eq!(pin_state(machine), "ok");
}

#[test]
fn two_requests_prompt_in_turn_each_for_its_own_use() {
    let mut user = TestUser::with_keyset();
    let body = "echo begin >> $HERE/asked; echo \"$1\" >> $HERE/asked; sleep 1; echo end >> $HERE/asked; cat $HERE/pin";
    let program = write_script(&user.machine, "askpass", body);
    let _agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    let namespaces = ["first", "second", "third"];
    std::thread::scope(|scope| {
        for namespace in namespaces {
            scope.spawn(move || sign_and_verify(machine, namespace));
        }
    });
    let asked = questions(machine);
    let order: Vec<_> = asked.lines().filter(|line| ["begin", "end"].contains(line)).collect();
    assert_eq!(order, ["begin", "end"].repeat(3), "no two at once:\n{asked}");
    for namespace in namespaces {
        assert_eq!(asked.matches(&format!("in the namespace {namespace:?}")).count(), 1, "{asked}");
    }
}

#[test]
fn at_level_medium_each_use_is_confirmed_and_no_refuses_it() {
    let mut user = TestUser::new();
    user.issue("first.letter");
    enroll(&user, "medium").ok();
    let program = write_askpass(&user.machine, "[ ! -e $HERE/no ]");
    let agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    sign_and_verify(machine, "git");
    sign_and_verify(machine, "git");
    let asked = questions(machine);
    assert_eq!((asked.matches("\n---").count(), asked.matches("confirm|").count()), (2, 1), "{asked}");
    assert_contains_all(&asked, &["Keyset: default (level medium)", "Allow this once?"]);
    machine.write("no", "");
    sign(machine, "git").fails_with(255).says("refused");
    let refused = sign_by_api(machine, &agent).out();
    assert_contains_all(&refused, &["\"kind\":\"pin\"", "cannot sign: declined at the prompt; nothing was done with"]);
    assert!(!refused.contains("cancelled"), "{refused}");
    // The agent prompts for a command's use, in the same words.
    machine.write("mail", "mail\n");
    let by_command = machine.tokenkeep(&["sign", "--in", "mail", "--out", "mail.p7m"]);
    by_command.fails_with(4).says("cannot sign: declined at the prompt; nothing was done with").does_not_say("cancel");
}

#[test]
fn a_person_may_decline_the_last_try_after_a_warning() {
    let mut user = TestUser::with_keyset_on(TokenKind::Kryoptic);
    let program = write_askpass(&user.machine, "[ -e $HERE/risk ]");
    for _ in 0..9 {
        assert!(!user.machine.pin_is_right("default", TestUser::WRONG_PIN));
    }
    assert_eq!(pin_state(&user.machine), "final-try");
    let answer_at_command = |machine: &Machine, answer: &str, output: &str| {
        machine.write("mail", "mail\n");
        let mut terminal = Terminal::tokenkeep(machine, &["sign", "--in", "mail", "--out", "mail.p7m"]);
        let _ = terminal.expect("the next wrong PIN locks it. Continue?").type_line(answer);
        let (code, shown) = terminal.finish();
        assert!(code == 4 && shown.contains(output), "{code} {shown}");
    };
    answer_at_command(&user.machine, "n", "declined at the prompt; nothing was done with");
    let _agent = start_agent(&mut user, &format!("askpass:{program}"), &[]);
    let machine = &user.machine;
    answer_at_command(machine, "n", "declined at the prompt; nothing was done with");
    sign(machine, "git").fails_with(255).says("refused");
    assert_contains_all(&questions(machine), &["confirm|", "ssh-keygen", "The next wrong PIN locks this token."]);
    assert_eq!(questions(machine).matches("---").count(), 1, "the PIN is not asked for after a no");
    // The agent also prompts for a command without a terminal; a PIN source is not a person.
    let command = ["sign", "--in", "mail", "--out", "mail.p7m", "--pin-source", "file:pin"];
    machine.tokenkeep_without_terminal(&command).fails_with(4).says("no user can be warned");
    machine.tokenkeep_without_terminal(&command[..5]).fails_with(4).says("declined at the prompt");
    assert_eq!(questions(machine).matches("confirm|").count(), 2, "{}", questions(machine));
    assert_eq!(questions(machine).matches("---").count(), 2, "{}", questions(machine));
    machine.write("risk", "");
    sign_and_verify(machine, "git");
    assert_contains_all(&questions(machine), &["One try is left: a wrong PIN now locks the token.\nPIN"]);
}
