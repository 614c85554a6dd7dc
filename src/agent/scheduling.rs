//! Schedules the signing process as a batch process instead of an interactive one (`SCHED_BATCH`,
//! sched(7)).
//!
//! Otherwise a thread woken by a request would preempt the thread that computes another
//! connection's signature on that core, at the cost of two more context switches. With four
//! connections on two cores this cost one signature in thirty
//! ([ADR 0010](../../docs/adr/0010-scheduled-as-batch.md)). The process keeps its share of the
//! processor and its nice value.
#![allow(unsafe_code)] // one call; no maintained library makes it without changing the nice value

use std::io;

use nix::libc;

/// Sets the policy of the calling thread and of every thread and process that it starts later.
///
/// # Errors
/// The kernel refuses; then nothing changes, and the agent is only slower.
pub(super) fn as_batch() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread. The pointer is to a value that outlives the call, and the
    // kernel only reads it.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheduling policy of the calling thread (proc(5), `stat`, field 41).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The second field is a name, which may contain blanks.
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        after_name.split_whitespace().nth(41 - 3).unwrap().to_owned()
    }

    #[test]
    fn only_the_thread_and_its_children_are_scheduled_as_batch() {
        let before = policy();
        let scheduled = std::thread::spawn(|| {
            let nice = rustix::process::getpriority_process(None).unwrap();
            as_batch().unwrap();
            assert_eq!(rustix::process::getpriority_process(None).unwrap(), nice);
            let started = std::thread::spawn(policy).join().unwrap();
            (policy(), started)
        });
        let batch = libc::SCHED_BATCH.to_string();
        assert_eq!(scheduled.join().unwrap(), (batch.clone(), batch));
        assert_eq!(policy(), before);
    }
}
