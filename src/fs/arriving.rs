//! A huge folder whose listing is still on its way: its first entries are handed out before the last have come.
//!
//! opendir waits for a listing, which is right for nearly all folders: their entries come sorted, and all at once. A
//! hundred thousand names take seconds, though, and `ls -U`, `find` and every program that looks for one name can begin
//! with the first thousand. So opendir is answered when these are there; readdir hands them out in the server's order, and
//! waits where it has come to the end of what is known so far. What this mount has that the listing does not (files not
//! yet sent) comes last.
//!
//! Used by `folders`.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::handles::{Fh, Handle};
use super::{Answer, Caller, FileSystem, Then};
use crate::ftp::{Error, Name};
use crate::tree::{Ino, Tree};

/// The entries so far of a folder.
pub struct Arriving {
    folder: Ino,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<(Name, Ino)>,
    seen: HashSet<Ino>,
    /// How it came to its end.
    outcome: Option<Result<(), Error>>,
    /// Who has read everything that is here.
    readers: Vec<Then>,
}

impl Arriving {
    pub fn new(folder: Ino) -> Self {
        Self { folder, state: Mutex::default() }
    }

    /// More entries have come. One that a repeated listing brings again counts once. Gives those who wait for them.
    pub fn add(&self, entries: &[(Name, Ino)]) -> Vec<Then> {
        let mut state = self.state.lock();
        for (name, ino) in entries {
            if state.seen.insert(*ino) {
                state.entries.push((name.clone(), *ino));
            }
        }
        std::mem::take(&mut state.readers)
    }

    /// The listing has ended. Gives those who wait for it.
    pub fn end(&self, outcome: Result<(), Error>) -> Vec<Then> {
        let mut state = self.state.lock();
        state.outcome = Some(outcome);
        // Only the entries are of use from now on.
        state.seen = HashSet::new();
        std::mem::take(&mut state.readers)
    }

    /// Some entries, beginning with the first from `at` on that is still there, and the place of that one; none at the end.
    /// What has been removed since it was listed must not fill an answer: one without an entry is the end of the folder.
    pub fn from(&self, at: usize, tree: &Tree) -> (usize, Vec<(Name, Ino)>) {
        let state = self.state.lock();
        let at = state.next(at, tree, self.folder).unwrap_or(state.entries.len());
        (at, state.entries.iter().skip(at).take(AT_ONCE).cloned().collect())
    }

    /// Calls `then` when there is an entry at `at` or behind it, or will never be.
    fn wait_for(&self, fs: &FileSystem, at: usize, then: Then) {
        let tree = fs.tree.lock();
        let mut state = self.state.lock();
        let outcome = match &state.outcome {
            _ if state.next(at, &tree, self.folder).is_some() => Ok(()),
            Some(outcome) => outcome.clone(),
            None => return state.readers.push(then),
        };
        drop((state, tree));
        then(fs, outcome);
    }
}

impl State {
    /// The place of the first entry from `at` on that is still there.
    fn next(&self, at: usize, tree: &Tree, folder: Ino) -> Option<usize> {
        let mut left = self.entries.iter().enumerate().skip(at);
        left.find(|(_, (name, ino))| tree.is_at(*ino, folder, name)).map(|(at, _)| at)
    }
}

impl FileSystem {
    /// Answers when [`FileSystem::read_folder`] has something to give at this place of the folder, or knows that it ends
    /// there: for nearly all folders at once.
    pub fn await_entries(&self, caller: Caller, handle: Fh, offset: u64, answer: Answer<()>) {
        if offset < super::folders::DOTS {
            return if offset == 0 { self.rewind(caller, handle, answer) } else { answer.ok(()) };
        }
        let Some((folder, arriving)) = self.arriving(handle) else { return answer.ok(()) };
        let answer = self.hold(caller, answer);
        self.await_arriving(folder, arriving, (offset - super::folders::DOTS) as usize, answer);
    }

    fn await_arriving(&self, folder: Ino, arriving: Arc<Arriving>, at: usize, answer: Answer<()>) {
        let again = arriving.clone();
        let then: Then = Box::new(move |fs, outcome| match outcome {
            Err(error) => answer.error(fs.fail_at("list", folder, &error)),
            // Woken by entries that it had seen already.
            Ok(()) => fs.await_arriving_again(folder, again, at, answer),
        });
        arriving.wait_for(self, at, then);
    }

    fn await_arriving_again(&self, folder: Ino, arriving: Arc<Arriving>, at: usize, answer: Answer<()>) {
        let is_ready = {
            let tree = self.tree.lock();
            let state = arriving.state.lock();
            state.next(at, &tree, folder).is_some() || state.outcome.is_some()
        };
        if is_ready { answer.ok(()) } else { self.await_arriving(folder, arriving, at, answer) }
    }

    fn arriving(&self, handle: Fh) -> Option<(Ino, Arc<Arriving>)> {
        match self.handles.at(handle)? {
            Handle::Arriving { ino, entries } => Some((ino, entries)),
            _ => None,
        }
    }
}

/// About what fits into one answer to the kernel.
const AT_ONCE: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::ftp::{Kind, RemotePath};
    use crate::tree::Lifetimes;

    #[test]
    fn entries_that_come_again_count_once_and_the_end_is_told() {
        let root = RemotePath::root();
        let life = Duration::from_secs(1);
        let mut tree = Tree::new(root, Lifetimes { attributes: life, absence: life, listings: life });
        let mut name = |i: u64| {
            let name = Name::new(format!("{i}").as_bytes()).unwrap();
            let ino = tree.insert(Ino::ROOT, &name, Tree::fresh_attributes(Kind::File, None), Instant::now());
            (name, ino.unwrap())
        };
        let (one, two, three) = (name(1), name(2), name(3));
        let arriving = Arriving::new(Ino::ROOT);
        arriving.add(&[one, two.clone()]);
        arriving.add(&[two.clone(), three.clone()]);
        assert_eq!(arriving.from(1, &tree), (1, vec![two.clone(), three.clone()]));
        tree.remove(Ino::ROOT, &two.0, Instant::now());
        assert_eq!(arriving.from(1, &tree), (2, vec![three.clone()]));
        // Somebody has it open, and the kernel knows it.
        tree.remember(three.1);
        tree.remove(Ino::ROOT, &three.0, Instant::now());
        assert_eq!(arriving.from(1, &tree), (3, vec![]));
        arriving.end(Ok(()));
        assert!(arriving.from(3, &tree).1.is_empty());
    }
}
