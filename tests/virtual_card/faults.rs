//! Faults of the card or of its connection, planned by the test.

use std::time::Duration;

use super::apdu::Status;

/// The command at which a fault happens. Commands count from 1, from the planning on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The n-th command; each part of a chain and each GET RESPONSE counts.
    Command(usize),
    /// The n-th command with this instruction; a chain counts once, at its last part.
    Instruction(u8, usize),
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The card is pulled before it runs the command.
    PullBefore,
    /// The card is pulled after it has run the command; the response is lost.
    PullAfter,
    /// The card does not run the command, and responds with this status, such as 6F00 or 6581.
    Status(Status),
    /// The response comes late.
    Delay(Duration),
}

/// The planned faults.
#[derive(Debug, Default)]
pub struct Faults {
    planned: Vec<(Trigger, Effect, usize)>,
}

impl Faults {
    /// Plans a fault, which happens once.
    pub fn plan(&mut self, trigger: Trigger, effect: Effect) {
        self.planned.push((trigger, effect, 0));
    }

    /// Forgets the faults that have not happened.
    pub fn clear(&mut self) {
        self.planned.clear();
    }

    /// Whether all planned faults have happened.
    pub fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    /// Counts a command, and returns the effect of the fault that is due at it.
    pub(super) fn count(&mut self, instruction: u8, is_chained: bool) -> Option<Effect> {
        let mut due = None;
        self.planned.retain_mut(|(trigger, effect, seen)| {
            let (counts, at) = match *trigger {
                Trigger::Command(at) => (true, at),
                Trigger::Instruction(wanted, at) => (instruction == wanted && !is_chained, at),
            };
            *seen += usize::from(counts);
            let is_due = counts && *seen >= at && due.is_none();
            if is_due {
                due = Some(*effect);
            }
            !is_due
        });
        due
    }
}
