//! Claims: which paths a job touches, so that two jobs that would hurt each other do not run at the same time.
//!
//! Used by [`super::Queue`]; jobs are given their claims by whoever makes them.

use crate::ftp::RemotePath;

/// A path that a job needs while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Reads it; others may read it too.
    Shared(RemotePath),
    /// Changes it; nobody else may touch it.
    Exclusive(RemotePath),
    /// Moves or removes it with everything below.
    Tree(RemotePath),
}

impl Claim {
    pub fn path(&self) -> &RemotePath {
        match self {
            Self::Shared(path) | Self::Exclusive(path) | Self::Tree(path) => path,
        }
    }
}

/// Whether two jobs with these claims must not run together.
pub fn conflict(a: &[Claim], b: &[Claim]) -> bool {
    a.iter().any(|a| b.iter().any(|b| pair(a, b)))
}

fn pair(a: &Claim, b: &Claim) -> bool {
    match (a, b) {
        (Claim::Shared(_), Claim::Shared(_)) => false,
        (Claim::Tree(a), Claim::Tree(b)) => a.is_within(b) || b.is_within(a),
        (Claim::Tree(tree), Claim::Shared(path) | Claim::Exclusive(path))
        | (Claim::Shared(path) | Claim::Exclusive(path), Claim::Tree(tree)) => path.is_within(tree),
        (Claim::Shared(a) | Claim::Exclusive(a), Claim::Shared(b) | Claim::Exclusive(b)) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_writers_do_not_and_a_moved_folder_excludes_all_below() {
        let path = |p: &str| RemotePath::parse(p.as_bytes()).unwrap();
        let (shared, exclusive) = (|p| [Claim::Shared(path(p))], |p| [Claim::Exclusive(path(p))]);
        assert!(!conflict(&shared("/a"), &shared("/a")));
        assert!(conflict(&shared("/a"), &exclusive("/a")));
        assert!(!conflict(&exclusive("/a"), &exclusive("/b")));
        assert!(!conflict(&exclusive("/a"), &exclusive("/a/b")));
        assert!(conflict(&[Claim::Tree(path("/a"))], &shared("/a/b/c")));
        assert!(!conflict(&[Claim::Tree(path("/a"))], &shared("/ab")));
        assert!(conflict(&[Claim::Tree(path("/a/b"))], &[Claim::Tree(path("/a"))]));
    }
}
