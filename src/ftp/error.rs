//! What can go wrong between us and a server: one type for the whole FTP layer.
//!
//! It says *what happened*, not what to do: retrying is decided in `connection`, errno in `fs::errno`. A refusal keeps
//! the server's own words, because they are what a user needs to see in the log, and its meaning, because the same 550
//! means "no such file", "no permission" and "exists".

use std::fmt;
use std::io;

use super::path::BadName;
use super::reply::Reply;
use super::session::Told;

/// An error of the FTP layer.
#[derive(Debug, Clone)]
pub enum Error {
    /// The server answered 4xx or 5xx to `command` (its name only: never the argument of PASS).
    Refused { command: &'static str, meaning: Refusal, reply: Reply },
    /// The server did not let us log in, or needs something that we do not have (a TLS session, an account).
    Login { reply: Reply },
    /// The server allows no further session just now: it said so (421, or 530 with such words), or ended the connection without
    /// a greeting, as a broken line does, too.
    TooManySessions { text: String, is_said: bool },
    /// The control connection is gone: closed, reset, or ended by 421/221. The session cannot be used again.
    Lost { during: &'static str, text: String },
    /// The data connection could not be made or broke; the session itself may live.
    Data { during: &'static str, text: String },
    /// Nothing came within the deadline. The session cannot be used again.
    TimedOut { during: &'static str },
    /// Nobody answers at the address, or the name does not resolve.
    Unreachable { text: String },
    /// TLS failed: handshake, certificate, or a server without it.
    Tls { text: String },
    /// The answer makes no sense. The session cannot be used again.
    Protocol { text: String },
    /// The answer is longer than anything honest, and was given up. The session cannot be used again; asking again would bring
    /// the same.
    Endless { command: &'static str },
    /// This server has no way to do it (learned from FEAT or from 500, 502, 504).
    Unsupported { command: &'static str },
    /// The name cannot be sent.
    BadName(BadName),
    /// The server stored the name in another spelling (and what was stored has been taken back).
    NameChanged,
    /// The transfer ended with another number of bytes than was agreed.
    WrongLength { expected: u64, got: u64 },
    /// An upload broke off, and cannot go on from what the server has of it.
    NotResumable { there: u64 },
    /// Somebody else changed the file on the server since our content was made from it.
    Changed { text: String },
    /// The file on the server is not the one any more whose first part was read: what it is like now.
    Replaced(Told),
    /// Reading or writing on the local side (the spool) failed while transferring.
    Local { errno: i32 },
    /// The caller no longer wants it (mount ending, deadline passed).
    Cancelled,
}

/// What a refusal means, as far as code and words tell (facts: the table "errno from text").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    Denied,
    NotPermitted,
    Exists,
    NotEmpty,
    IsDirectory,
    NotDirectory,
    NoSpace,
    Quota,
    NameTooLong,
    CrossDevice,
    Loop,
    Busy,
    /// The code and the words say nothing: look (at a listing) before answering a program.
    Unclear,
}

impl Error {
    /// Whether the session that gave this error must be thrown away.
    pub fn ends_session(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. }
                | Self::TimedOut { .. }
                | Self::Protocol { .. }
                | Self::Endless { .. }
                | Self::TooManySessions { .. }
                | Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Login { .. }
        )
    }

    /// Whether the same request may succeed on a new connection.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. }
                | Self::Data { .. }
                | Self::TimedOut { .. }
                | Self::Protocol { .. }
                | Self::WrongLength { .. }
        )
    }

    /// What a refusal means; none for other errors.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { meaning, .. } => Some(*meaning),
            _ => None,
        }
    }

    /// An I/O error on the control connection.
    pub fn control(during: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            // The kernel's own (TCP_USER_TIMEOUT): nothing arrives there any more, and a new connection may do better.
            io::ErrorKind::TimedOut if error.raw_os_error().is_some() => {
                Self::Lost { during, text: error.to_string() }
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut { during },
            _ => Self::Lost { during, text: error.to_string() },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { command, reply, .. } => write!(f, "{command}: the server said {reply}"),
            Self::Login { reply } => write!(f, "login failed: the server said {reply}"),
            Self::TooManySessions { text, .. } => write!(f, "the server allows no further session: {text}"),
            Self::Lost { during, text } => write!(f, "the connection was lost during {during}: {text}"),
            Self::Data { during, text } => write!(f, "the data connection failed during {during}: {text}"),
            Self::TimedOut { during } => write!(f, "no answer from the server during {during}"),
            Self::Unreachable { text } => write!(f, "cannot reach the server: {text}"),
            // I/O errors of a TLS stream say so themselves.
            Self::Tls { text } => write!(f, "TLS: {}", text.strip_prefix("TLS: ").unwrap_or(text)),
            Self::Protocol { text } => write!(f, "the server's answer makes no sense: {text}"),
            Self::Endless { command } => write!(f, "the server's answer to {command} has no end"),
            Self::Unsupported { command } => write!(f, "this server cannot do {command}"),
            Self::BadName(bad) => bad.fmt(f),
            Self::NameChanged => f.write_str("this server cannot store this name as it is"),
            Self::WrongLength { expected, got } => write!(f, "transfer of {got} bytes instead of {expected}"),
            Self::NotResumable { there } => {
                write!(
                    f,
                    "the upload broke off and cannot be continued from the {there} bytes that are there"
                )
            }
            Self::Changed { text } => write!(f, "changed by somebody else on the server: {text}"),
            Self::Replaced(_) => f.write_str("the file was changed on the server while it was read"),
            Self::Local { errno } => write!(f, "local disk: {}", io::Error::from_raw_os_error(*errno)),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Error {}

impl From<BadName> for Error {
    fn from(bad: BadName) -> Self {
        Self::BadName(bad)
    }
}
