//! Going to the background, honestly: the command returns 0 only after the login worked and the mount is there.
//!
//! The process forks before it has threads. The child does everything; the parent waits on a pipe for one message, an
//! exit code and one line of text, prints the line and ends with the code. When the child dies without a word, the pipe
//! closes, and that is an error too. Until then the child belongs to the same terminal, so that Ctrl-C during a
//! slow login ends both; afterwards it gives up the terminal, because a caller like `$(mount …)` waits until the last
//! holder of its output is gone.

use std::fs::File;
use std::io::{self, Read, Write};

use super::failure::{Exit, Failure};
use crate::fork::{Side, fork};

/// Where the daemon says how its start went.
pub struct Starter {
    pipe: Option<File>,
}

impl Starter {
    /// For the foreground: errors are simply returned, nothing is given up.
    pub fn foreground() -> Self {
        Self { pipe: None }
    }

    /// Forks. In the parent this does not come back with a starter but with how it went.
    pub fn background() -> io::Result<Result<Self, Result<(), Failure>>> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        match fork()? {
            Side::Child => Ok(Ok(Self { pipe: Some(write.into()) })),
            Side::Parent(_) => {
                drop(write);
                Ok(Err(wait(&mut File::from(read))))
            }
        }
    }

    pub fn is_background(&self) -> bool {
        self.pipe.is_some()
    }

    /// For another forked process, which must not keep the caller waiting.
    pub fn forget(&mut self) {
        self.pipe = None;
    }

    /// The mount is there: lets the caller go, and gives up the terminal.
    pub fn succeeded(&mut self) -> io::Result<()> {
        let Some(mut pipe) = self.pipe.take() else { return Ok(()) };
        // Fails when this is a session leader already.
        let _ = nix::unistd::setsid();
        let null = File::options().read(true).write(true).open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        // A caller that is gone meanwhile is no reason to end.
        let _ = pipe.write_all(&[SUCCESS]);
        Ok(())
    }

    /// There will be no mount. Gives the failure back when nobody waits for it on the pipe.
    pub fn failed(&mut self, failure: Failure) -> Option<Failure> {
        let Some(mut pipe) = self.pipe.take() else { return Some(failure) };
        let mut message = vec![failure.exit as u8];
        message.extend_from_slice(failure.message.as_bytes());
        match pipe.write_all(&message) {
            Ok(()) => None,
            Err(_) => Some(failure),
        }
    }
}

/// Closes what the caller has left open by mistake (mount(8) and shells do): a daemon that holds somebody's pipe or lock
/// for months is a riddle for them. Called before this process has opened anything of its own.
pub fn close_inherited() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number| number > 2)
        .collect();
    for number in numbers {
        // One of them was the folder that was just listed: it is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// Waits for the child's message. Has no deadline of its own: every wait of the child has one.
fn wait(pipe: &mut impl Read) -> Result<(), Failure> {
    let mut code = [0];
    let died = || {
        Failure::new(Exit::Local, "the process in the background died without a word (see the system log)")
    };
    pipe.read_exact(&mut code).map_err(|_| died())?;
    if code == [SUCCESS] {
        return Ok(());
    }
    let mut message = Vec::new();
    let _ = pipe.take(MAX_MESSAGE).read_to_end(&mut message);
    let exit = code.first().and_then(|&byte| Exit::from_byte(byte)).unwrap_or(Exit::Local);
    Err(Failure::new(exit, String::from_utf8_lossy(&message)))
}

/// Not an exit code of a failure.
const SUCCESS: u8 = 0;

/// One line, with a server's words in it.
const MAX_MESSAGE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_hears_how_it_went() {
        assert_eq!(wait(&mut &[SUCCESS][..]), Ok(()));
        let failure = wait(&mut &b"\x02530 no"[..]).expect_err("failed");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Login, "530 no"));
        assert_eq!(wait(&mut &[][..]).expect_err("died").exit, Exit::Local);
    }

    #[test]
    fn in_the_foreground_a_failure_comes_back() {
        let failure = Failure::new(Exit::Mount, "x");
        assert_eq!(Starter::foreground().failed(failure.clone()), Some(failure));
    }
}
