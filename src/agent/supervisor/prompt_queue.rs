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
use crate::agent::link::{SupervisorMessage, SupervisorReply, WorkerCall};
use crate::agent::process_error::AgentProcessError;
use crate::agent::prompt_text::PromptText;
use crate::ipc;
use crate::keyset::{KeysetRef, Prompt};
use crate::prompter::{Dialog, PromptEnvironment, PromptMethod, PromptRequest, PrompterError};
use crate::token::Pin;
use crate::token::check::{CheckOutcome, CheckProcess, CheckRequest, CheckRunner};

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
    fn close(&self, number: u64, kept: Option<(u64, Dialog)>) {
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
    question: WorkerCall,
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
                let PromptOutcome { answer, pin, kept } = ask(&person, question, withdrawn, &link_state);
                link_state.close(number, kept);
                send_answer(&link_state, &link, number, answer, pin.as_ref());
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

    /// Answers a question about a module with a process of its own; sends the answer over this
    /// link.
    pub(super) fn check(&self, number: u64, request: CheckRequest, secret: Zeroizing<Vec<u8>>, link: &UnixStream) {
        let link_state = self.link_state.clone();
        let is_known = self.is_known(&request.module);
        let taken = link.try_clone().map_err(AgentProcessError::system("copy a descriptor")).and_then(|link| {
            spawn("check", move || {
                let pin = std::str::from_utf8(&secret).ok().and_then(|pin| Pin::new(pin.to_owned()).ok());
                let outcome = if is_known {
                    CheckProcess.run(&request, pin.as_ref())
                } else {
                    CheckOutcome::Unknown("not one of the agent's modules".to_owned())
                };
                send_answer(&link_state, &link, number, SupervisorReply::Checked(outcome), None);
            })
        });
        if let Err(error) = taken {
            send_answer(&self.link_state, link, number, SupervisorReply::Unavailable(error.to_string()), None);
        }
    }

    /// Returns true if the file is one of the agent's modules, now or when the agent started.
    fn is_known(&self, file: &Path) -> bool {
        let mut modules = self.modules.iter();
        modules.any(|(named, then)| then.as_deref() == Some(file) || named.canonicalize().is_ok_and(|now| now == file))
    }

    /// Accepts a question from this link; the answer goes back over it.
    pub(super) fn take(&self, number: u64, question: WorkerCall, link: &UnixStream) {
        let taken =
            link.try_clone().map_err(AgentProcessError::system("copy a descriptor")).and_then(|link| match question {
                // Reading another process's files can hang as long as that process does.
                WorkerCall::Program(pid) => {
                    let link_state = self.link_state.clone();
                    spawn("program", move || {
                        send_answer(
                            &link_state,
                            &link,
                            number,
                            SupervisorReply::Program(programs::describe(pid)),
                            None,
                        );
                    })
                }
                // A pinentry that is asked for its flavor can hang, too.
                WorkerCall::Prompter => {
                    let (link_state, person) = (self.link_state.clone(), self.person.clone());
                    spawn("prompt-method", move || {
                        send_answer(&link_state, &link, number, SupervisorReply::Prompter(prompter(&person)), None);
                    })
                }
                WorkerCall::CanAskAgain { dialog } => {
                    let (link_state, person) = (self.link_state.clone(), self.person.clone());
                    spawn("prompt-method", move || {
                        let is_open = link_state.dialogs().contains_key(&dialog);
                        let answer = if is_open { SupervisorReply::Yes } else { is_typed_by_person(&person) };
                        send_answer(&link_state, &link, number, answer, None);
                    })
                }
                WorkerCall::HiddenKeysets => {
                    let (link_state, file) = (self.link_state.clone(), self.hidden.clone());
                    spawn("hidden", move || send_answer(&link_state, &link, number, hidden(file.as_deref()), None))
                }
                question => {
                    let (withdrawn, open) = io::pipe().map_err(AgentProcessError::system("create a pipe"))?;
                    let link_state = self.link_state.clone();
                    link_state.open().insert(number, open);
                    self.queue
                        .send(QueuedQuestion { number, question, link, link_state, withdrawn })
                        .map_err(|_| broken_pipe("ask the person"))
                }
            });
        if let Err(error) = taken {
            self.withdraw(number);
            send_answer(&self.link_state, link, number, SupervisorReply::Unavailable(error.to_string()), None);
        }
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

fn send_answer(link_state: &LinkState, link: &UnixStream, number: u64, answer: SupervisorReply, pin: Option<&Pin>) {
    let _one_at_a_time = link_state.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let secret = pin.map_or("", Pin::as_str).as_bytes();
    // The worker that asked may have exited.
    if let Err(error) = ipc::send(link, &SupervisorMessage::Reply { number, reply: answer }, secret, &[]) {
        tracing::debug!(%error, "cannot send an answer to the worker");
    }
}

/// The result of a question.
struct PromptOutcome {
    answer: SupervisorReply,
    pin: Option<Pin>,
    /// by use, the dialog that can ask again if the PIN is wrong
    kept: Option<(u64, Dialog)>,
}

impl PromptOutcome {
    fn without_pin(answer: SupervisorReply) -> Self {
        Self { answer, pin: None, kept: None }
    }

    fn pin(pin: Pin) -> Self {
        Self { answer: SupervisorReply::Pin { attended: pin.is_attended() }, pin: Some(pin), kept: None }
    }
}

/// Chooses the prompt method for each question, because a terminal or display may come or go. Only
/// a dialog that has asked for the same use is reused, if it still can be.
fn ask(person: &PromptConfig, question: WorkerCall, withdrawn: PipeReader, link_state: &LinkState) -> PromptOutcome {
    let dialog = |kept: Option<Dialog>, text: &PromptText| {
        let dialog = match kept.filter(Dialog::is_reusable) {
            Some(dialog) => dialog,
            None => Dialog::choose(&person.method, &person.environment)?,
        };
        dialog.until_closed(withdrawn.into()).for_process(text.pid)
    };
    let answer = match question {
        WorkerCall::Ask(question) => {
            let (use_number, asks_for_pin) =
                (question.dialog, matches!(question.prompt, Prompt::Pin { .. } | Prompt::ResumedPin { .. }));
            let Some(text) = PromptText::of(&question) else {
                return PromptOutcome::without_pin(unavailable("the agent does not ask for this"));
            };
            if asks_for_pin {
                let kept = link_state.dialogs().remove(&use_number);
                let asked = dialog(kept, &text).and_then(|mut dialog| {
                    let pin = dialog.pin_and_keep_open(&with_program(text))?;
                    let dialog = dialog.without_requesters();
                    Ok((pin, dialog.is_reusable().then_some((use_number, dialog))))
                });
                return match asked {
                    Ok((pin, kept)) => PromptOutcome { kept, ..PromptOutcome::pin(pin) },
                    Err(error) => PromptOutcome::without_pin(no_pin(&error)),
                };
            }
            match dialog(None, &text).and_then(|dialog| dialog.confirm(&with_program(text))) {
                Ok(true) => SupervisorReply::Yes,
                Ok(false) => SupervisorReply::No,
                Err(error) => no_pin(&error),
            }
        }
        WorkerCall::Program(pid) => SupervisorReply::Program(programs::describe(pid)),
        WorkerCall::Prompter => SupervisorReply::Prompter(prompter(person)),
        WorkerCall::CanAskAgain { .. } => is_typed_by_person(person),
        // These concern a process or a file, not a person.
        WorkerCall::Check(_)
        | WorkerCall::HiddenKeysets
        | WorkerCall::Ready { .. }
        | WorkerCall::DialogEnded { .. } => unavailable("no person can answer this question"),
    };
    PromptOutcome::without_pin(answer)
}

fn unavailable(reason: &str) -> SupervisorReply {
    SupervisorReply::Unavailable(reason.to_owned())
}

/// Returns true if a person types each answer. A program would give the same PIN again.
fn is_typed_by_person(person: &PromptConfig) -> SupervisorReply {
    let is_typed = Dialog::choose(&person.method, &person.environment).is_ok_and(|dialog| dialog.is_typed_into());
    if is_typed { SupervisorReply::Yes } else { SupervisorReply::No }
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

fn no_pin(error: &PrompterError) -> SupervisorReply {
    match error {
        PrompterError::Withdrawn { .. } => SupervisorReply::Withdrawn,
        error if error.is_cancelled() => SupervisorReply::Cancelled,
        error => SupervisorReply::Unavailable(error.to_string()),
    }
}

/// Adds a first line that names the client program.
fn with_program(text: PromptText) -> PromptRequest {
    let program = programs::describe(text.pid).unwrap_or_else(|| format!("an unknown program (process {})", text.pid));
    let mut lines = vec![format!("Asked by: {program}")];
    lines.extend(text.lines);
    PromptRequest { title: text.title, lines, prompt: text.prompt, warning: text.warning }
}

#[cfg(test)]
mod tests;
