//! Asking for a password on the terminal, without showing it.
//!
//! The terminal's signals are off meanwhile, and Ctrl-C ends the line: so however the question ends, the terminal gets
//! its echo back, without a signal handler.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use crate::ftp::config::Secret;

/// Asks. Interrupted: the user pressed Ctrl-C or Ctrl-D; other errors: there is no terminal.
pub(super) fn ask(question: &str) -> io::Result<Secret> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ECHOK | LocalFlags::ISIG);
    if let Some(end) = silent.control_chars.get_mut(SpecialCharacterIndices::VEOL as usize) {
        *end = CTRL_C;
    }
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
    let _restore = Restore { terminal: &terminal, before };
    let text: String = question.chars().filter(|c| !c.is_control()).collect();
    (&terminal).write_all(text.as_bytes())?;
    let mut line = [0; MAX_LINE];
    let length = (&terminal).read(&mut line)?;
    let _ = (&terminal).write_all(b"\n");
    let typed = line.get(..length).unwrap_or_default();
    if typed.last().is_none_or(|&last| last == CTRL_C) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let password = Secret::new(typed.strip_suffix(b"\n").unwrap_or(typed));
    line.fill(0);
    std::hint::black_box(&line);
    Ok(password)
}

struct Restore<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> Drop for Restore<T> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

const CTRL_C: u8 = 3;

/// What a terminal's line can hold.
const MAX_LINE: usize = 4096;
