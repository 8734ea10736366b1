//! The one door to fork(2).
//!
//! Forking a process that has threads is a trap: locks held by a thread that does not exist in the child stay locked
//! for ever. Everything here that forks (going to the background, the watchdog of a mount) does so before the first
//! thread is started, and this module checks it rather than trusting the order of calls. `cli` and `mount` use it.

use std::io;

use nix::unistd::{ForkResult, Pid};

/// Which of the two processes this is.
pub enum Side {
    Parent(Pid),
    Child,
}

/// Forks. Fails, without forking, when this process has a second thread.
pub fn fork() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with threads cannot be forked safely"));
    }
    // SAFETY: this process has one thread (checked above), so the child inherits no lock held by somebody else.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
        ForkResult::Child => Ok(Side::Child),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test runner itself has threads.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(fork().is_err());
        drop(stop);
        assert!(other.join().is_ok());
    }
}
