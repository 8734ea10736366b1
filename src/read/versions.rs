//! What the server said of each content when its first bytes came: so that bytes of another one are never put beside them.
//!
//! Listings do not serve as the measure. They may be old, tell minutes only, or differ from the answers to SIZE and MDTM
//! for reasons of the server's own. So the first answer to a question is kept, and the same question must get the same
//! answer later. A content that came in one transfer without being asked about is held against its listing.

use std::num::NonZeroUsize;
use std::time::SystemTime;

use lru::LruCache;

use super::{Content, UNKNOWN_SIZE};
use crate::ftp::{Error, Told};
use crate::lock::Mutex;
use crate::tree::{Ino, Version};

/// Of the contents that were read last.
pub(super) struct Versions(Mutex<LruCache<(Ino, Version), Told>>);

impl Default for Versions {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl Versions {
    /// Whether bytes of this content were given out before.
    pub(super) fn knows(&self, content: &Content) -> bool {
        self.0.lock().contains(&(content.ino, content.version))
    }

    /// The time that the server told when the first bytes came; none when none have come, or it tells none.
    pub(super) fn modified(&self, content: &Content) -> Option<SystemTime> {
        self.0.lock().peek(&(content.ino, content.version)).and_then(|told| told.modified)
    }

    /// The first bytes of a content come, and this is all that is known of it.
    pub(super) fn note(&self, content: &Content, modified: Option<SystemTime>) {
        let size = (content.size != UNKNOWN_SIZE).then_some(content.size);
        self.0.lock().get_or_insert((content.ino, content.version), || Told { size, modified });
    }

    /// Compares what the server says now with what it said at first.
    ///
    /// # Errors
    /// `Replaced` when it is another content.
    pub(super) fn check(&self, content: &Content, told: Told) -> Result<(), Error> {
        let mut known = self.0.lock();
        let Some(first) = known.get_mut(&(content.ino, content.version)) else {
            // It may have grown since it was listed; what is missing at its end can not be read.
            if content.size != UNKNOWN_SIZE && told.size.is_some_and(|size| size < content.size) {
                return Err(Error::Replaced(told));
            }
            known.put((content.ino, content.version), told);
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
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16 * 1024).unwrap();

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
