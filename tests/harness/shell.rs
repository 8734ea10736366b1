//! Ordinary programs, run as a user would run them, each with a time limit: a hang is a failure with a name.

use std::path::Path;
use std::process::{Command, Output};

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
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{program} is missing");
    eprintln!("SKIPPED: {program} is missing");
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
