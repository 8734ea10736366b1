//! Ordinary programs, run as a user would run them, each with a time limit: a hang is a failure with a name.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// Runs `script` with sh in `folder`; panics with everything it printed unless it succeeds. Gives its output.
#[track_caller]
pub fn ok(folder: &Path, script: &str) -> String {
    let done = run(folder, script);
    assert!(
        done.status.success(),
        "{script}\n{}\nstdout: {}\nstderr: {}",
        outcome(&done),
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs `script` with sh in `folder`; panics unless it fails by itself (a time-out is no answer). Gives what it complained of.
#[track_caller]
pub fn fails(folder: &Path, script: &str) -> String {
    let done = run(folder, script);
    let by_itself = done.status.code().is_some_and(|code| code != 0 && code != TIMED_OUT && code != KILLED);
    assert!(by_itself, "{script}\nshould have failed: {}", outcome(&done));
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Runs `script` with sh in `folder`, for two minutes at most.
pub fn run(folder: &Path, script: &str) -> Output {
    Command::new("timeout")
        .args(["--kill-after=5", LIMIT, "sh", "-c", script])
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        // Programs like git must take nothing from whoever runs the tests.
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("coreutils' timeout and sh are there")
}

/// Whether a program of this name can be run; says aloud that a test is skipped when not. When CI runs it must be there.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    super::skip(format!("{program} is missing"));
    false
}

fn outcome(done: &Output) -> String {
    match done.status.code() {
        Some(TIMED_OUT | KILLED) => format!("did not end within {LIMIT} seconds"),
        _ => done.status.to_string(),
    }
}

/// Seconds. Far above what anything here takes on a loaded machine with two cores.
const LIMIT: &str = "180";
/// Exit codes of coreutils' timeout.
const TIMED_OUT: i32 = 124;
const KILLED: i32 = 137;

/// A Python script in a process of its own, which stops where it says `pause()`. In the tests' own process a file must not be open
/// that is being written: what another test starts closes copies of it, and waits until they are uploaded.
pub struct Script {
    process: Child,
    told: BufReader<ChildStdout>,
}

impl Script {
    pub fn start(folder: &Path, script: &str) -> Self {
        const PAUSE: &str =
            "import os, sys, threading\ndef pause():\n print('paused', flush=True)\n sys.stdin.readline()\n";
        let mut python = Command::new("timeout");
        python.args(["--kill-after=5", LIMIT, "python3", "-c", &format!("{PAUSE}{script}")]);
        python.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().expect("coreutils' timeout and python3 are there");
        let told = BufReader::new(process.stdout.take().expect("it is a pipe"));
        Self { process, told }
    }

    /// Waits until it pauses; panics if it ends instead.
    #[track_caller]
    pub fn await_pause(&mut self) {
        self.await_line("paused");
    }

    /// Waits until it says this; panics if it says something else, or ends.
    #[track_caller]
    pub fn await_line(&mut self, wanted: &str) {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), wanted);
    }

    pub fn go_on(&mut self) {
        self.process.stdin.as_mut().expect("it is a pipe").write_all(b"\n").unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end; whether it succeeded, and what it said since the last pause.
    pub fn end(mut self) -> (bool, String) {
        let mut said = String::new();
        self.told.read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().success(), said)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
