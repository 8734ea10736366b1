//! Machines on a small network: threads in network namespaces of their own, and what `ip` makes between them.
//!
//! Everything goes with the threads, which end with their [`Host`]. It takes root and `ip`; where namespaces cannot be had,
//! [`Host::new`] says why not.

use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};

/// A thread in a network namespace of its own, which does what it is given.
pub struct Host {
    work: Sender<Box<dyn FnOnce() + Send>>,
    /// Its thread, for `ip link ... netns`.
    pub thread: i32,
}

impl Host {
    pub fn new() -> Result<Self, String> {
        let (work, todo): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let own = unshare(CloneFlags::CLONE_NEWNET).map(|()| nix::unistd::gettid().as_raw());
            let goes_on = own.is_ok();
            let _ = tell.send(own);
            if goes_on {
                todo.into_iter().for_each(|action| action());
            }
        });
        let thread = told.recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(Self { work, thread })
    }

    /// What is run there, and what it starts, is in that network. A panic over there is one here.
    pub fn run<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let action = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
            let _ = tell.send(result);
        };
        self.work.send(Box::new(action)).expect("the thread lives as long as this value");
        match told.recv().expect("it answers") {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` there.
    pub fn ip(&self, arguments: &str) -> Result<(), String> {
        let arguments = arguments.to_owned();
        self.run(move || {
            let output = Command::new("ip").args(arguments.split(' ')).output();
            let output = output.map_err(|e| format!("ip: {e}"))?;
            if output.status.success() {
                return Ok(());
            }
            Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
        })
    }
}
