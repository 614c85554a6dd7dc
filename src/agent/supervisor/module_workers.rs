//! The module workers: started beside the main worker, and restarted when they exit.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::prompt_queue::PromptQueue;
use super::running_worker::{RunningWorker, SupervisorEvent};
use super::{AgentProcessError, MAX_FAILURES, STABLE_AFTER, restart_delay};

/// The configuration of one module worker.
#[derive(Clone, Debug)]
pub struct ModuleWorkerConfig {
    /// the PKCS#11 module
    pub module: PathBuf,
    /// arguments, without the program
    pub arguments: Vec<OsString>,
}

/// All module workers of one main worker.
pub(super) struct ModuleWorkers<'a> {
    all: Vec<ModuleWorkerSlot<'a>>,
    questions: &'a PromptQueue,
    events: &'a Sender<SupervisorEvent>,
}

struct ModuleWorkerSlot<'a> {
    setup: &'a ModuleWorkerConfig,
    /// Both ends of the fd channel: the main worker's and the module worker's. The supervisor keeps
    /// them open, so that connections sent while no module worker runs wait for the next one.
    /// `None` when it is not restarted any more.
    fd_channel: Option<(UnixStream, UnixStream)>,
    state: SlotState,
    failures: u32,
}

enum SlotState {
    Running(RunningWorker, Instant),
    Due(Instant),
    GivenUp,
}

impl<'a> ModuleWorkers<'a> {
    /// Starts all module workers.
    pub(super) fn begin(
        setups: &'a [ModuleWorkerConfig],
        questions: &'a PromptQueue,
        events: &'a Sender<SupervisorEvent>,
    ) -> Result<Self, AgentProcessError> {
        let now = Instant::now();
        let one = |setup| {
            let fd_channel = UnixStream::pair().map_err(AgentProcessError::system("create a socket pair"))?;
            Ok(ModuleWorkerSlot { setup, fd_channel: Some(fd_channel), state: SlotState::Due(now), failures: 0 })
        };
        let all = setups.iter().map(one).collect::<Result<_, AgentProcessError>>()?;
        let mut module_workers = Self { all, questions, events };
        module_workers.start_due();
        Ok(module_workers)
    }

    /// The main worker's ends of the fd channels, in order.
    pub(super) fn fd_channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().filter_map(|one| one.fd_channel.as_ref().map(|(worker, _)| worker.as_fd()))
    }

    /// The time at which the next module worker is due to start.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.all.iter().filter_map(|one| if let SlotState::Due(when) = one.state { Some(when) } else { None }).min()
    }

    /// Starts the module workers that are due.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        for one in &mut self.all {
            let (SlotState::Due(when), Some((_, fd_channel))) = (&one.state, &one.fd_channel) else { continue };
            if *when > now {
                continue;
            }
            let started =
                RunningWorker::start(&one.setup.arguments, &[fd_channel.as_fd()], self.questions, self.events.clone());
            match started {
                Ok(worker) => one.state = SlotState::Running(worker, now),
                Err(error) => {
                    tracing::warn!(%error, module = %one.setup.module.display(), "cannot start a module worker");
                    one.failed();
                }
            }
        }
    }

    /// Handles the exit of a module worker and schedules its restart, unless it failed too often.
    pub(super) fn handle_exit(&mut self, worker: u32, status: ExitStatus) {
        let is_it = |one: &&mut ModuleWorkerSlot<'_>| match &one.state {
            SlotState::Running(running, _) => running.id() == worker,
            _ => false,
        };
        let Some(one) = self.all.iter_mut().find(is_it) else { return };
        if matches!(&one.state, SlotState::Running(_, since) if since.elapsed() > STABLE_AFTER) {
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
            .filter_map(|one| if let SlotState::Running(worker, _) = &one.state { Some(worker) } else { None })
            .collect()
    }

    /// The module workers that are running, and the main worker.
    pub(super) fn with_main_worker<'w>(&'w self, worker: &'w RunningWorker) -> Vec<&'w RunningWorker> {
        let mut all = self.running();
        all.push(worker);
        all
    }
}

impl ModuleWorkerSlot<'_> {
    fn failed(&mut self) {
        self.failures += 1;
        if self.failures < MAX_FAILURES {
            self.state = SlotState::Due(Instant::now() + restart_delay(self.failures));
            return;
        }
        tracing::error!(
            "the worker of the module {} exited {} times in a row and is not restarted; the agent continues \
             without it; use -v for details and `tokenkeep doctor` to check the module",
            self.setup.module.display(),
            self.failures
        );
        self.state = SlotState::GivenUp;
        // The end of the channel tells waiting threads of the main worker.
        self.fd_channel = None;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::agent::fd_passing;
    use crate::agent::supervisor::PromptConfig;
    use crate::prompter::{PromptEnvironment, PromptMethod};

    #[test]
    fn module_workers_restart_until_they_keep_failing() {
        let person = PromptConfig { method: PromptMethod::Auto, environment: PromptEnvironment::new([]) };
        let questions = PromptQueue::start_queue(person).unwrap();
        let (sender, events) = channel();
        // Runs this test program, which lists no tests and exits.
        let arguments = ["--list", "--format=terse", "no such test"].map(OsString::from).to_vec();
        let setups = [ModuleWorkerConfig { module: "/m.so".into(), arguments }];
        let mut module_workers = ModuleWorkers::begin(&setups, &questions, &sender).unwrap();
        let worker: OwnedFd = module_workers.fd_channels().next().unwrap().try_clone_to_owned().unwrap();
        let worker = UnixStream::from(worker);
        for failures in 1..=MAX_FAILURES {
            let Ok(SupervisorEvent::Exited { worker: id, status }) = events.recv_timeout(Duration::from_secs(20))
            else {
                panic!("it did not end");
            };
            // A connection sent meanwhile waits for the next module worker.
            let (_, connection) = UnixStream::pair().unwrap();
            fd_passing::send_fds(&worker, &[connection.as_fd()]).unwrap();
            module_workers.handle_exit(id + 1, status);
            assert_eq!(module_workers.running().len(), 1, "another one ended");
            module_workers.handle_exit(id, status);
            let [one] = module_workers.all.as_mut_slice() else { panic!("one module worker") };
            assert_eq!(one.failures, failures);
            match &mut one.state {
                SlotState::Due(when) => *when = Instant::now(),
                other => assert!(failures == MAX_FAILURES && matches!(other, SlotState::GivenUp), "{failures}"),
            }
            module_workers.start_due();
        }
        assert!(module_workers.next_start().is_none() && module_workers.running().is_empty());
        let (_, connection) = UnixStream::pair().unwrap();
        assert!(fd_passing::send_fds(&worker, &[connection.as_fd()]).is_err(), "the main worker waits in vain");
    }
}
