//! Planned faults reach the programs that use the card.

use std::time::{Duration, Instant};

use super::CardFixture;
use crate::support::virtual_card::{Card, Effect, Profile, Status, Trigger, instruction};

const SIGN: [&str; 10] = ["-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", "9a", "-i", "9a.pem"];

#[test]
fn a_pulled_card_fails_a_program_and_works_once_it_is_back() {
    let Some(mut fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    fixture.make_key("9a", "ECCP256", &[]);
    for (effect, uses) in [(Effect::PullBefore, 0), (Effect::PullAfter, 0)] {
        fixture.card().clear_transcript();
        fixture.card().faults().plan(Trigger::Instruction(instruction::GENERAL_AUTHENTICATE, 1), effect);
        assert_ne!(fixture.piv_tool(&SIGN).code(), 0);
        assert!(fixture.card().faults().is_empty());
        assert_eq!(fixture.key_uses(), uses);
        assert_ne!(fixture.piv_tool(&["-a", "version"]).code(), 0, "the card is still in the reader");
        fixture.reader.remove();
        let card = fixture.card.clone();
        fixture.reader.insert(&card);
        fixture.wait_for_card();
        fixture.piv_tool(&SIGN).ok();
    }
}

#[test]
fn faults_of_the_card_reach_the_program() {
    let Some(fixture) = CardFixture::with(Card::new(Profile::YubiKey543), &[]) else { return };
    fixture.make_key("9a", "ECCP256", &[]);
    for status in [Status(0x6f00), Status(0x6581)] {
        fixture.card().clear_transcript();
        let trigger = Trigger::Instruction(instruction::GENERAL_AUTHENTICATE, 1);
        fixture.card().faults().plan(trigger, Effect::Status(status));
        assert_ne!(fixture.piv_tool(&SIGN).code(), 0);
        assert_eq!(fixture.key_uses(), 0);
        fixture.piv_tool(&SIGN).ok();
    }
    let delay = Duration::from_millis(300);
    fixture.card().faults().plan(Trigger::Command(2), Effect::Delay(delay));
    let start = Instant::now();
    fixture.piv_tool(&SIGN).ok();
    assert!(start.elapsed() > delay);
}
