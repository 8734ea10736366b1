//! Names and paths as they go over the wire: the only types through which a file name reaches a command.
//!
//! FTP ends a command with CR LF, so a name that holds one of them could smuggle in a second command (CVE-2026-71311
//! is exactly this). [`Name`] and [`RemotePath`] can only be built from bytes without CR, LF and NUL; everything that
//! writes a command takes one of them, so the check exists once. They hold bytes, not text: a server may use any
//! encoding, and what we list must be what we can open.
//!
//! Any layer may use these types.

use std::fmt;
use std::sync::Arc;

/// One component of a path: not empty, not `.` or `..`, without `/`, NUL, CR and LF, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Checks a name that came from a program or from a listing.
    pub fn new(bytes: &[u8]) -> Result<Self, BadName> {
        if bytes.len() > MAX_NAME {
            return Err(BadName::TooLong);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || !is_safe(bytes) {
            return Err(BadName::Forbidden);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, as they stand on the server.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An absolute, normalised path on the server: `/`, or `/a/b` without a trailing slash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemotePath(Arc<[u8]>);

impl RemotePath {
    /// `/`.
    pub fn root() -> Self {
        Self(b"/".as_slice().into())
    }

    /// Normalises an absolute path: doubled slashes and `.` go, `..` steps up (and stays at the root).
    pub fn parse(path: &[u8]) -> Result<Self, BadName> {
        if path.first() != Some(&b'/') {
            return Err(BadName::Forbidden);
        }
        Self::root().resolve(path)
    }

    /// Follows `path` from this folder as a shell would: absolute when it starts with `/`, `..` steps up.
    pub fn resolve(&self, path: &[u8]) -> Result<Self, BadName> {
        let mut at = if path.first() == Some(&b'/') { Self::root() } else { self.clone() };
        for component in path.split(|&b| b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => at = at.parent().unwrap_or_else(Self::root),
                name => at = at.join(&Name::new(name)?),
            }
        }
        if at.0.len() > MAX_PATH { Err(BadName::TooLong) } else { Ok(at) }
    }

    /// The path of an entry of this folder.
    pub fn join(&self, name: &Name) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        path.extend_from_slice(&self.0);
        if !self.is_root() {
            path.push(b'/');
        }
        path.extend_from_slice(&name.0);
        Self(path.into())
    }

    /// The folder that holds this path; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        match (self.is_root(), slash) {
            (true, _) => None,
            (false, 0) => Some(Self::root()),
            (false, end) => Some(Self(self.0[..end].into())),
        }
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<Name> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        (!self.is_root()).then(|| Name(self.0[slash + 1..].into()))
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        &*self.0 == b"/"
    }

    /// Whether this path is `folder` itself or lies below it.
    pub fn is_within(&self, folder: &RemotePath) -> bool {
        folder.is_root()
            || self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The bytes, as they go into a command.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a name cannot be used on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// Longer than any server takes (255 bytes a component, 4096 a path).
    TooLong,
    /// Empty, `.`, `..`, or with `/`, NUL, CR or LF in it.
    Forbidden,
    /// A letter that the server's encoding does not have (`codepage=`).
    NotEncodable,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the name is too long",
            Self::Forbidden => "the name holds a character that FTP cannot carry",
            Self::NotEncodable => "the name holds a letter that the server's codepage does not have",
        })
    }
}

impl std::error::Error for BadName {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

fn is_safe(bytes: &[u8]) -> bool {
    !bytes.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// What Linux allows for one component, and what every server measured allows (256 fails on all of them).
const MAX_NAME: usize = 255;
/// PATH_MAX; servers refuse longer command lines, or hang up on them.
const MAX_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_carries_a_line_end() {
        for bad in [&b"a\rb"[..], b"a\nDELE x", b"a\0b", b"", b".", b"..", b"a/b"] {
            assert_eq!(Name::new(bad).unwrap_err(), BadName::Forbidden, "{bad:?}");
        }
        assert_eq!(Name::new(&[b'x'; 256]).unwrap_err(), BadName::TooLong);
        assert!(Name::new(b" \xff ").is_ok());
    }

    #[test]
    fn a_path_is_normalised_and_stays_below_the_root() {
        assert_eq!(RemotePath::parse(b"//a/./b/../c/").unwrap().as_bytes(), b"/a/c");
        assert_eq!(RemotePath::parse(b"/../..").unwrap(), RemotePath::root());
        assert!(RemotePath::parse(b"a").is_err());
        let a = RemotePath::parse(b"/a").unwrap();
        assert_eq!(a.resolve(b"../b/c").unwrap().as_bytes(), b"/b/c");
        assert_eq!(a.parent(), Some(RemotePath::root()));
        assert_eq!(RemotePath::root().parent(), None);
        assert_eq!(a.name().unwrap().as_bytes(), b"a");
    }

    #[test]
    fn within_means_the_folder_or_below_it() {
        let a = RemotePath::parse(b"/a").unwrap();
        assert!(a.is_within(&a) && a.is_within(&RemotePath::root()));
        assert!(RemotePath::parse(b"/a/b").unwrap().is_within(&a));
        assert!(!RemotePath::parse(b"/ab").unwrap().is_within(&a));
    }
}
