//! The module workers: started beside the main worker, and restarted when they exit.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::questions::Questions;
use super::running_worker::{News, RunningWorker};
use super::{BrokerError, SETTLED, TIRES, pause_after};

/// The configuration of one module worker.
#[derive(Clone, Debug)]
pub struct AnnexSetup {
    /// the PKCS#11 module
    pub module: PathBuf,
    /// arguments, without the program
    pub arguments: Vec<OsString>,
}

/// All module workers of one main worker.
pub(super) struct Annexes<'a> {
    all: Vec<One<'a>>,
    questions: &'a Questions,
    news: &'a Sender<News>,
}

struct One<'a> {
    setup: &'a AnnexSetup,
    /// Both ends of the fd channel: the main worker's and the module worker's. The supervisor keeps
    /// them open, so that connections sent while no module worker runs wait for the next one.
    /// `None` when it is not restarted any more.
    corridor: Option<(UnixStream, UnixStream)>,
    is: Is,
    failures: u32,
}

enum Is {
    Running(RunningWorker, Instant),
    Due(Instant),
    GivenUp,
}

impl<'a> Annexes<'a> {
    /// Starts all module workers.
    pub(super) fn begin(
        setups: &'a [AnnexSetup],
        questions: &'a Questions,
        news: &'a Sender<News>,
    ) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let one = |setup| {
            let corridor = UnixStream::pair().map_err(BrokerError::system("create a socket pair"))?;
            Ok(One { setup, corridor: Some(corridor), is: Is::Due(now), failures: 0 })
        };
        let all = setups.iter().map(one).collect::<Result<_, BrokerError>>()?;
        let mut annexes = Self { all, questions, news };
        annexes.start_those_due();
        Ok(annexes)
    }

    /// The main worker's ends of the fd channels, in order.
    pub(super) fn corridors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().filter_map(|one| one.corridor.as_ref().map(|(worker, _)| worker.as_fd()))
    }

    /// The time at which the next module worker is due to start.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.all.iter().filter_map(|one| if let Is::Due(when) = one.is { Some(when) } else { None }).min()
    }

    /// Starts the module workers that are due.
    pub(super) fn start_those_due(&mut self) {
        let now = Instant::now();
        for one in &mut self.all {
            let (Is::Due(when), Some((_, corridor))) = (&one.is, &one.corridor) else { continue };
            if *when > now {
                continue;
            }
            let started =
                RunningWorker::start(&one.setup.arguments, &[corridor.as_fd()], self.questions, self.news.clone());
            match started {
                Ok(worker) => one.is = Is::Running(worker, now),
                Err(error) => {
                    tracing::warn!(%error, module = %one.setup.module.display(), "cannot start a module worker");
                    one.failed();
                }
            }
        }
    }

    /// Handles the exit of a module worker and schedules its restart, unless it failed too often.
    pub(super) fn note_end(&mut self, worker: u32, status: ExitStatus) {
        let is_it = |one: &&mut One<'_>| matches!(&one.is, Is::Running(running, _) if running.id() == worker);
        let Some(one) = self.all.iter_mut().find(is_it) else { return };
        if matches!(&one.is, Is::Running(_, since) if since.elapsed() > SETTLED) {
            one.failures = 0;
        }
        tracing::warn!(
            "the worker of the module {} exited ({status}): its sessions have ended; restarting it",
            one.setup.module.display()
        );
        one.failed();
    }

    /// The module workers that are running.
    pub(super) fn running(&self) -> Vec<&RunningWorker> {
        self.all
            .iter()
            .filter_map(|one| if let Is::Running(worker, _) = &one.is { Some(worker) } else { None })
            .collect()
    }

    /// The module workers that are running, and the main worker.
    pub(super) fn and<'w>(&'w self, worker: &'w RunningWorker) -> Vec<&'w RunningWorker> {
        let mut all = self.running();
        all.push(worker);
        all
    }
}

impl One<'_> {
    fn failed(&mut self) {
        self.failures += 1;
        if self.failures < TIRES {
            self.is = Is::Due(Instant::now() + pause_after(self.failures));
            return;
        }
        tracing::error!(
            "the worker of the module {} exited {} times in a row and is not restarted; the agent continues \
             without it; use -v for details and `tokenkeep doctor` to check the module",
            self.setup.module.display(),
            self.failures
        );
        self.is = Is::GivenUp;
        // The end of the channel tells waiting threads of the main worker.
        self.corridor = None;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::agent::broker::Prompting;
    use crate::agent::handed;
    use crate::prompter::{Environment, Way};

    #[test]
    fn one_that_ends_is_started_again_and_one_that_always_does_is_given_up() {
        let person = Prompting { way: Way::Auto, environment: Environment::new([]) };
        let questions = Questions::answered_by(person).unwrap();
        let (sender, news) = channel();
        // Runs this test program, which lists no tests and exits.
        let arguments = ["--list", "--format=terse", "no such test"].map(OsString::from).to_vec();
        let setups = [AnnexSetup { module: "/m.so".into(), arguments }];
        let mut annexes = Annexes::begin(&setups, &questions, &sender).unwrap();
        let worker: OwnedFd = annexes.corridors().next().unwrap().try_clone_to_owned().unwrap();
        let worker = UnixStream::from(worker);
        for failures in 1..=TIRES {
            let Ok(News::Gone { worker: id, status }) = news.recv_timeout(Duration::from_secs(20)) else {
                panic!("it did not end");
            };
            // A connection sent meanwhile waits for the next module worker.
            let (_, connection) = UnixStream::pair().unwrap();
            handed::give(&worker, &[connection.as_fd()]).unwrap();
            annexes.note_end(id + 1, status);
            assert_eq!(annexes.running().len(), 1, "another one ended");
            annexes.note_end(id, status);
            let [one] = annexes.all.as_mut_slice() else { panic!("one module worker") };
            assert_eq!(one.failures, failures);
            match &mut one.is {
                Is::Due(when) => *when = Instant::now(),
                other => assert!(failures == TIRES && matches!(other, Is::GivenUp), "{failures}"),
            }
            annexes.start_those_due();
        }
        assert!(annexes.next_start().is_none() && annexes.running().is_empty());
        let (_, connection) = UnixStream::pair().unwrap();
        assert!(handed::give(&worker, &[connection.as_fd()]).is_err(), "the main worker waits in vain");
    }
}
