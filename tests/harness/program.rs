//! The program's other commands, as a user gives them: `recover`, `status`, `umount`, `doctor`.
//!
//! [`path`] is the program that is tested everywhere: the one just built, or the one that the variable `FTPFS_PROGRAM`
//! names, an installed one, say.

use std::process::{Command, Output, Stdio};

/// The program that is tested.
pub fn path() -> String {
    std::env::var("FTPFS_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_ftpfs").into())
}

/// Runs it with these arguments, for a minute at most.
pub fn run(arguments: &[&str]) -> Output {
    Command::new("timeout").args(["60", &path()]).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What it says when it succeeds, which it must.
#[track_caller]
pub fn ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// Both of its outputs.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
