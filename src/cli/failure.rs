//! How a failed start ends: one line for the reader, one number for scripts.

use std::fmt;

use crate::cli::args::Manner;
use crate::ftp;

/// Why ftpfs did not mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// What was tried, what was answered, what to do; one line, without a password.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The FTP layer's error, for somebody who tried to reach `place` (host and port) as `user`.
    pub fn from_ftp(error: &ftp::Error, place: &str, user: &str) -> Self {
        use ftp::Error as E;
        let (exit, advice) = match error {
            E::Login { reply: _ } => (Exit::Login, "check the user name and the password"),
            E::TooManySessions { .. } => (
                Exit::Unreachable,
                "end other sessions of this user, or wait until the server has forgotten them",
            ),
            E::Unreachable { .. } => {
                (Exit::Unreachable, "check the host name and the port, and that the server runs")
            }
            E::TimedOut { .. } => {
                (Exit::Unreachable, "is there a firewall? `timeout=` sets how long to wait")
            }
            E::Lost { .. } | E::Data { .. } => (Exit::Unreachable, "is this an FTP server, and plain FTP?"),
            E::Protocol { .. } => (Exit::Unreachable, "is this an FTP server? `-d` shows what it says"),
            E::Tls { text } if text.contains("not trusted") => {
                (Exit::Tls, "if it is the right one: pin=SHA256, or its PEM file as cacert=")
            }
            E::Tls { .. } => (Exit::Tls, "ftpes:// is AUTH TLS, ftps:// is TLS from the first byte"),
            E::Local { .. } => (Exit::Local, "check the spool folder (`spool_dir=`)"),
            E::Refused { .. } | E::BadName(_) => {
                (Exit::Login, "check the folder in the URL: `//` makes it absolute")
            }
            _ => (Exit::Unreachable, "`-d` shows the dialogue"),
        };
        Self::new(exit, format!("cannot open {place} as {user}: {error} ({advice})"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server's words may hold anything.
        for c in self.message.trim_end().chars() {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        Ok(())
    }
}

/// Exit codes, as `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Usage = 1,
    Login = 2,
    Unreachable = 3,
    Mount = 4,
    Tls = 5,
    Local = 6,
    /// The mount ended, and the server has not confirmed everything.
    Unconfirmed = 7,
}

impl Exit {
    /// The number to end with. A mount helper speaks mount(8)'s: 1 usage, 2 system error, 32 mount failure.
    pub fn code(self, manner: Manner) -> u8 {
        match (manner, self) {
            (Manner::Command, exit) => exit as u8,
            (_, Self::Usage) => 1,
            (_, Self::Local) => 2,
            _ => 32,
        }
    }

    /// Back from the byte that came through a pipe.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::Usage,
            Self::Login,
            Self::Unreachable,
            Self::Mount,
            Self::Tls,
            Self::Local,
            Self::Unconfirmed,
        ];
        all.into_iter().find(|&exit| exit as u8 == byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_servers_words_stay_on_one_line() {
        let text = Failure::new(Exit::Login, "530 no\x1b[2J\r\nway\n").to_string();
        assert_eq!(text, "530 no [2J  way");
    }

    /// The unit of the packages tries again after that, and not after a refused login.
    #[test]
    fn a_server_that_is_full_may_be_tried_again() {
        let full = ftp::Error::TooManySessions { text: "421 Too many users.".into(), is_said: true };
        assert_eq!(Failure::from_ftp(&full, "host:21", "joe").exit, Exit::Unreachable);
    }

    #[test]
    fn helpers_speak_the_numbers_of_mount() {
        assert_eq!(Exit::Login.code(Manner::Command), 2);
        assert_eq!(Exit::Login.code(Manner::Helper), 32);
        assert_eq!(Exit::from_byte(Exit::Tls as u8), Some(Exit::Tls));
        assert_eq!(Exit::from_byte(99), None);
    }
}
