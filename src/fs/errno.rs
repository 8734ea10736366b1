//! From our errors to an errno: the one place where that is decided.

use std::fmt;

use crate::ftp::{BadName, Error, Refusal};

/// What a program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const NOENT: Self = Self(libc::ENOENT);
    pub const EXIST: Self = Self(libc::EEXIST);
    pub const INVAL: Self = Self(libc::EINVAL);
    pub const IO: Self = Self(libc::EIO);
    pub const STALE: Self = Self(libc::ESTALE);
    pub const NOTSUP: Self = Self(libc::EOPNOTSUPP);
    pub const PERM: Self = Self(libc::EPERM);
    pub const ACCES: Self = Self(libc::EACCES);
    pub const ROFS: Self = Self(libc::EROFS);
    pub const ISDIR: Self = Self(libc::EISDIR);
    pub const NOTDIR: Self = Self(libc::ENOTDIR);
    pub const BADF: Self = Self(libc::EBADF);
    pub const INTR: Self = Self(libc::EINTR);
    pub const TIMEDOUT: Self = Self(libc::ETIMEDOUT);
    pub const NOTEMPTY: Self = Self(libc::ENOTEMPTY);
    pub const FBIG: Self = Self(libc::EFBIG);
}

impl From<&Error> for Errno {
    fn from(error: &Error) -> Self {
        Self(match error {
            Error::Refused { meaning, .. } => match meaning {
                Refusal::NotFound => libc::ENOENT,
                Refusal::Denied => libc::EACCES,
                Refusal::NotPermitted => libc::EPERM,
                Refusal::Exists => libc::EEXIST,
                Refusal::NotEmpty => libc::ENOTEMPTY,
                Refusal::IsDirectory => libc::EISDIR,
                Refusal::NotDirectory => libc::ENOTDIR,
                Refusal::NoSpace => libc::ENOSPC,
                Refusal::Quota => libc::EDQUOT,
                Refusal::NameTooLong => libc::ENAMETOOLONG,
                Refusal::CrossDevice => libc::EXDEV,
                Refusal::Loop => libc::ELOOP,
                Refusal::Busy => libc::EBUSY,
                Refusal::Unclear => libc::EIO,
            },
            Error::Login { .. } => libc::EACCES,
            Error::TooManySessions { .. } => libc::EBUSY,
            Error::TimedOut { .. } => libc::ETIMEDOUT,
            Error::Replaced(_) => libc::ESTALE,
            Error::Unreachable { .. } => libc::EHOSTUNREACH,
            Error::Unsupported { .. } => libc::EOPNOTSUPP,
            Error::NameChanged => libc::EILSEQ,
            Error::Changed { .. } => libc::ESTALE,
            Error::BadName(bad) => return (*bad).into(),
            Error::Local { errno } => *errno,
            Error::Lost { .. }
            | Error::Data { .. }
            | Error::Tls { .. }
            | Error::Protocol { .. }
            | Error::Endless { .. }
            | Error::WrongLength { .. }
            | Error::NotResumable { .. }
            | Error::Cancelled => libc::EIO,
        })
    }
}

impl From<BadName> for Errno {
    fn from(bad: BadName) -> Self {
        match bad {
            BadName::TooLong => Self(libc::ENAMETOOLONG),
            BadName::Forbidden => Self::INVAL,
            BadName::NotEncodable => Self(libc::EILSEQ),
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}
