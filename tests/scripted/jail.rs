//! Paths of clients and paths of the machine. Nothing outside the served folder can be named, through links neither.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub struct Jail(PathBuf);

impl Jail {
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self(fs::canonicalize(root)?))
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The entry itself, not what a link leads to: for DELE, RNFR, RNTO, MKD, RMD.
    pub fn entry(&self, path: &[u8]) -> io::Result<PathBuf> {
        let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        let parent = self.inside(&self.place(parent))?;
        Ok(if name.is_empty() { parent } else { parent.join(OsStr::from_bytes(name)) })
    }

    /// What the path leads to, if that is inside. It need not exist.
    pub fn target(&self, path: &[u8]) -> io::Result<PathBuf> {
        let entry = self.entry(path)?;
        if fs::symlink_metadata(&entry).is_ok_and(|found| found.is_symlink()) {
            return self.inside(&entry);
        }
        Ok(entry)
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        let relative: &[u8] = path.strip_prefix(b"/").unwrap_or(path);
        self.0.join(OsStr::from_bytes(relative))
    }

    fn inside(&self, path: &Path) -> io::Result<PathBuf> {
        let real = fs::canonicalize(path)?;
        if real.starts_with(&self.0) { Ok(real) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// An absolute path without `.`, `..` and doubled slashes: `/`, or `/a/b`.
pub fn resolve(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start: &[u8] = if path.first() == Some(&b'/') { b"" } else { cwd };
    for part in start.split(|&b| b == b'/').chain(path.split(|&b| b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    [b"/".as_slice(), &parts.join(&b'/')].concat()
}
