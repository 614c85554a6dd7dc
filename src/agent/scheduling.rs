//! How the kernel schedules the process that signs: as one that computes, not as one that waits (`SCHED_BATCH`, sched(7)).
//!
//! A thread that is woken by a request would else interrupt whoever computes on that core: another connection's signature, which
//! then is done later, at the price of two more changes of process. With four connections on two cores that was one signature in
//! thirty ([ADR 0010](../../docs/adr/0010-scheduled-as-batch.md)). Its share of the processor, and its nice value, stay what
//! they are.
#![allow(unsafe_code)] // one call, below; no library that is kept up makes it without changing the nice value as well

use std::io;

use nix::libc;

/// From now on the calling thread, and every thread and process that it starts, is scheduled so.
///
/// # Errors
/// The kernel refuses it; then all stays as it was, and is only slower.
pub(super) fn as_batch() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; the pointer is to a value that lives until the call returns, and the kernel only reads it.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's policy, by the kernel's word (proc(5), `stat`, field 41).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The second field is a name, which may have blanks in it.
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        after_name.split_whitespace().nth(41 - 3).unwrap().to_owned()
    }

    #[test]
    fn the_thread_and_what_it_starts_is_scheduled_as_batch_and_nothing_else() {
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
