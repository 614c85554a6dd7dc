//! Answers the worker's questions: those about programs at once, those to the person one at a time,
//! in order. A withdrawn question disappears from the screen or is never asked.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::{broken_pipe, programs, spawn};
use crate::agent::Question;
use crate::agent::link::{SupervisorMessage, SupervisorReply, WorkerCall};
use crate::agent::process_error::AgentProcessError;
use crate::agent::prompt_answer::PromptAnswer;
use crate::agent::prompt_text::prompt_request;
use crate::ipc;
use crate::keyset::{KeysetRef, NoPin, Prompt, PromptReply};
use crate::prompter::{Dialog, PromptEnvironment, PromptMethod, PrompterError};
use crate::token::Pin;
use crate::token::check::{CheckOutcome, CheckProcess, CheckRunner};

/// The prompt method and its environment.
#[derive(Clone, Debug)]
pub struct PromptConfig {
    /// the prompt method (`prompter` in agent.toml)
    pub method: PromptMethod,
    /// the variables and terminals that the method needs
    pub environment: PromptEnvironment,
}

/// Takes questions and sends the answers. Clones share one queue.
#[derive(Clone)]
pub(super) struct PromptQueue {
    person: Arc<PromptConfig>,
    queue: Sender<QueuedQuestion>,
    link_state: Arc<LinkState>,
    /// The modules that a check process may be started for, so that no worker can choose what this
    /// process starts. Each has its configured path and the file it led to at startup: after an
    /// upgrade the path leads elsewhere, but each worker has the files of its own start.
    modules: Arc<[(PathBuf, Option<PathBuf>)]>,
    /// The file that lists the keysets hidden on this machine.
    hidden: Option<Arc<Path>>,
}

/// The state of the questions from one link.
#[derive(Default)]
struct LinkState {
    /// Answers come from several threads; this serializes the frames of a link.
    writing: Mutex<()>,
    /// By question number: dropping the pipe withdraws the question, waiting or asked.
    open: Mutex<HashMap<u64, PipeWriter>>,
    /// By use: dialogs that have given a PIN and ask again if it was wrong.
    dialogs: Mutex<HashMap<u64, Dialog>>,
}

/// Maximum number of dialogs of one link that wait to learn whether their PIN was right. Further
/// dialogs are closed.
const MAX_DIALOGS: usize = 16;

impl LinkState {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, PipeWriter>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dialogs(&self) -> MutexGuard<'_, HashMap<u64, Dialog>> {
        self.dialogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes an answered question. Keeps its dialog unless the question was withdrawn, because
    /// then the use has ended.
    fn close(&self, number: u64, kept: KeptDialog) {
        let surplus = {
            let mut open = self.open();
            let was_open = open.remove(&number).is_some();
            kept.and_then(|(use_number, dialog)| {
                let mut dialogs = self.dialogs();
                if !was_open || dialogs.len() >= MAX_DIALOGS {
                    return Some(dialog);
                }
                dialogs.insert(use_number, dialog)
            })
        };
        // Ending a dialog takes a moment; do it without the locks.
        end(surplus.into_iter().collect());
    }
}

struct QueuedQuestion {
    number: u64,
    question: Question,
    link: UnixStream,
    link_state: Arc<LinkState>,
    /// Readable when the question is withdrawn.
    withdrawn: PipeReader,
}

impl PromptQueue {
    /// Starts the thread that asks the person.
    pub(super) fn start_queue(person: PromptConfig) -> Result<Self, AgentProcessError> {
        let (queue, asked): (_, Receiver<QueuedQuestion>) = channel();
        let person = Arc::new(person);
        let questions = Self {
            person: Arc::clone(&person),
            queue,
            link_state: Arc::default(),
            modules: Arc::from([]),
            hidden: None,
        };
        spawn("prompter", move || {
            for QueuedQuestion { number, question, link, link_state, withdrawn } in asked {
                // Skip questions of workers that exited and of clients that disconnected.
                if has_ended(&link) || has_ended(&withdrawn) {
                    continue;
                }
                let (reply, kept) = ask(&person, &question, withdrawn, &link_state);
                link_state.close(number, kept);
                let (answer, pin) = PromptAnswer::of(reply);
                send_answer(&link_state, &link, number, SupervisorReply::Prompt(answer), &pin);
            }
        })?;
        Ok(questions)
    }

    /// Allows check processes for these modules and for no others.
    pub(super) fn with_modules(mut self, modules: &[PathBuf]) -> Self {
        self.modules = modules.iter().map(|module| (module.clone(), module.canonicalize().ok())).collect();
        self
    }

    /// Sets the file that lists the hidden keysets.
    pub(super) fn with_hidden_list(mut self, file: Option<PathBuf>) -> Self {
        self.hidden = file.map(Arc::from);
        self
    }

    /// For another link: it shares the queue, but an unread answer blocks no other link.
    pub(super) fn for_new_link(&self) -> Self {
        Self {
            person: self.person.clone(),
            queue: self.queue.clone(),
            link_state: Arc::default(),
            modules: self.modules.clone(),
            hidden: self.hidden.clone(),
        }
    }

    /// Accepts a call from this link; the answer goes back over it. `secret` is the PIN for a
    /// check.
    pub(super) fn take(&self, number: u64, call: WorkerCall, secret: Zeroizing<Vec<u8>>, link: &UnixStream) {
        let taken = match call {
            WorkerCall::Ask(question) => self.enqueue(number, *question, link),
            // Reading another process's files can hang as long as that process does.
            WorkerCall::Program(pid) => self
                .answer_in_thread("program", number, link, move || SupervisorReply::Program(programs::describe(pid))),
            // A pinentry that is asked for its flavor can hang, too.
            WorkerCall::Prompter => {
                let person = Arc::clone(&self.person);
                self.answer_in_thread("prompt-method", number, link, move || {
                    SupervisorReply::Prompter(prompter(&person))
                })
            }
            WorkerCall::HiddenKeysets => {
                let file = self.hidden.clone();
                self.answer_in_thread("hidden", number, link, move || hidden(file.as_deref()))
            }
            WorkerCall::Check(request) => {
                let is_known = self.is_known(&request.module);
                self.answer_in_thread("check", number, link, move || {
                    let pin = std::str::from_utf8(&secret).ok().and_then(|pin| Pin::new(pin.to_owned()).ok());
                    SupervisorReply::Checked(if is_known {
                        CheckProcess.run(&request, pin.as_ref())
                    } else {
                        CheckOutcome::Unknown("not one of the agent's modules".to_owned())
                    })
                })
            }
            // These are notices.
            WorkerCall::Ready { .. } | WorkerCall::DialogEnded { .. } => Err(broken_pipe("answer a notice")),
        };
        if let Err(error) = taken {
            self.withdraw(number);
            send_answer(&self.link_state, link, number, SupervisorReply::Unavailable(error.to_string()), b"");
        }
    }

    fn enqueue(&self, number: u64, question: Question, link: &UnixStream) -> Result<(), AgentProcessError> {
        let link = link.try_clone().map_err(AgentProcessError::system("copy a descriptor"))?;
        let (withdrawn, open) = io::pipe().map_err(AgentProcessError::system("create a pipe"))?;
        let link_state = Arc::clone(&self.link_state);
        link_state.open().insert(number, open);
        self.queue
            .send(QueuedQuestion { number, question, link, link_state, withdrawn })
            .map_err(|_| broken_pipe("ask the person"))
    }

    fn answer_in_thread(
        &self,
        name: &'static str,
        number: u64,
        link: &UnixStream,
        answer: impl FnOnce() -> SupervisorReply + Send + 'static,
    ) -> Result<(), AgentProcessError> {
        let link = link.try_clone().map_err(AgentProcessError::system("copy a descriptor"))?;
        let link_state = Arc::clone(&self.link_state);
        spawn(name, move || send_answer(&link_state, &link, number, answer(), b""))
    }

    /// Returns true if the file is one of the agent's modules, now or when the agent started.
    fn is_known(&self, file: &Path) -> bool {
        let mut modules = self.modules.iter();
        modules.any(|(named, then)| then.as_deref() == Some(file) || named.canonicalize().is_ok_and(|now| now == file))
    }

    /// Withdraws a question; its dialog closes.
    pub(super) fn withdraw(&self, number: u64) {
        self.link_state.open().remove(&number);
    }

    /// Withdraws all questions of this link, because it has closed.
    pub(super) fn withdraw_all(&self) {
        self.link_state.open().clear();
        let dialogs: Vec<_> = self.link_state.dialogs().drain().map(|(_, dialog)| dialog).collect();
        end(dialogs);
    }

    /// Ends the dialog of a use that has ended.
    pub(super) fn end_dialog(&self, dialog: u64) {
        let ended = self.link_state.dialogs().remove(&dialog);
        end(ended.into_iter().collect());
    }
}

/// Ends prompt programs. They get a moment to exit, in a thread of its own.
fn end(dialogs: Vec<Dialog>) {
    if !dialogs.is_empty()
        && let Err(error) = spawn("dialog", move || drop(dialogs))
    {
        tracing::debug!(%error, "cannot start a thread to end dialogs; they were ended at once");
    }
}

/// Returns true if the other end has closed.
fn has_ended(end: &impl AsFd) -> bool {
    let mut descriptors = [PollFd::new(end, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut descriptors, Some(&now)).is_ok_and(|count| count > 0)
}

fn send_answer(link_state: &LinkState, link: &UnixStream, number: u64, reply: SupervisorReply, secret: &[u8]) {
    let _one_at_a_time = link_state.writing.lock().unwrap_or_else(PoisonError::into_inner);
    // The worker that asked may have exited.
    if let Err(error) = ipc::send(link, &SupervisorMessage::Reply { number, reply }, secret, &[]) {
        tracing::debug!(%error, "cannot send an answer to the worker");
    }
}

/// By use, the dialog that can ask again if the PIN is wrong.
type KeptDialog = Option<(u64, Dialog)>;

/// Chooses the prompt method for each question, because a terminal or display may come or go. Only
/// a dialog that has asked for the same use is reused, if it still can be.
fn ask(
    person: &PromptConfig,
    question: &Question,
    withdrawn: PipeReader,
    link_state: &LinkState,
) -> (Result<PromptReply, NoPin>, KeptDialog) {
    let asks_for_pin = matches!(question.prompt, Prompt::Pin { .. } | Prompt::ResumedPin { .. });
    let kept = if asks_for_pin { link_state.dialogs().remove(&question.dialog) } else { None };
    let dialog = match kept.filter(Dialog::is_reusable) {
        Some(dialog) => Ok(dialog),
        None => Dialog::choose(&person.method, &person.environment),
    };
    let asked = dialog.and_then(|dialog| {
        // The process is held before it is named: after its end another may get its id.
        let mut dialog = dialog.until_closed(withdrawn.into()).for_process(question.pid)?;
        let program = programs::describe(question.pid)
            .unwrap_or_else(|| format!("an unknown program (process {})", question.pid));
        let Some(request) = prompt_request(question, &program) else {
            return Ok((Err(NoPin::Unavailable("the agent does not ask for this".to_owned())), None));
        };
        if !asks_for_pin {
            let reply = if dialog.confirm(&request)? { Ok(PromptReply::Yes) } else { Err(NoPin::Declined) };
            return Ok((reply, None));
        }
        let pin = dialog.pin_and_keep_open(&request)?;
        // A file or a program would give the same PIN again and waste another try.
        let reply = PromptReply::Pin { pin, may_retry: dialog.is_typed_into() };
        let dialog = dialog.without_requesters();
        Ok((Ok(reply), dialog.is_reusable().then_some((question.dialog, dialog))))
    });
    asked.unwrap_or_else(|error: PrompterError| (Err(no_pin(&error)), None))
}

/// The keysets that this file lists. An unreadable file is logged here and must not unhide any
/// keyset.
fn hidden(file: Option<&Path>) -> SupervisorReply {
    match file.map_or(Ok(Vec::new()), KeysetRef::read_hidden) {
        Ok(hidden) => SupervisorReply::Hidden(hidden),
        Err(reason) => {
            let file = file.map(|file| file.display().to_string()).unwrap_or_default();
            let reason =
                format!("cannot read the list of hidden keysets {file}: {reason}; remove the file to show all keysets");
            tracing::warn!("{reason}");
            SupervisorReply::Unavailable(reason)
        }
    }
}

/// Describes the present prompt method.
fn prompter(person: &PromptConfig) -> Result<String, String> {
    let dialog = Dialog::choose(&person.method, &person.environment);
    dialog.map(|dialog| dialog.describe()).map_err(|error| error.to_string())
}

fn no_pin(error: &PrompterError) -> NoPin {
    match error {
        PrompterError::Withdrawn { .. } => NoPin::Withdrawn,
        error if error.is_cancelled() => NoPin::Cancelled,
        error => NoPin::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
