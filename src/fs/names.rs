//! Names: looking them up and making folders here; [`remove`], [`rename`] and [`links`] have a file each.

mod links;
mod remove;
mod rename;

use std::time::{Duration, Instant};

use super::{Answer, Caller, Errno, FileSystem, Stat};
use crate::ftp::{Entry, Error, Kind, Name, Refusal, RemotePath, Session, explain, spelling};
use crate::lock::Guard;
use crate::queue::{Claim, Job, Priority, Turn};
use crate::tree::{Child, Ino, Tree};

/// The answer to a look-up.
#[derive(Clone, Debug)]
pub enum Found {
    Node {
        stat: Stat,
        /// How long the kernel may believe that the name means this node.
        name_life: Duration,
        /// How long it may believe the attributes.
        life: Duration,
    },
    /// There is no such name, and it need not be asked for again for this long.
    Missing(Duration),
}

impl FileSystem {
    /// lookup.
    pub fn lookup(&self, caller: Caller, parent: Ino, name: &[u8], answer: Answer<Found>) {
        let name = match Name::new(name) {
            Ok(name) => name,
            Err(bad) => return answer.error(bad.into()),
        };
        let known = self.tree.lock().child(parent, &name, Instant::now());
        let Some(answer) = self.tell(parent, known, answer) else { return };
        let answer = self.hold(caller, answer);
        self.refresh(
            parent,
            Box::new(move |fs, outcome| match outcome {
                Ok(()) => {
                    let listed = fs.tree.lock().child_as_listed(parent, &name);
                    if let Some(answer) = fs.tell(parent, listed, answer) {
                        fs.ask_for(parent, name, answer);
                    }
                }
                // A folder that cannot be read may still be walked through.
                Err(error) if error.refusal() == Some(Refusal::Denied) => fs.ask_for(parent, name, answer),
                Err(error) => answer.error(fs.fail_at("list", parent, &error)),
            }),
        );
    }

    /// Answers a look-up from what is known. Gives the answer back when the server must be asked.
    fn tell(&self, parent: Ino, known: Child, answer: Answer<Found>) -> Option<Answer<Found>> {
        let tree = self.tree.lock();
        match known {
            Child::Known(ino) if tree.node(ino).is_some() => self.tell_node(tree, Some(ino), answer),
            Child::Missing => {
                let life = tree.absence_life(parent, Instant::now());
                drop(tree);
                answer.ok(Found::Missing(life));
            }
            Child::Known(_) | Child::Unknown => return Some(answer),
        }
        None
    }

    /// Answers with a node, which the kernel then remembers: if it still hears of it.
    fn tell_node(&self, mut tree: Guard<'_, Tree>, ino: Option<Ino>, answer: Answer<Found>) {
        let found = ino.and_then(|ino| Some((ino, self.found(&tree, ino)?)));
        let answer = answer.claim();
        if let (Some((ino, _)), Some(_)) = (&found, &answer) {
            tree.remember(*ino);
        }
        drop(tree);
        if let Some(answer) = answer {
            answer.send(found.map(|(_, found)| found).ok_or(Errno::STALE));
        }
    }

    fn found(&self, tree: &Tree, ino: Ino) -> Option<Found> {
        let node = tree.node(ino)?;
        let name_life = tree.attributes_life(ino, Instant::now());
        let life = if node.has_coarse_time() { Duration::ZERO } else { name_life };
        Some(Found::Node { stat: self.stat_of(tree, ino)?, name_life, life })
    }

    /// Asks about one name only: where listings do not tell everything.
    fn ask_for(&self, parent: Ino, name: Name, answer: Answer<Found>) {
        let path = match self.path_of(parent, &name) {
            Ok(path) => path,
            Err(errno) => return answer.error(errno),
        };
        let Some(fs) = self.arc() else { return };
        let asked = path.clone();
        let end = move |outcome: Result<Entry, Error>| match outcome {
            Ok(entry) => {
                let mut tree = fs.tree.lock();
                let ino = tree.apply_one(parent, &Entry { name, ..entry }, Instant::now());
                fs.tell_node(tree, ino, answer);
            }
            Err(error) if error.refusal() == Some(Refusal::NotFound) => {
                answer.ok(Found::Missing(Duration::ZERO))
            }
            Err(error) => answer.error(fs.fail("look up", &path, &error)),
        };
        self.submit(
            Job::new(
                Priority::Names,
                move |session, _| {
                    session.stat(&asked).map_err(|error| explain::access(session, &asked, error))
                },
                end,
            )
            .until(self.deadline()),
        );
    }

    /// forget.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.tree.lock().forget(ino, count);
    }

    /// mkdir.
    pub fn make_folder(&self, caller: Caller, parent: Ino, name: &[u8], bits: u32, answer: Answer<Found>) {
        let (name, path) = match self.target(parent, name) {
            Ok(target) => target,
            Err(errno) => return answer.error(errno),
        };
        let Some(fs) = self.arc() else { return };
        let answer = self.hold(caller, answer);
        let bits = bits & 0o7777;
        let mode = Some(if self.features.can_set_mode() { bits } else { NEW_FOLDER_MODE });
        let attempt = {
            let path = path.clone();
            move |session: &mut Session, turn: &Turn<'_>| match spelling::check_before(session, &path)
                .and_then(|()| session.make_directory(&path))
            {
                Err(error) if error.refusal().is_some() => {
                    match explain::make_directory(session, &path, error) {
                        // The attempt before made it, and its reply was lost.
                        error if turn.attempt > 0 && error.refusal() == Some(Refusal::Exists) => Ok(()),
                        error => Err(error),
                    }
                }
                Ok(()) => match spelling::check(session, &path) {
                    Err(Error::NameChanged) => session.remove_directory(&path).and(Err(Error::NameChanged)),
                    Ok(()) if bits != NEW_FOLDER_MODE && session.features().can_set_mode() => {
                        // A private folder should be one; but it is made, whatever becomes of this.
                        let set = session.set_mode(&path, bits);
                        set.or_else(|error| if error.ends_session() { Err(error) } else { Ok(()) })
                    }
                    checked => checked,
                },
                Err(error) => Err(error),
            }
        };
        let claims = [Claim::Exclusive(path.clone())];
        let end = move |outcome: Result<(), Error>| match outcome {
            Err(error) => {
                fs.tree.lock().expire_listing(parent);
                answer.error(fs.fail("make the folder", &path, &error));
            }
            Ok(()) => {
                let mut tree = fs.tree.lock();
                let now = Instant::now();
                let ino = tree.insert(parent, &name, Tree::fresh_attributes(Kind::Directory, mode), now);
                if let Some(ino) = ino {
                    tree.made_empty(ino, now);
                }
                fs.tell_node(tree, ino, answer);
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }
    /// A name that is to be changed: checked, with its path.
    fn target(&self, parent: Ino, name: &[u8]) -> Result<(Name, RemotePath), Errno> {
        self.may_write()?;
        let name = Name::new(name)?;
        let path = self.path_of(parent, &name)?;
        Ok((name, path))
    }
}

/// What servers give a new folder.
const NEW_FOLDER_MODE: u32 = 0o755;

/// "Not found" after an attempt whose reply was lost means that it was done.
fn already_done(outcome: Result<(), Error>, turn: &Turn<'_>) -> Result<(), Error> {
    match outcome {
        Err(error) if turn.attempt > 0 && error.refusal() == Some(Refusal::NotFound) => Ok(()),
        outcome => outcome,
    }
}
