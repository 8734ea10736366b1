//! Reading ahead over files and folders: what a program will probably ask for next is fetched before it does.
//!
//! `cp -r`, `grep -r`, `cat *` open the files of a folder one after another, `find`, `du`, `git status` list its
//! sub-folders one after another. Each of them waits a round trip or two for every single one, while the other
//! connections are idle. So the order of a folder's children is kept as it is handed out ([`Walk`]), and once a
//! program has taken two neighbours, the ones that follow come ahead: twice as many with every step that
//! confirms the guess, within a budget of bytes. Small files come whole, of large ones the beginning.
//!
//! A guess costs nobody anything. What is fetched ahead is the least urgent work of the queue, which leaves one
//! connection free of it; a job asks whether it is still wanted before it sends its first command; a program that
//! jumps somewhere else ends the walk, and what was planned for it. Nothing is fetched ahead with `no_prefetch`, or on
//! a single connection.
//!
//! Called by `folders` and `reading`, when a folder or a file is opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::FileSystem;
use crate::ftp::Kind;
use crate::lock::Mutex;
use crate::read::{Wanted, ahead_bytes};
use crate::tree::Ino;

/// Who walks where.
#[derive(Default)]
pub struct Ahead {
    files: Walks,
    folders: Walks,
    /// Whoever walks over folders reads the files in them, too.
    reads_all: AtomicBool,
}

type Walks = Mutex<HashMap<Ino, Walk>>;

/// A program's way over the children of one folder.
struct Walk {
    order: Vec<Ino>,
    places: HashMap<Ino, usize>,
    /// How many steps in a row went to a next neighbour.
    streak: u32,
    /// The first child that has not been asked for.
    next: usize,
    place: Arc<Place>,
    last: Ino,
    used: Instant,
}

/// Where the program is: what was planned looks here whether it is still wanted.
#[derive(Default)]
struct Place {
    at: AtomicUsize,
    ended: AtomicBool,
}

impl FileSystem {
    /// A file was opened for reading.
    pub(super) fn reads_ahead_of(&self, ino: Ino) {
        if !self.options.prefetch {
            return;
        }
        let Some(folder) = self.tree.lock().node(ino).and_then(|node| node.parent) else { return };
        let above = self.tree.lock().node(folder).and_then(|node| node.parent);
        let walking = above.is_some_and(|above| is_walked(&self.ahead.folders, above, folder));
        let confident = walking && self.ahead.reads_all.load(Ordering::Relaxed);
        let step = self.step(&self.ahead.files, folder, ino, Kind::File, confident);
        match step.streak {
            0 if !step.is_first => self.ahead.reads_all.store(false, Ordering::Relaxed),
            0 | 1 => {}
            _ => self.ahead.reads_all.store(true, Ordering::Relaxed),
        }
        for (ino, wanted) in step.next {
            if self.drafts.find(ino).is_none()
                && let Ok(content) = self.content(ino)
            {
                self.reads.fetch_ahead(&content, wanted);
            }
        }
    }

    /// A folder was opened.
    pub(super) fn lists_ahead_of(&self, folder: Ino) {
        if !self.options.prefetch || !self.queue.plans_ahead() {
            return;
        }
        let Some(parent) = self.tree.lock().node(folder).and_then(|node| node.parent) else { return };
        let above = self.tree.lock().node(parent).and_then(|node| node.parent);
        let confident = above.is_some_and(|above| is_walked(&self.ahead.folders, above, parent));
        let step = self.step(&self.ahead.folders, parent, folder, Kind::Directory, confident);
        let now = Instant::now();
        let tree = self.tree.lock();
        let unlisted = step.next.into_iter().filter(|(folder, _)| !tree.is_listed(*folder, now)).collect();
        let entries = step.before.and_then(|before| tree.known_size(before)).unwrap_or(0);
        drop(tree);
        self.refresh_ahead(unlisted, entries);
    }

    /// Notes that `child` of `folder` was opened; tells what to fetch now.
    fn step(&self, walks: &Walks, folder: Ino, child: Ino, kind: Kind, confident: bool) -> Step {
        let now = Instant::now();
        let mut walks = walks.lock();
        let walk = walks.entry(folder).or_insert_with(|| Walk::new(child, now));
        let is_first = walk.last == child && walk.streak == 0;
        walk.used = now;
        if is_first && !confident {
            forget_oldest(&mut walks);
            return Step { streak: 0, is_first, before: None, next: Vec::new() };
        }
        if !walk.places.contains_key(&child) {
            // The second neighbour, or the folder has changed.
            let order = self.tree.lock().in_order(folder, kind);
            walk.reorder(order);
        }
        let before = Some(walk.last);
        walk.advance(child, confident);
        let (first, most) = if kind == Kind::File { (FILES, MOST_FILES) } else { (FOLDERS, MOST_FOLDERS) };
        let count = if walk.streak == 0 { 0 } else { (first << walk.streak.min(16)).min(most) };
        let from = walk.place.at.load(Ordering::Relaxed) + 1;
        // Folders come in groups: not one more with every step.
        let enough = kind == Kind::Directory && walk.next.saturating_sub(from) > count / 2;
        let count = if enough { 0 } else { count };
        let budget = FIRST_BYTES << (2 * walk.streak.min(8));
        let mut budget = budget.min(MOST_BYTES).min(self.options.cache_size / 4);
        let mut next = Vec::new();
        let tree = self.tree.lock();
        for (at, &ino) in walk.order.iter().enumerate().skip(from).take(count) {
            let size = match kind {
                Kind::File => tree.node(ino).map_or(0, |node| ahead_bytes(node.attributes.size)),
                _ => 0,
            };
            if size > budget {
                break;
            }
            budget -= size;
            if at >= walk.next {
                walk.next = at + 1;
                let place = walk.place.clone();
                let wanted: Wanted = Arc::new(move || place.is_before(at));
                next.push((ino, wanted));
            }
        }
        drop(tree);
        let streak = walk.streak;
        forget_oldest(&mut walks);
        Step { streak, is_first, before, next }
    }
}

struct Step {
    streak: u32,
    is_first: bool,
    /// The child opened before this one.
    before: Option<Ino>,
    next: Vec<(Ino, Wanted)>,
}

impl Walk {
    fn new(first: Ino, now: Instant) -> Self {
        Self {
            order: Vec::new(),
            places: HashMap::new(),
            streak: 0,
            next: 0,
            place: Arc::default(),
            last: first,
            used: now,
        }
    }

    fn reorder(&mut self, order: Vec<Ino>) {
        self.places = order.iter().enumerate().map(|(at, &ino)| (ino, at)).collect();
        self.order = order;
        let at = self.places.get(&self.last).copied().unwrap_or(0);
        self.place.at.store(at, Ordering::Relaxed);
        self.next = at + 1;
    }

    /// The program has gone to `child`.
    fn advance(&mut self, child: Ino, confident: bool) {
        let Some(&at) = self.places.get(&child) else { return };
        let from = self.place.at.load(Ordering::Relaxed);
        if child == self.last {
            // Opened once more; or the first step of somebody who is known to go on.
            self.streak = self.streak.max(u32::from(confident));
        } else if at > from && at - from <= SKIPPED {
            self.streak += 1;
        } else {
            self.streak = 0;
            self.next = at + 1;
            // What was planned from the place before is not wanted any more.
            self.place.ended.store(true, Ordering::Relaxed);
            self.place = Arc::default();
        }
        self.place.at.store(at, Ordering::Relaxed);
        self.next = self.next.max(at + 1);
        self.last = child;
    }
}

impl Place {
    /// Whether the program has not yet passed `at`, and is still on its way.
    fn is_before(&self, at: usize) -> bool {
        !self.ended.load(Ordering::Relaxed) && self.at.load(Ordering::Relaxed) <= at
    }
}

/// Whether `child` is where somebody is who goes over the children of `folder` one after another.
fn is_walked(walks: &Walks, folder: Ino, child: Ino) -> bool {
    walks.lock().get(&folder).is_some_and(|walk| walk.streak > 0 && walk.last == child)
}

fn forget_oldest(walks: &mut HashMap<Ino, Walk>) {
    if walks.len() > WALKS
        && let Some(oldest) = walks.iter().min_by_key(|(_, walk)| walk.used).map(|(&ino, _)| ino)
    {
        walks.remove(&oldest);
    }
}

/// Twice this many files come ahead after the first step to a neighbour: one for each of eight connections.
const FILES: usize = 4;
/// Enough to keep eight connections busy between two steps of a slow program.
const MOST_FILES: usize = 64;
/// As for files: listings are small, and on some servers a group of them costs what one costs.
const FOLDERS: usize = 16;
const MOST_FOLDERS: usize = 256;
/// A quarter of what comes ahead after the first step, in bytes.
const FIRST_BYTES: u64 = 512 * 1024;
/// Bytes that may be here ahead of the program.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// A program that leaves out this many is still on its way: cp and grep skip what they are told to.
const SKIPPED: usize = 4;
/// Folders whose walks are remembered.
const WALKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(last: u64) -> Walk {
        let mut walk = Walk::new(Ino(last), Instant::now());
        walk.reorder((10..30).map(Ino).collect());
        walk
    }

    #[test]
    fn neighbours_confirm_the_guess_and_a_jump_ends_it() {
        let mut walk = walk(10);
        walk.advance(Ino(11), false);
        walk.advance(Ino(13), false);
        assert_eq!(walk.streak, 2);
        let planned = walk.place.clone();
        assert!(planned.is_before(5) && !planned.is_before(2), "what lies behind is not wanted");
        walk.advance(Ino(29), false);
        assert_eq!(walk.streak, 0);
        assert!(!planned.is_before(5));
        walk.advance(Ino(28), false);
        assert_eq!(walk.streak, 0, "backwards is not the order in which we hand out");
    }

    #[test]
    fn opening_the_same_again_is_no_step() {
        let mut walk = walk(10);
        walk.advance(Ino(11), false);
        walk.advance(Ino(11), false);
        assert_eq!(walk.streak, 1);
    }
}
