//! Servers that store a name in another spelling than they were given: noticed, and an error, never a lost file.
//!
//! Pure-FTPd turns a trailing blank and control characters into `_`, pyftpdlib and libunftp store U+FFFD for bytes that
//! are not UTF-8, aioftp strips blanks; each says 226 or 257. The file is then there under a name that nobody asked
//! for, perhaps over another file. On servers whose habits are known such a name is not sent at all; on others it is
//! looked for afterwards (one listing). Ordinary names cost nothing. Jobs that make a name call this.

use super::features::Server;
use super::{Error, Name, RemotePath, Session};

/// Whether this server is known to change the name of `path`: then it must not be sent.
///
/// # Errors
/// [`Error::NameChanged`] if so.
pub fn check_before(session: &Session, path: &RemotePath) -> Result<(), Error> {
    match path.name() {
        Some(name) if is_changed_by(session.features().server(), &on_the_wire(session, &name)) => {
            Err(Error::NameChanged)
        }
        _ => Ok(()),
    }
}

/// Whether the name that was just made at `path` is there as it was given.
///
/// # Errors
/// [`Error::NameChanged`] when the server has changed it: then it is to be taken back.
pub fn check(session: &mut Session, path: &RemotePath) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return Ok(()) };
    if is_plain(&name) && (session.codepage().is_none() || name.as_bytes().is_ascii()) {
        return Ok(());
    }
    let listing = session.list(&parent)?;
    if listing.truncated || listing.entries.iter().any(|entry| entry.name == name) {
        return Ok(());
    }
    Err(Error::NameChanged)
}

/// The name as the server gets it. What cannot be encoded is refused when it is sent.
fn on_the_wire(session: &Session, name: &Name) -> Vec<u8> {
    let encoded = session.codepage().and_then(|codepage| codepage.encode(name.as_bytes()).ok());
    encoded.unwrap_or_else(|| name.as_bytes().to_vec())
}

fn is_changed_by(server: Server, bytes: &[u8]) -> bool {
    let foreign = std::str::from_utf8(bytes).is_err();
    match server {
        Server::PureFtpd => bytes.ends_with(b" ") || bytes.iter().any(u8::is_ascii_control),
        Server::Pyftpdlib | Server::Libunftp => foreign,
        Server::Aioftp => foreign || bytes.ends_with(b" "),
        Server::FtpSrv => foreign || bytes.iter().any(|byte| matches!(byte, b'"' | b'\\')),
        Server::Twisted => !bytes.is_ascii(),
        _ => false,
    }
}

/// Names that every server measured keeps.
fn is_plain(name: &Name) -> bool {
    let bytes = name.as_bytes();
    let blank = |byte: Option<&u8>| byte == Some(&b' ');
    std::str::from_utf8(bytes).is_ok()
        && !blank(bytes.first())
        && !blank(bytes.last())
        && !bytes.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\' | b'*' | b'?'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_some_server_changes_are_looked_at() {
        for plain in ["a", "with blank", "ümläut", "x#y%[1]", ".hidden", "-dash"] {
            assert!(is_plain(&Name::new(plain.as_bytes()).unwrap()), "{plain}");
        }
        for odd in [&b"trailing "[..], b" leading", b"tab\t", b"\xff", b"back\\slash", b"quo\"te"] {
            assert!(!is_plain(&Name::new(odd).unwrap()), "{odd:?}");
        }
    }
}
