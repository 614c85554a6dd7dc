//! The modules' own workers: started beside the worker, and each again when it has ended by itself.

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

/// What a module's own worker is started with.
#[derive(Clone, Debug)]
pub struct AnnexSetup {
    /// the module
    pub module: PathBuf,
    /// the command line, without the program
    pub arguments: Vec<OsString>,
}

/// They all, as long as one worker lives.
pub(super) struct Annexes<'a> {
    all: Vec<One<'a>>,
    questions: &'a Questions,
    news: &'a Sender<News>,
}

struct One<'a> {
    setup: &'a AnnexSetup,
    /// The worker's end of the corridor, and the annex's. Both are kept here, too, so that what the worker sends while there
    /// is no annex waits for the next one. None when it is given up.
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
    /// Starts them.
    pub(super) fn begin(
        setups: &'a [AnnexSetup],
        questions: &'a Questions,
        news: &'a Sender<News>,
    ) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let one = |setup| {
            let corridor = UnixStream::pair().map_err(BrokerError::system("make a pair of sockets"))?;
            Ok(One { setup, corridor: Some(corridor), is: Is::Due(now), failures: 0 })
        };
        let all = setups.iter().map(one).collect::<Result<_, BrokerError>>()?;
        let mut annexes = Self { all, questions, news };
        annexes.start_those_due();
        Ok(annexes)
    }

    /// The worker's ends of the corridors, in order.
    pub(super) fn corridors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().filter_map(|one| one.corridor.as_ref().map(|(worker, _)| worker.as_fd()))
    }

    /// When the next one is to be started.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.all.iter().filter_map(|one| if let Is::Due(when) = one.is { Some(when) } else { None }).min()
    }

    /// Starts those whose time has come.
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
                    tracing::warn!(%error, module = %one.setup.module.display(), "cannot start a module's worker");
                    one.failed();
                }
            }
        }
    }

    /// One has ended; it is started again, unless it does that always.
    pub(super) fn note_end(&mut self, worker: u32, status: ExitStatus) {
        let is_it = |one: &&mut One<'_>| matches!(&one.is, Is::Running(running, _) if running.id() == worker);
        let Some(one) = self.all.iter_mut().find(is_it) else { return };
        if matches!(&one.is, Is::Running(_, since) if since.elapsed() > SETTLED) {
            one.failures = 0;
        }
        tracing::warn!(
            "the worker of the module {} ended ({status}): its log-ins are over; starting another one",
            one.setup.module.display()
        );
        one.failed();
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<&RunningWorker> {
        self.all
            .iter()
            .filter_map(|one| if let Is::Running(worker, _) = &one.is { Some(worker) } else { None })
            .collect()
    }

    /// Those that run, and this one.
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
            "the worker of the module {} ended {} times in a row and is given up; the agent goes on without it; -v tells \
             more, and `tokenkeep doctor` looks at the module",
            self.setup.module.display(),
            self.failures
        );
        self.is = Is::GivenUp;
        // Whoever waits there for it is told by the end of the corridor.
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
        // This test program, which lists nothing and ends.
        let arguments = ["--list", "--format=terse", "no such test"].map(OsString::from).to_vec();
        let setups = [AnnexSetup { module: "/m.so".into(), arguments }];
        let mut annexes = Annexes::begin(&setups, &questions, &sender).unwrap();
        let worker: OwnedFd = annexes.corridors().next().unwrap().try_clone_to_owned().unwrap();
        let worker = UnixStream::from(worker);
        for failures in 1..=TIRES {
            let Ok(News::Gone { worker: id, status }) = news.recv_timeout(Duration::from_secs(20)) else {
                panic!("it did not end");
            };
            // What the worker sends meanwhile waits for the next one.
            let (_, connection) = UnixStream::pair().unwrap();
            handed::give(&worker, &[connection.as_fd()]).unwrap();
            annexes.note_end(id + 1, status);
            assert_eq!(annexes.running().len(), 1, "another one ended");
            annexes.note_end(id, status);
            let [one] = annexes.all.as_mut_slice() else { panic!("one annex") };
            assert_eq!(one.failures, failures);
            match &mut one.is {
                Is::Due(when) => *when = Instant::now(),
                other => assert!(failures == TIRES && matches!(other, Is::GivenUp), "{failures}"),
            }
            annexes.start_those_due();
        }
        assert!(annexes.next_start().is_none() && annexes.running().is_empty());
        let (_, connection) = UnixStream::pair().unwrap();
        assert!(handed::give(&worker, &[connection.as_fd()]).is_err(), "the worker waits for nobody");
    }
}
