//! Typing its serial number erases a soft token whose PIN is lost. An authority's token, a token in
//! use, and a token that is not a file cannot be erased.

use crate::support::agent::Agent;
use crate::support::authority::Authority;
use crate::support::machine::{Machine, TokenKind};
use crate::support::shared_authority::TestUser;
use crate::support::terminal::Terminal;

#[test]
fn a_soft_token_is_erased_after_its_serial_number_is_typed() {
    let user = TestUser::with_keyset();
    let machine = &user.machine;
    machine.make_token("other", TestUser::PIN);
    let serial = machine.listed_token("default").serial;
    let is_there = || machine.listed_tokens().iter().any(|token| token.serial == serial);

    let erase = ["token", "erase", "default"];
    machine.tokenkeep_without_terminal(&erase).fails_with(2).says("not erased").says("--yes-erase");
    machine.tokenkeep(&["token", "erase", "default", "--yes-erase", "0123"]).fails_with(5).says("not erased");
    let mut terminal = Terminal::tokenkeep(machine, &erase);
    terminal.expect("The keys of default").expect("serial number").type_line("y");
    assert_eq!(terminal.finish().0, 5);
    let mut terminal = Terminal::tokenkeep(machine, &erase);
    terminal.expect("serial number").interrupt();
    let (code, screen) = terminal.finish();
    assert!(code == 130 && screen.contains("not erased: interrupted"), "{screen}");
    let agent = Agent::start(machine, &[]);
    machine.tokenkeep(&["keysets"]).ok().says("default");
    machine.tokenkeep(&["token", "erase", "default", "--yes-erase", &serial]).fails_with(1).says("agent");
    assert!(agent.stop().success());
    assert!(is_there(), "the token was erased");
    user.signs_with("default", "pin");

    machine.tokenkeep(&["keyset", "forget", "default"]).ok();
    let mut terminal = Terminal::tokenkeep(machine, &erase);
    terminal.expect("serial number").type_line(&serial);
    let (code, screen) = terminal.finish();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("Erased"), "{screen}");
    let left: Vec<_> = machine.listed_tokens().into_iter().map(|token| token.label).collect();
    assert_eq!(left, ["other"], "pkcs11-tool sees the others alone");
    machine.tokenkeep(&["keysets"]).ok().says("No keyset");
}

#[test]
fn tokens_of_authorities_and_tokens_without_files_stay() {
    let machine = Machine::new();
    let _authority = Authority::init(&machine);
    let serial = machine.listed_tokens()[0].serial.clone();
    machine.tokenkeep(&["token", "erase", &serial, "--yes-erase", &serial]).fails_with(5).says("cannot use token \"");
    assert_eq!(machine.listed_tokens()[0].serial, serial);

    let machine = Machine::with(TokenKind::Kryoptic);
    let serial = machine.make_token("card", TestUser::PIN).serial;
    let refused = machine.tokenkeep(&["token", "erase", "card", "--yes-erase", &serial]).fails_with(5);
    refused.says("only SoftHSM tokens").says("SO PIN");
    assert_eq!(machine.listed_token("card").serial, serial);
}
