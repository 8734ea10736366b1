//! What a refusal means, where the server's words do not say it: by looking.
//!
//! A 550 may be "no such file", "no permission" or "exists", and a third of the servers say nothing more. These
//! functions look at what is there, on the same session, and give the error its meaning. They cost a round trip or two,
//! and only after a refusal that says nothing. When the session ends while they look, that is the error: nobody knows then
//! what is there, and whoever asked may ask again on another session. Jobs call them.

use super::{Error, Kind, Refusal, RemotePath, Session};

/// MKD was refused.
pub fn make_directory(session: &mut Session, path: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match look(session, path)? {
            Look::There(_) => Refusal::Exists,
            Look::ParentMissing => Refusal::NotFound,
            Look::Missing => Refusal::Denied,
        })
    })
}

/// RMD was refused.
pub fn remove_directory(session: &mut Session, path: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match look(session, path)? {
            Look::There(Kind::Directory) => full_or_denied(session, path)?,
            Look::There(_) => Refusal::NotDirectory,
            Look::ParentMissing | Look::Missing => Refusal::NotFound,
        })
    })
}

/// DELE was refused.
pub fn delete(session: &mut Session, path: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match look(session, path)? {
            Look::There(Kind::Directory) => Refusal::IsDirectory,
            Look::There(_) => Refusal::Denied,
            Look::ParentMissing | Look::Missing => Refusal::NotFound,
        })
    })
}

/// RNFR or RNTO was refused.
pub fn rename(session: &mut Session, from: &RemotePath, to: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match (look(session, from)?, look(session, to)?) {
            (Look::Missing | Look::ParentMissing, _) | (_, Look::ParentMissing) => Refusal::NotFound,
            (Look::There(_), Look::There(Kind::Directory)) => full_or_denied(session, to)?,
            (Look::There(_), _) => Refusal::Denied,
        })
    })
}

/// STOR or APPE was refused.
pub fn store(session: &mut Session, path: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match look(session, path)? {
            Look::There(Kind::Directory) => Refusal::IsDirectory,
            Look::There(_) | Look::Missing => Refusal::Denied,
            Look::ParentMissing => Refusal::NotFound,
        })
    })
}

/// RETR, MFMT or SITE CHMOD was refused: something about a path that should be there.
pub fn access(session: &mut Session, path: &RemotePath, error: Error) -> Error {
    explain(error, || {
        Ok(match look(session, path)? {
            Look::There(Kind::Directory) => Refusal::IsDirectory,
            Look::There(_) => Refusal::Denied,
            Look::Missing | Look::ParentMissing => Refusal::NotFound,
        })
    })
}

enum Look {
    There(Kind),
    Missing,
    ParentMissing,
}

fn look(session: &mut Session, path: &RemotePath) -> Result<Look, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
        return Ok(Look::There(Kind::Directory));
    };
    match session.list(&parent) {
        Ok(listing) => match listing.entries.iter().find(|entry| entry.name == name) {
            Some(entry) => return Ok(Look::There(entry.kind)),
            // Names are missing from it that are there.
            None if listing.truncated || listing.unparsed > 0 => {}
            None => return Ok(Look::Missing),
        },
        Err(error) if error.refusal() == Some(Refusal::NotFound) => return Ok(Look::ParentMissing),
        Err(error) if error.ends_session() => return Err(error),
        // The folder cannot be read, but what is in it may be reachable.
        Err(_) => {}
    }
    match session.stat(path) {
        Ok(entry) => Ok(Look::There(entry.kind)),
        Err(Error::Refused { .. } | Error::Unsupported { .. }) => Ok(Look::Missing),
        Err(error) => Err(error),
    }
}

/// Why a folder does not go away, or make room.
fn full_or_denied(session: &mut Session, folder: &RemotePath) -> Result<Refusal, Error> {
    match session.list(folder) {
        Ok(listing) if !listing.entries.is_empty() => Ok(Refusal::NotEmpty),
        Err(error) if error.ends_session() => Err(error),
        _ => Ok(Refusal::Denied),
    }
}

fn explain(error: Error, find: impl FnOnce() -> Result<Refusal, Error>) -> Error {
    match error {
        Error::Refused { command, meaning: Refusal::Unclear, reply } => match find() {
            Ok(meaning) => Error::Refused { command, meaning, reply },
            Err(error) => error,
        },
        error => error,
    }
}
