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
use crate::write::temporary::temporary_name;

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
        let targets = self.target(from.0, from.1).and_then(|source| Ok((source, self.target(to.0, to.1)?)));
        let ((from_name, from_path), (to_name, to_path)) = match targets {
            Ok(targets) => targets,
            Err(errno) => return answer.error(errno),
        };
        let from = (from.0, from_name, from_path);
        let to = (to.0, to_name, to_path);
        let paths: Vec<RemotePath> = [&from, &to]
            .into_iter()
            .filter(|at| !self.is_only_here(at.0, &at.1))
            .map(|at| at.2.clone())
            .collect();
        self.when_settled(caller, &paths, answer, move |fs, settled, answer| match settled {
            // What could not be uploaded cannot be renamed there.
            Settled::Failed(errno) if !fs.is_only_here(from.0, &from.1) => answer.error(errno),
            _ => fs.rename_settled(caller, from, to, keep, answer),
        });
    }

    fn is_only_here(&self, folder: Ino, name: &Name) -> bool {
        let known = self.tree.lock().child_as_listed(folder, name);
        matches!(known, Child::Known(ino) if self.drafts.is_only_local(ino))
    }

    /// Renames what no upload is left of, or what is only here.
    fn rename_settled(
        &self,
        caller: Caller,
        from: (Ino, Name, RemotePath),
        to: (Ino, Name, RemotePath),
        keep: bool,
        answer: Answer<()>,
    ) {
        // Another has begun while one was waited for.
        let paths = [from.2.clone(), to.2.clone()];
        if self.has_uploads_within(&paths) {
            return self.when_settled(caller, &paths, answer, move |fs, settled, answer| match settled {
                Settled::Failed(errno) if !fs.is_only_here(from.0, &from.1) => answer.error(errno),
                _ => fs.rename_settled(caller, from, to, keep, answer),
            });
        }
        let now = Instant::now();
        let (moved, target) = {
            let tree = self.tree.lock();
            (tree.child_as_listed(from.0, &from.1), tree.child(to.0, &to.1, now))
        };
        let moved = match moved {
            Child::Known(ino) => Some(ino),
            _ => None,
        };
        let only_local = moved.is_some_and(|ino| self.drafts.is_only_local(ino));
        if target != Child::Unknown || !(keep || only_local) {
            return self.rename_to(caller, from, to, moved, target, keep, answer);
        }
        let answer = self.hold(caller, answer);
        self.refresh(
            to.0,
            Box::new(move |fs, outcome| match outcome {
                Err(error) => answer.error(fs.fail_at("list", to.0, &error)),
                Ok(()) => {
                    let target = fs.tree.lock().child_as_listed(to.0, &to.1);
                    fs.rename_to(caller, from, to, moved, target, keep, answer);
                }
            }),
        );
    }

    /// Renames when it is known what the new name stands for.
    #[allow(clippy::too_many_arguments, reason = "the second half of rename")]
    fn rename_to(
        &self,
        caller: Caller,
        (from, from_name, from_path): (Ino, Name, RemotePath),
        (to, to_name, to_path): (Ino, Name, RemotePath),
        moved: Option<Ino>,
        target: Child,
        keep: bool,
        answer: Answer<()>,
    ) {
        let known = match target {
            Child::Known(ino) => Some(ino),
            _ => None,
        };
        if keep && known.is_some() {
            return answer.error(Errno::EXIST);
        }
        if self.has_local_children(to, &to_name) {
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
                self.rename_in_tree((from, &from_name), (to, &to_name));
                known.filter(|&known| known != ino).map(|known| (known, self.take_pending(known)))
            });
            let Some(replaced) = renamed else {
                // The server is being told of it since a moment ago.
                let (from, to) = ((from, from_name, from_path), (to, to_name, to_path));
                return self.rename_settled(caller, from, to, keep, answer);
            };
            if let Some((known, pending)) = replaced {
                self.drop_pending(known, pending);
            }
            return self.renamed_here(ino, answer);
        }
        let Some(fs) = self.arc() else { return };
        let answer = self.hold(caller, answer);
        let claims = [Claim::Tree(from_path.clone()), Claim::Tree(to_path.clone())];
        let shown = from_path.clone();
        let shown_to = to_path.clone();
        let replaced = match target {
            Child::Known(ino) => self.tree.lock().node(ino).map(|node| node.attributes.kind),
            _ => None,
        };
        let aside = match (replaced, temporary_name()) {
            (Some(Kind::File | Kind::Symlink), Ok(name)) => to_path.parent().map(|folder| folder.join(&name)),
            _ => None,
        };
        let hide = open.and_then(|ino| Some((ino, aside.as_ref()?.name()?)));
        let move_aside = hide.is_some();
        let sends = only_local.is_none();
        let over_folder = (replaced == Some(Kind::Directory)).then(|| (self.this.clone(), to_name.clone()));
        let attempt = move |session: &mut Session, turn: &Turn<'_>| {
            spelling::check_before(session, &to_path)?;
            if let Some((fs, name)) = &over_folder
                && let Some(fs) = fs.upgrade()
            {
                fs.move_hidden_up(session, to, name, &to_path);
            }
            let outcome = match &aside {
                Some(aside) if move_aside => {
                    let moved = already_done(session.rename(&to_path, aside), turn);
                    let renamed = moved.and_then(|()| match sends {
                        true => session.rename(&from_path, &to_path),
                        false => Ok(()),
                    });
                    renamed.inspect_err(|error| {
                        if error.refusal().is_some() && session.rename(aside, &to_path).is_err() {
                            warn!("{to_path} may be on the server as {aside}");
                        }
                    })
                }
                Some(aside) => replace::rename_over(session, &from_path, &to_path, aside),
                None => session.rename(&from_path, &to_path),
            };
            match outcome {
                Err(error) if error.refusal().is_some() => {
                    let error = explain::rename(session, &from_path, &to_path, error);
                    // The attempt before moved it, and its reply was lost.
                    let moved = turn.attempt > 0 && error.refusal() == Some(Refusal::NotFound);
                    if moved && session.stat(&to_path).is_ok() { Ok(()) } else { Err(error) }
                }
                Ok(()) => match spelling::check(session, &to_path) {
                    Err(Error::NameChanged) => {
                        session.rename(&to_path, &from_path).and(Err(Error::NameChanged))
                    }
                    checked => checked,
                },
                Err(error) => Err(error),
            }
        };
        let end = move |outcome: Result<(), Error>| match outcome {
            Err(error) => {
                let mut tree = fs.tree.lock();
                tree.expire_listing(from);
                tree.expire_listing(to);
                drop(tree);
                answer.error(fs.fail("rename", &shown, &error));
            }
            Ok(()) => {
                fs.forget_name(to, &to_name, || fs.rename_in_tree((from, &from_name), (to, &to_name)));
                fs.renamed_there(&shown_to);
                if let Some((ino, hidden)) = hide {
                    fs.tree.lock().hide(ino, to, &hidden);
                    fs.delete_hidden_if_closed(ino);
                }
                match only_local {
                    Some(ino) => fs.renamed_here(ino, answer),
                    None => answer.ok(()),
                }
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }

    fn rename_in_tree(&self, from: (Ino, &Name), to: (Ino, &Name)) {
        let mut tree = self.tree.lock();
        if tree.rename(from, to, Instant::now()).is_none() {
            // What was moved is not known: the server will tell.
            tree.expire_listing(from.0);
            tree.expire_listing(to.0);
        }
    }
}
