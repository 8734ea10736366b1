//! Modification times to the second, where listings tell minutes or days.
//!
//! rsync, make and git compare seconds, and a time that is `12:34:00` now and `12:34:56` a moment later would make them
//! send everything twice; so `stat` is never answered with less than can be had. MDTM tells the second of one file. The
//! first `stat` in a folder asks for a thousand files, from the one that is wanted on; for whoever follows the answers from
//! file to file (`ls -l`) all the others are asked for behind them. Commands follow one another without waiting, where the
//! server bears it, and everybody is answered as soon as their own file's time is in.
//!
//! MDTM speaks UTC and LIST mostly the server's local time: the first times that are in tell the difference, which
//! corrects all later listings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::debug;

use super::{FileSystem, Then};
use crate::ftp::{Error, Kind, Listing, Modified, Name, Precision, RemotePath, Session};
use crate::lock::Mutex;
use crate::queue::{Job, Priority, Turn, Until};
use crate::tree::Ino;

/// What is being asked for, and what is known of the server's zone.
#[derive(Default)]
pub struct Times {
    /// Per folder what is being asked for.
    folders: Mutex<HashMap<Ino, Asking>>,
    zone: Mutex<Zone>,
}

/// The times of one folder's files, being asked for.
struct Asking {
    /// Up to when anybody waits.
    until: Until,
    /// Who waits for the time of which file.
    waiting: Vec<(Ino, Then)>,
    /// The files, in the order in which they are asked for.
    places: HashMap<Ino, usize>,
    /// How many of them have been answered.
    answered: usize,
    /// How many of them may be asked for.
    allowed: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Zone {
    /// Seconds that LIST's times are ahead of, as far as MDTM has shown.
    offset: i64,
    /// Listings from before this moment were not corrected by it.
    learned: Option<Instant>,
}

impl FileSystem {
    /// Learns the time of `file` in `folder` to the second, and those of its neighbours; `then` is called when the tree has
    /// what could be had.
    pub(super) fn refresh_times(&self, folder: Ino, file: Ino, then: Then) {
        let until = Until::from(self.deadline());
        {
            let tree = self.tree.lock();
            let is_coarse = tree.node(file).is_some_and(|node| node.has_coarse_time());
            let mut folders = self.times.folders.lock();
            match folders.get_mut(&folder) {
                Some(asking) if is_coarse => {
                    asking.until.extend(self.deadline());
                    return asking.join(file, then);
                }
                None if is_coarse => {
                    let waiting = vec![(file, then)];
                    folders.insert(folder, Asking::new(waiting, until.clone()));
                }
                _ => {
                    drop(folders);
                    drop(tree);
                    return then(self, Ok(()));
                }
            }
        }
        let Some(fs) = self.arc() else { return };
        let (files, first) = self.coarse_files(folder, file);
        if files.iter().all(|(asked, _)| *asked != file) {
            return self.leave_coarse(folder, file);
        }
        let allowed = Arc::new(AtomicUsize::new(first));
        if let Some(asking) = self.times.folders.lock().get_mut(&folder) {
            asking.places = files.iter().enumerate().map(|(place, (ino, _))| (*ino, place)).collect();
            asking.allowed = allowed.clone();
        }
        let end = {
            let fs = fs.clone();
            move |outcome: Result<(), Error>| {
                let left = fs.times.folders.lock().remove(&folder);
                for (file, then) in left.into_iter().flat_map(|left| left.waiting) {
                    match &outcome {
                        // They came when others were being asked for.
                        Ok(()) if fs.is_coarse(file) => fs.refresh_times(folder, file, then),
                        outcome => then(&fs, outcome.clone()),
                    }
                }
            }
        };
        let paths: Vec<RemotePath> = files.iter().map(|(_, path)| path.clone()).collect();
        let attempt = move |session: &mut Session, _: &Turn<'_>| {
            let allowed = || allowed.load(Ordering::Relaxed);
            session.exact_times(&paths, &allowed, &mut |at, times| {
                fs.take_times(folder, files.get(at..).unwrap_or_default(), times);
            })
        };
        self.submit(Job::new(Priority::Names, attempt, end).until(until));
    }

    /// A file that is no longer in its folder, or whose folder is gone, cannot be asked about.
    fn leave_coarse(&self, folder: Ino, file: Ino) {
        self.tree.lock().accept_coarse_time(file);
        let left = self.times.folders.lock().remove(&folder);
        for (file, then) in left.into_iter().flat_map(|left| left.waiting) {
            self.refresh_times(folder, file, then);
        }
    }

    /// Takes over times, and answers those who waited for them.
    fn take_times(&self, folder: Ino, files: &[(Ino, RemotePath)], times: &[Option<Modified>]) {
        self.learn_zone(folder, files, times);
        let mut tree = self.tree.lock();
        for ((ino, _), time) in files.iter().zip(times) {
            match time {
                Some(time) => drop(tree.apply_time(*ino, *time)),
                None => tree.accept_coarse_time(*ino),
            }
        }
        let mut folders = self.times.folders.lock();
        let Some(asking) = folders.get_mut(&folder) else { return };
        asking.answered += times.len();
        let coarse = |file: Ino| tree.node(file).is_some_and(|node| node.has_coarse_time());
        let (rest, answered): (Vec<_>, Vec<_>) =
            asking.waiting.drain(..).partition(|(file, _)| coarse(*file));
        asking.waiting = rest;
        drop(folders);
        drop(tree);
        for (_, then) in answered {
            then(self, Ok(()));
        }
    }

    fn is_coarse(&self, file: Ino) -> bool {
        self.tree.lock().node(file).is_some_and(|node| node.has_coarse_time())
    }

    /// The files of a folder whose time is only known in minutes or days, from `around` on, and how many of them to ask for
    /// at first: all, when somebody has come so far.
    fn coarse_files(&self, folder: Ino, around: Ino) -> (Vec<(Ino, RemotePath)>, usize) {
        let tree = self.tree.lock();
        let (Some(path), Some(entries)) = (tree.path(folder), tree.entries_as_listed(folder)) else {
            return (Vec::new(), 0);
        };
        let is_file = |ino| tree.node(ino).is_some_and(|node| node.attributes.kind == Kind::File);
        let is_coarse = |ino| tree.node(ino).is_some_and(|node| node.has_coarse_time());
        let mut files: Vec<(&Name, Ino)> =
            entries.iter().map(|(name, ino)| (name, *ino)).filter(|&(_, ino)| is_file(ino)).collect();
        let first = files.iter().position(|&(_, ino)| ino == around).unwrap_or(0);
        let before = files.get(first.saturating_sub(AT_FIRST)..first).unwrap_or_default();
        let goes_on = before.len() == AT_FIRST && before.iter().all(|&(_, ino)| !is_coarse(ino));
        let many = self.features.answers_many_at_once();
        let most = if many { AT_MOST } else { AT_FIRST };
        files.rotate_left(first);
        let coarse = files.into_iter().filter(|&(_, ino)| is_coarse(ino)).take(most);
        let coarse = coarse.map(|(name, ino)| (ino, path.join(name))).collect();
        (coarse, if goes_on { most } else { AT_FIRST })
    }

    /// Corrects the times of a LIST by what is known of the server's zone.
    pub(super) fn correct_zone(&self, listing: &mut Listing) {
        let offset = self.times.zone.lock().offset;
        let coarse = listing.entries.iter_mut().filter_map(|entry| entry.modified.as_mut());
        for modified in coarse.filter(|modified| modified.precision == Precision::Minute) {
            modified.at = shift(modified.at, offset);
        }
    }

    /// Compares times that LIST told with those of MDTM: their difference, to the quarter of an hour, is the zone of
    /// LIST.
    fn learn_zone(&self, folder: Ino, files: &[(Ino, RemotePath)], exact: &[Option<Modified>]) {
        let tree = self.tree.lock();
        let listed = tree.node(folder).and_then(|node| node.folder.as_ref()?.listed);
        if self.times.zone.lock().learned.is_some_and(|learned| listed.is_none_or(|listed| listed < learned))
        {
            // This listing came before what is known now.
            return;
        }
        let mut seen = files.iter().zip(exact).filter_map(|((ino, _), exact)| {
            let known = &tree.node(*ino)?.attributes;
            (known.precision == Precision::Minute).then_some(())?;
            Some(quarters(known.modified, (*exact)?.at))
        });
        let Some(first) = seen.next().filter(|&first| first != 0) else { return };
        if !seen.all(|other| other == first) || first.abs() > MAX_ZONE {
            return;
        }
        drop(tree);
        let mut zone = self.times.zone.lock();
        zone.offset += first * QUARTER;
        zone.learned = Some(Instant::now());
        debug!("LIST tells local time: {} minutes from UTC", zone.offset / 60);
    }
}

impl Asking {
    fn new(waiting: Vec<(Ino, Then)>, until: Until) -> Self {
        Self { until, waiting, places: HashMap::new(), answered: 0, allowed: Arc::default() }
    }

    /// Somebody else waits for `file`. Whoever follows the answers closely goes over the whole folder.
    fn join(&mut self, file: Ino, then: Then) {
        if let Some(&place) = self.places.get(&file)
            && (CLOSELY..=self.answered + CLOSELY).contains(&place)
        {
            self.allowed.store(usize::MAX, Ordering::Relaxed);
        }
        self.waiting.push((file, then));
    }
}

fn shift(at: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { at.checked_sub(by) } else { at.checked_add(by) }.unwrap_or(at)
}

/// How many quarters of an hour `exact` is after `coarse`, which was rounded down to the minute.
fn quarters(coarse: SystemTime, exact: SystemTime) -> i64 {
    let seconds = match exact.duration_since(coarse) {
        Ok(after) => after.as_secs() as i64,
        Err(before) => -(before.duration().as_secs() as i64),
    };
    seconds.div_euclid(QUARTER)
}

/// Files whose times are asked for when the first of them is looked at: they cost about as much as one listing.
const AT_FIRST: usize = 1024;
/// And when somebody goes on: one job must not keep a connection for long.
const AT_MOST: usize = 16_384;
/// Files between what has been answered and who asks: `ls -l` asks for the next one each time.
const CLOSELY: usize = 64;
/// Zones differ from UTC by whole quarters of an hour.
const QUARTER: i64 = 900;
/// 26 hours: no zone is further away, so it is something else.
const MAX_ZONE: i64 = 26 * 4;
