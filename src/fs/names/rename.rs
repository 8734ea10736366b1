//! Moving names: rename, over files and empty folders too.
//!
//! A file that only exists here so far moves in the tree alone. A file that is replaced while programs have it open is
//! moved out of sight first, as with unlink; a folder that holds only files that were removed while open is empty. A reply
//! that was lost is resolved by looking. Called by `fuse`.

use std::time::Instant;

use log::warn;

use super::already_done;
use crate::fs::writeback::Settled;
use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::{Error, Kind, Name, Refusal, RemotePath, Session, explain, replace, spelling};
use crate::queue::{Claim, Job, Priority, Turn};
use crate::tree::{Child, Ino, Node};
use crate::write::temporary::{aside_name, temporary_name};

impl FileSystem {
    /// rename, with RENAME_NOREPLACE when `keep` is set.
    pub fn rename(
        &self,
        caller: Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        keep: bool,
        answer: Answer<()>,
    ) {
        let place =
            |(folder, name)| self.target(folder, name).map(|(name, path)| Place { folder, name, path });
        let rename = match place(from).and_then(|from| Ok(Rename { from, to: place(to)?, keep })) {
            Ok(rename) => rename,
            Err(errno) => return answer.error(errno),
        };
        let paths: Vec<RemotePath> = [&rename.from, &rename.to]
            .into_iter()
            .filter(|place| !self.is_only_here(place))
            .map(|place| place.path.clone())
            .collect();
        self.when_settled(caller, &paths, answer, move |fs, settled, answer| {
            fs.rename_if_sent(caller, rename, settled, answer);
        });
    }

    fn is_only_here(&self, place: &Place) -> bool {
        let known = self.tree.lock().child_as_listed(place.folder, &place.name);
        matches!(known, Child::Known(ino) if self.drafts.is_only_local(ino))
    }

    /// What could not be uploaded cannot be renamed there.
    fn rename_if_sent(&self, caller: Caller, rename: Rename, settled: Settled, answer: Answer<()>) {
        match settled {
            Settled::Failed(errno) if !self.is_only_here(&rename.from) => answer.error(errno),
            _ => self.rename_settled(caller, rename, answer),
        }
    }

    /// Renames what no upload is left of, or what is only here.
    fn rename_settled(&self, caller: Caller, rename: Rename, answer: Answer<()>) {
        // Another has begun while one was waited for.
        let paths = [rename.from.path.clone(), rename.to.path.clone()];
        if self.has_uploads_within(&paths) {
            return self.when_settled(caller, &paths, answer, move |fs, settled, answer| {
                fs.rename_if_sent(caller, rename, settled, answer);
            });
        }
        let Rename { from, to, keep } = &rename;
        let (moved, target, is_fresh) = {
            let tree = self.tree.lock();
            let target = tree.child(to.folder, &to.name, Instant::now());
            let known = tree.child_as_listed(to.folder, &to.name);
            // What was there a while ago may be open: then it must be moved aside.
            let known = if matches!(known, Child::Known(_)) { known } else { target };
            (tree.child_as_listed(from.folder, &from.name), known, target != Child::Unknown)
        };
        let moved = match moved {
            Child::Known(ino) => Some(ino),
            _ => None,
        };
        let only_local = moved.is_some_and(|ino| self.drafts.is_only_local(ino));
        if is_fresh || !(*keep || only_local) {
            return self.rename_to(caller, rename, moved, target, answer);
        }
        let answer = self.hold(caller, answer);
        self.refresh(
            to.folder,
            Box::new(move |fs, outcome| match outcome {
                Err(error) => answer.error(fs.fail_at("list", rename.to.folder, &error)),
                Ok(()) => {
                    let to = &rename.to;
                    let target = fs.tree.lock().child_as_listed(to.folder, &to.name);
                    fs.rename_to(caller, rename, moved, target, answer);
                }
            }),
        );
    }

    /// Renames when it is known what the new name stands for.
    fn rename_to(
        &self,
        caller: Caller,
        rename: Rename,
        moved: Option<Ino>,
        target: Child,
        answer: Answer<()>,
    ) {
        let Rename { from, to, keep } = &rename;
        let known = match target {
            Child::Known(ino) => Some(ino),
            _ => None,
        };
        if *keep && known.is_some() {
            return answer.error(Errno::EXIST);
        }
        if self.has_local_children(to.folder, &to.name) {
            return answer.error(Errno::NOTEMPTY);
        }
        // Its readers keep the old file: it moves out of sight until they have closed it, as with unlink.
        let open = known.filter(|&ino| {
            let is_open = |node: &Node| node.opens > 0 && node.attributes.kind != Kind::Directory;
            !self.drafts.is_only_local(ino) && self.tree.lock().node(ino).is_some_and(is_open)
        });
        let only_local = moved.filter(|&ino| self.drafts.is_only_local(ino));
        if let (Some(ino), None) = (only_local, open) {
            let replaces = known.is_some_and(|known| !self.drafts.is_only_local(known));
            let renamed = self.drafts.if_only_local(ino, replaces, || {
                self.rename_in_tree(from, to);
                known.filter(|&known| known != ino).map(|known| (known, self.take_pending(known)))
            });
            let Some(replaced) = renamed else {
                // The server is being told of it since a moment ago.
                return self.rename_settled(caller, rename, answer);
            };
            if let Some((known, pending)) = replaced {
                self.drafts.unlink(known, self.opens(known));
                self.drop_pending(known, pending);
            }
            return self.renamed_here(ino, answer);
        }
        let replaced = known.and_then(|ino| self.tree.lock().node(ino).map(|node| node.attributes.kind));
        let name = if open.is_some() { temporary_name() } else { aside_name() };
        let name = name.ok().filter(|_| matches!(replaced, Some(Kind::File | Kind::Symlink)));
        let aside = name.as_deref().and_then(|name| Some(to.path.parent()?.join(name)));
        let hide = open.and_then(|ino| Some((ino, aside.as_ref()?.name()?)));
        let on_server = Move {
            from: from.path.clone(),
            to: to.path.clone(),
            aside,
            stays_aside: hide.is_some(),
            sends: only_local.is_none(),
        };
        let Some(fs) = self.arc() else { return };
        let answer = self.hold(caller, answer);
        let claims = [Claim::Tree(from.path.clone()), Claim::Tree(to.path.clone())];
        let over_folder = (replaced == Some(Kind::Directory)).then(|| (self.this.clone(), to.clone()));
        let attempt = move |session: &mut Session, turn: &Turn<'_>| {
            spelling::check_before(session, &on_server.to)?;
            if let Some((fs, to)) = &over_folder
                && let Some(fs) = fs.upgrade()
            {
                fs.move_hidden_up(session, to.folder, &to.name, &to.path);
            }
            on_server.attempt(session, turn)
        };
        let end = move |outcome: Result<(), Error>| {
            let Rename { from, to, .. } = rename;
            // In use until now, or hidden from here on.
            let _name = name;
            match outcome {
                Err(error) => {
                    let mut tree = fs.tree.lock();
                    tree.expire_listing(from.folder);
                    tree.expire_listing(to.folder);
                    drop(tree);
                    answer.error(fs.fail("rename", &from.path, &error));
                }
                Ok(()) => {
                    fs.forget_name(to.folder, &to.name, || fs.rename_in_tree(&from, &to));
                    fs.renamed_there(&to.path);
                    if let Some((ino, hidden)) = hide {
                        fs.tree.lock().hide(ino, to.folder, &hidden);
                        fs.delete_hidden_if_closed(ino);
                    }
                    match only_local {
                        Some(ino) => fs.renamed_here(ino, answer),
                        None => answer.ok(()),
                    }
                }
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }

    fn rename_in_tree(&self, from: &Place, to: &Place) {
        let mut tree = self.tree.lock();
        if tree.rename((from.folder, &from.name), (to.folder, &to.name), Instant::now()).is_none() {
            // What was moved is not known: the server will tell.
            tree.expire_listing(from.folder);
            tree.expire_listing(to.folder);
        }
    }
}

/// One call of rename.
struct Rename {
    from: Place,
    to: Place,
    /// RENAME_NOREPLACE.
    keep: bool,
}

/// A name in a folder.
#[derive(Clone)]
struct Place {
    folder: Ino,
    name: Name,
    path: RemotePath,
}

/// What the server is asked to do.
struct Move {
    from: RemotePath,
    to: RemotePath,
    /// Where what is replaced may be moved to first.
    aside: Option<RemotePath>,
    /// Programs have it open: it stays there.
    stays_aside: bool,
    /// Whether what moves is on the server.
    sends: bool,
}

impl Move {
    fn attempt(&self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        let Self { from, to, aside, stays_aside, sends } = self;
        let outcome = match aside {
            Some(aside) if *stays_aside => {
                let moved = already_done(session.rename(to, aside), turn);
                let renamed = moved.and_then(|()| if *sends { session.rename(from, to) } else { Ok(()) });
                renamed.inspect_err(|error| {
                    if error.refusal().is_some() && session.rename(aside, to).is_err() {
                        warn!("{to} may be on the server as {aside}");
                    }
                })
            }
            Some(aside) => replace::rename_over(session, from, to, aside),
            None => session.rename(from, to),
        };
        match outcome {
            Err(error) if error.refusal().is_some() => {
                let error = explain::rename(session, from, to, error);
                // The attempt before moved it, and its reply was lost.
                let moved = turn.attempt > 0 && error.refusal() == Some(Refusal::NotFound);
                if moved && session.stat(to).is_ok() { Ok(()) } else { Err(error) }
            }
            Ok(()) => match spelling::check(session, to) {
                Err(Error::NameChanged) => session.rename(to, from).and(Err(Error::NameChanged)),
                checked => checked,
            },
            Err(error) => Err(error),
        }
    }
}
