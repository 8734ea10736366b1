//! What the server said of each content when its first bytes came: so that bytes of another one are never put beside them.
//!
//! Listings do not serve as the measure. They may be old, tell minutes only, or differ from the answers to SIZE and MDTM
//! for reasons of the server's own. So the first answer to a question is kept, and the same question must get the same
//! answer later. A content that came in one transfer without being asked about is held against its listing.

use std::collections::HashSet;
use std::time::SystemTime;

use lru::LruCache;

use super::{Content, UNKNOWN_SIZE};
use crate::ftp::{Error, Told};
use crate::lock::Mutex;
use crate::tree::{Ino, Version};

/// Of the contents that were read last, and of all files that are open.
pub(super) struct Versions(Mutex<Known>);

struct Known {
    told: LruCache<(Ino, Version), Told>,
    open: HashSet<Ino>,
}

impl Default for Versions {
    fn default() -> Self {
        Self(Mutex::new(Known { told: LruCache::unbounded(), open: HashSet::new() }))
    }
}

impl Known {
    fn evict(&mut self) {
        for _ in 0..TRIES {
            if self.told.len() <= REMEMBERED {
                return;
            }
            let Some((content, told)) = self.told.pop_lru() else { return };
            if self.open.contains(&content.0) {
                self.told.put(content, told);
            }
        }
    }
}

impl Versions {
    /// A file is open: what is known of it is kept, however long nothing of it is fetched.
    pub(super) fn opened(&self, ino: Ino) {
        self.0.lock().open.insert(ino);
    }

    /// Nobody has it open any more.
    pub(super) fn closed(&self, ino: Ino) {
        self.0.lock().open.remove(&ino);
    }

    /// Whether bytes of this content were given out before.
    pub(super) fn knows(&self, content: &Content) -> bool {
        self.0.lock().told.contains(&(content.ino, content.version))
    }

    /// The time that the server told when the first bytes came; none when none have come, or it tells none.
    pub(super) fn modified(&self, content: &Content) -> Option<SystemTime> {
        self.0.lock().told.peek(&(content.ino, content.version)).and_then(|told| told.modified)
    }

    /// The first bytes of a content come, and this is all that is known of it.
    pub(super) fn note(&self, content: &Content, modified: Option<SystemTime>) {
        let size = (content.size != UNKNOWN_SIZE).then_some(content.size);
        let mut known = self.0.lock();
        known.told.get_or_insert((content.ino, content.version), || Told { size, modified });
        known.evict();
    }

    /// Compares what the server says now with what it said at first.
    ///
    /// # Errors
    /// `Replaced` when it is another content.
    pub(super) fn check(&self, content: &Content, told: Told) -> Result<(), Error> {
        let mut known = self.0.lock();
        let Some(first) = known.told.get_mut(&(content.ino, content.version)) else {
            // It may have grown since it was listed; what is missing at its end can not be read.
            if content.size != UNKNOWN_SIZE && told.size.is_some_and(|size| size < content.size) {
                return Err(Error::Replaced(told));
            }
            known.told.put((content.ino, content.version), told);
            known.evict();
            return Ok(());
        };
        let differs = |a: Option<u64>, b: Option<u64>| a.is_some() && b.is_some() && a != b;
        let is_later = first.modified.zip(told.modified).is_some_and(|(a, b)| a != b);
        if differs(first.size, told.size) || is_later {
            return Err(Error::Replaced(told));
        }
        first.size = first.size.or(told.size);
        first.modified = first.modified.or(told.modified);
        Ok(())
    }
}

/// About 80 bytes each.
const REMEMBERED: usize = 16 * 1024;
/// So many open files are passed over for one that comes; where nearly all are open, more are remembered.
const TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn content(version: u64, size: u64) -> Content {
        Content { ino: Ino(5), version: Version(version), size, modified: None, locate: Arc::new(|| None) }
    }

    fn told(size: u64, second: u64) -> Told {
        Told { size: Some(size), modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)) }
    }

    #[test]
    fn the_same_question_must_get_the_same_answer() {
        let versions = Versions::default();
        let content = content(1, 100);
        assert!(!versions.knows(&content));
        versions.check(&content, told(100, 7)).unwrap();
        assert!(versions.knows(&content));
        versions.check(&content, told(100, 7)).unwrap();
        versions.check(&content, Told::default()).unwrap();
        assert!(matches!(versions.check(&content, told(100, 8)), Err(Error::Replaced(_))));
        assert!(matches!(versions.check(&content, told(101, 7)), Err(Error::Replaced(_))));
    }

    #[test]
    fn what_is_known_of_an_open_file_outlives_any_number_of_others() {
        let versions = Versions::default();
        let (open, closed) = (content(1, 100), Content { ino: Ino(6), ..content(1, 100) });
        let others = |from: u64| {
            for ino in from..from + 2 * REMEMBERED as u64 {
                versions.note(&Content { ino: Ino(ino), ..content(1, 100) }, None);
            }
        };
        versions.opened(open.ino);
        versions.check(&open, told(100, 7)).unwrap();
        versions.check(&closed, told(100, 7)).unwrap();
        others(1000);
        assert!(!versions.knows(&closed));
        assert!(matches!(versions.check(&open, told(100, 8)), Err(Error::Replaced(_))));
        versions.closed(open.ino);
        others(1_000_000);
        assert!(!versions.knows(&open));
        assert!(versions.0.lock().told.len() <= REMEMBERED);
    }

    #[test]
    fn what_was_read_unasked_is_held_against_its_listing() {
        let versions = Versions::default();
        let content = content(1, 100);
        versions.note(&content, None);
        assert!(matches!(versions.check(&content, told(99, 7)), Err(Error::Replaced(_))));
        versions.check(&content, told(100, 7)).unwrap();
        assert!(matches!(versions.check(&content, told(100, 8)), Err(Error::Replaced(_))));
    }

    #[test]
    fn a_content_that_has_grown_before_its_first_byte_came_is_read_up_to_the_size_that_was_listed() {
        let versions = Versions::default();
        versions.check(&content(1, 100), told(150, 7)).unwrap();
        assert!(matches!(versions.check(&content(2, 100), told(50, 7)), Err(Error::Replaced(_))));
        versions.check(&content(3, UNKNOWN_SIZE), told(50, 7)).unwrap();
    }
}
