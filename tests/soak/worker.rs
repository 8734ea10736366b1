//! A program of the soak: it works in a folder of its own, and knows what is in every file of it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::calls::Tally;
use super::dice::Dice;
/// A program that works in a folder of its own.
pub struct Worker<'t> {
    folder: PathBuf,
    dice: Dice,
    tally: &'t Tally,
    pub known: BTreeMap<String, Vec<u8>>,
    pub doubtful: Vec<Doubt>,
    names: u64,
}

/// A file whose call failed.
pub enum Doubt {
    /// As before (none: no such file) or as it should be.
    Replaced {
        name: String,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
    },
    /// As before, with nothing, all or the beginning of what was to be added.
    Grown {
        name: String,
        old: Vec<u8>,
        more: Vec<u8>,
    },
    Removed {
        name: String,
        old: Vec<u8>,
    },
    Moved {
        from: String,
        to: String,
        content: Vec<u8>,
    },
}

impl Doubt {
    /// The file as it is when the call has succeeded; none when it is gone.
    fn done(self) -> Option<(String, Vec<u8>)> {
        match self {
            Self::Replaced { name, new, .. } => Some((name, new)),
            Self::Grown { name, old, more } => Some((name, [old, more].concat())),
            Self::Removed { .. } => None,
            Self::Moved { to, content, .. } => Some((to, content)),
        }
    }

    pub fn check(&self, root: &Path) {
        let read = |name: &String| fs::read(root.join(name)).ok();
        match self {
            Self::Replaced { name, old: Some(old), new } => {
                let found = read(name);
                assert!(
                    found.as_ref().is_some_and(|found| found == old || found == new),
                    "LOST: {name}: neither the {} bytes of before nor the {} new ones: {:?}",
                    old.len(),
                    new.len(),
                    found.map(|found| found.len())
                );
            }
            // A new file may have come in part: the program was told that it failed.
            Self::Replaced { name, old: None, new } => {
                let found = read(name).unwrap_or_default();
                assert!(new.starts_with(&found), "LOST: {name}: something that nobody wrote");
            }
            Self::Grown { name, old, more } => {
                let found = read(name).unwrap_or_default();
                let whole = [&old[..], more].concat();
                assert!(
                    found.starts_with(old) && whole.starts_with(&found),
                    "LOST: {name}: {} bytes",
                    found.len()
                );
            }
            Self::Removed { name, old } => {
                assert!(read(name).is_none_or(|found| found == *old), "LOST: {name}");
            }
            Self::Moved { from, to, content } => {
                let (at_from, at_to) = (read(from), read(to));
                let found = at_from.is_some() as u8 + at_to.is_some() as u8;
                let right = at_from.or(at_to).is_some_and(|found| found == *content);
                assert!(found == 1 && right, "LOST: {from} -> {to}: {found} of them are there");
            }
        }
    }
}

impl<'t> Worker<'t> {
    pub fn new(folder: PathBuf, seed: u64, tally: &'t Tally) -> Self {
        let dice = Dice::new(seed);
        Self { folder, dice, tally, known: BTreeMap::new(), doubtful: Vec::new(), names: 0 }
    }

    pub fn step(&mut self) {
        let outcome = self.act();
        self.tally.operations.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.tally.errors.fetch_add(1, Ordering::Relaxed);
            // What is there must not be said not to be.
            assert_ne!(
                error.kind(),
                io::ErrorKind::NotFound,
                "LOST: a file that is there was not found: {error}"
            );
        }
    }

    fn act(&mut self) -> io::Result<()> {
        let roll = self.dice.below(100);
        let Some(name) = self.any() else { return self.make() };
        let at = self.folder.join(&name);
        let old = self.known[&name].clone();
        match roll {
            0..20 if self.known.len() < FILES => self.make(),
            0..25 => {
                let new = self.content();
                self.known.remove(&name);
                let stored = self.tally.store(&at, &new);
                self.note(stored, Doubt::Replaced { name, old: Some(old), new })
            }
            25..40 => {
                let more = self.content();
                self.known.remove(&name);
                let open = || OpenOptions::new().append(true).open(&at);
                let added = self.tally.call("open to append", &at, open).and_then(|file| {
                    self.tally.write(&at, &file, &more)?;
                    self.tally.close(&at, file)
                });
                self.note(added, Doubt::Grown { name, old, more })
            }
            40..50 => {
                let patch = self.content();
                let offset = self.dice.below(old.len() as u64 + 1) as usize;
                let mut new = old.clone();
                new.resize(new.len().max(offset + patch.len()), 0);
                new[offset..offset + patch.len()].copy_from_slice(&patch);
                self.known.remove(&name);
                let open = || OpenOptions::new().write(true).open(&at);
                let patched = self.tally.call("open to patch", &at, open).and_then(|file| {
                    self.tally.patch(&at, &file, offset as u64, &patch)?;
                    self.tally.close(&at, file)
                });
                self.note(patched, Doubt::Replaced { name, old: Some(old), new })
            }
            50..58 => {
                let to = self.fresh();
                self.known.remove(&name);
                let moved = self.tally.call("rename", &at, || fs::rename(&at, self.folder.join(&to)));
                self.note(moved, Doubt::Moved { from: name, to, content: old })
            }
            58..64 => {
                self.known.remove(&name);
                let removed = self.tally.call("unlink", &at, || fs::remove_file(&at));
                self.note(removed, Doubt::Removed { name, old })
            }
            64..72 => {
                let names = self.tally.names(&self.folder)?;
                let missing: Vec<_> = self.known.keys().filter(|name| !names.contains(name)).collect();
                assert!(missing.is_empty(), "LOST from a listing: {missing:?} of {names:?}");
                Ok(())
            }
            72..76 => {
                let name = self.fresh();
                let deep = self.folder.join(name);
                self.tally.call("mkdir", &deep, || fs::create_dir(&deep))?;
                self.tally.call("rmdir", &deep, || fs::remove_dir(&deep))
            }
            _ => {
                let found = self.tally.read(&at)?;
                assert!(found == old, "LOST: {name}: {} bytes instead of {}", found.len(), old.len());
                self.tally.compared.fetch_add(found.len() as u64, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn make(&mut self) -> io::Result<()> {
        let (name, new) = (self.fresh(), self.content());
        let stored = self.tally.store(&self.folder.join(&name), &new);
        self.note(stored, Doubt::Replaced { name, old: None, new })
    }

    /// What a change has come to: what is known from now on, or in doubt.
    fn note(&mut self, outcome: io::Result<()>, doubt: Doubt) -> io::Result<()> {
        match &outcome {
            Ok(()) => self.known.extend(doubt.done()),
            Err(_) => self.doubtful.push(doubt),
        }
        outcome
    }

    fn any(&mut self) -> Option<String> {
        let at = self.dice.below(self.known.len().max(1) as u64) as usize;
        self.known.keys().nth(at).cloned()
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("f{}", self.names)
    }

    fn content(&mut self) -> Vec<u8> {
        let length = match self.dice.below(10) {
            0 => self.dice.below(2_000_000),
            1..4 => self.dice.below(200_000),
            _ => self.dice.below(5_000),
        };
        let word = self.dice.below(u64::MAX).to_le_bytes();
        word.iter().copied().cycle().take(length as usize).collect()
    }
}

/// A worker makes no new file beyond so many.
const FILES: usize = 30;
