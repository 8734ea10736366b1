//! Where everybody waits: what a test says of a program that stands still, before it ends it.
//!
//! A deadlock leaves no trace once the test has been killed. So whoever watches ([`super::mount`] over a whole test, a
//! [`Guard`] over the progress of one) has this written first: every thread of the program with what it waits for in the
//! kernel, what the program says of itself (`ftpfs status`), and every process that waits inside FUSE.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every thread of the program, the program's own account, and who waits for it.
pub fn describe(pid: u32, program: &str, point: &Path) -> String {
    let mut text = format!("--- threads of ftpfs ({pid}):\n{}", threads(pid, |_| true));
    let status = Command::new("timeout").args(["10", program, "status"]).arg(point).output();
    if let Ok(output) = status {
        text += "--- ftpfs status:\n";
        text += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    text += "--- who waits inside FUSE:\n";
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        text += &threads(other, |stack| stack.contains("fuse_") || stack.contains("request_wait_answer"));
    }
    text
}

/// The threads of a process and of its descendants.
pub fn family(pid: u32) -> String {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: String =
        children.split_whitespace().filter_map(|child| Some(family(child.parse().ok()?))).collect();
    threads(pid, |_| true) + &below
}

fn threads(pid: u32, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let stack = read("stack") + &read("wchan");
        if !wanted(&stack) {
            continue;
        }
        let (name, call) = (read("comm"), read("syscall"));
        let state =
            read("status").lines().find(|line| line.starts_with("State:")).unwrap_or_default().to_owned();
        text += &format!("{} {} {state} syscall {}\n", task.file_name().display(), name.trim(), call.trim());
        for line in stack.lines() {
            text += &format!("    {line}\n");
        }
    }
    text
}

/// Kills a program under which nothing has happened for a while, after saying where everybody waits: every call that hangs
/// then ends with an error, so the test fails instead of standing still.
pub struct Guard {
    progress: Arc<AtomicU64>,
    _watched: Sender<()>,
}

impl Guard {
    /// Watches until dropped. Something must be [`Guard::tick`]ed at least every `limit`.
    pub fn new(pid: u32, program: &str, point: &Path, limit: Duration) -> Self {
        let progress = Arc::new(AtomicU64::new(0));
        let (watched, ended) = channel();
        let (seen, program, point) = (progress.clone(), program.to_owned(), point.to_owned());
        std::thread::spawn(move || {
            let mut last = seen.load(Ordering::SeqCst);
            while ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::SeqCst);
                if now == last {
                    eprintln!("--- nothing has moved for {limit:?}\n{}", describe(pid, &program, &point));
                    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap_or(0)), Signal::SIGKILL);
                    return;
                }
                last = now;
            }
        });
        Self { progress, _watched: watched }
    }

    /// Something has come to its end.
    pub fn tick(&self) {
        self.progress.fetch_add(1, Ordering::SeqCst);
    }

    /// How many things have.
    pub fn ticks(&self) -> u64 {
        self.progress.load(Ordering::SeqCst)
    }
}
