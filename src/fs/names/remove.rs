//! Removing names: unlink and rmdir.
//!
//! A file that programs still have open must stay readable for them, and a big one cannot be kept on this side: it is
//! moved to a hidden name on the server (as NFS does) and deleted with its last handle. A folder that holds only such
//! files is empty to programs, so they move up before it is removed. Called by `fuse`.

use std::time::Instant;

use log::warn;

use super::already_done;
use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::{Error, Name, Refusal, RemotePath, Session, explain};
use crate::queue::{Claim, Job, Priority, Turn};
use crate::tree::{Child, Ino};
use crate::write::temporary::{Given, empty_out, temporary_name};

impl FileSystem {
    /// rmdir.
    pub fn remove_folder(&self, caller: Caller, parent: Ino, name: &[u8], answer: Answer<()>) {
        let (name, path) = match self.target(parent, name) {
            Ok(target) => target,
            Err(errno) => return answer.error(errno),
        };
        // Files that only exist here so far would be lost with it.
        if self.has_local_children(parent, &name) {
            return answer.error(Errno::NOTEMPTY);
        }
        let attempt = {
            let (path, name, fs) = (path.clone(), name.clone(), self.this.clone());
            move |session: &mut Session, turn: &Turn<'_>| {
                if let Some(fs) = fs.upgrade() {
                    fs.move_hidden_up(session, parent, &name, &path);
                }
                let outcome = session.remove_directory(&path);
                match outcome.map_err(|error| explain::remove_directory(session, &path, error)) {
                    Err(error) if error.refusal() == Some(Refusal::NotEmpty) && empty_out(session, &path) => {
                        session.remove_directory(&path)
                    }
                    outcome => already_done(outcome, turn),
                }
            }
        };
        self.remove_by(caller, parent, name, path, "remove the folder", attempt, answer);
    }

    /// Files in a folder that were removed while open move up, and stay hidden: to programs the folder is empty.
    pub(super) fn move_hidden_up(&self, session: &mut Session, parent: Ino, name: &Name, path: &RemotePath) {
        let above = path.parent().unwrap_or_else(RemotePath::root);
        for (ino, old, new) in self.hidden_in(parent, name) {
            if session.rename(&path.join(&old), &above.join(&new)).is_ok() {
                self.tree.lock().hide(ino, parent, &new);
            }
        }
    }

    /// The hidden files in a folder, with their names and new ones.
    fn hidden_in(&self, parent: Ino, name: &Name) -> Vec<(Ino, Name, Given)> {
        let tree = self.tree.lock();
        let Child::Known(folder) = tree.child_as_listed(parent, name) else { return Vec::new() };
        let hidden = tree.hidden_in(folder).into_iter();
        hidden.filter_map(|ino| Some((ino, tree.node(ino)?.name.clone()?, temporary_name().ok()?))).collect()
    }

    pub(super) fn has_local_children(&self, parent: Ino, name: &Name) -> bool {
        let tree = self.tree.lock();
        let Child::Known(folder) = tree.child_as_listed(parent, name) else { return false };
        let children = tree.node(folder).and_then(|node| node.folder.as_ref());
        children.is_some_and(|f| {
            f.children.values().any(|child| tree.node(*child).is_some_and(|node| node.local))
        })
    }

    /// unlink. A file that is still open is moved out of sight on the server, and deleted when it is closed.
    pub fn remove_file(&self, caller: Caller, parent: Ino, name: &[u8], answer: Answer<()>) {
        let (name, path) = match self.target(parent, name) {
            Ok(target) => target,
            Err(errno) => return answer.error(errno),
        };
        let known = self.tree.lock().child_as_listed(parent, &name);
        if matches!(known, Child::Known(ino) if self.drafts.is_only_local(ino)) {
            return self.remove_settled_file(caller, parent, name, path, answer);
        }
        let at = path.clone();
        self.when_settled(caller, std::slice::from_ref(&at), answer, move |fs, _, answer| {
            fs.remove_settled_file(caller, parent, name, path, answer);
        });
    }

    /// Removes a file that no upload is left of, or that is only here.
    fn remove_settled_file(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name,
        path: RemotePath,
        answer: Answer<()>,
    ) {
        // However old: what is known of it is whether programs have it open.
        let ino = self.known_child(parent, &name);
        let opens = ino.map_or(0, |ino| self.opens(ino));
        if let Some(ino) = ino {
            let removed = self.drafts.if_only_local(ino, false, || {
                self.tree.lock().remove(parent, &name, Instant::now());
                self.take_pending(ino)
            });
            if let Some(pending) = removed {
                self.drafts.unlink(ino, opens);
                self.drop_pending(ino, pending);
                return answer.ok(());
            }
            if self.has_uploads_within(std::slice::from_ref(&path)) {
                // The server is being told of it since a moment ago.
                let at = path.clone();
                return self.when_settled(caller, std::slice::from_ref(&at), answer, move |fs, _, answer| {
                    fs.remove_settled_file(caller, parent, name, path, answer);
                });
            }
        }
        if let (Some(ino), 1..) = (ino, opens) {
            return self.hide(caller, parent, name, ino, answer);
        }
        let attempt = {
            let path = path.clone();
            move |session: &mut Session, turn: &Turn<'_>| {
                let outcome = session.delete(&path).map_err(|error| explain::delete(session, &path, error));
                already_done(outcome, turn)
            }
        };
        self.remove_by(caller, parent, name, path, "delete", attempt, answer);
    }

    #[allow(clippy::too_many_arguments, reason = "one call, shared by two kinds of removal")]
    fn remove_by(
        &self,
        caller: Caller,
        parent: Ino,
        name: Name,
        path: RemotePath,
        what: &'static str,
        attempt: impl FnMut(&mut Session, &Turn<'_>) -> Result<(), Error> + Send + 'static,
        answer: Answer<()>,
    ) {
        let Some(fs) = self.arc() else { return };
        let answer = self.hold(caller, answer);
        let claims = [Claim::Tree(path.clone())];
        let is_unsent = |fs: &FileSystem, ino| fs.tree.lock().node(ino).is_some_and(|node| node.local);
        let known = self.known_child(parent, &name);
        let was_unsent = known.is_some_and(|ino| is_unsent(self, ino));
        let end = move |outcome: Result<(), Error>| match outcome {
            Err(error) if !fs.was_never_there(known, &error) => {
                fs.tree.lock().expire_listing(parent);
                answer.error(fs.fail(what, &path, &error));
            }
            _ => {
                // Written anew since this call began, which may have been given up long ago: that is to be sent.
                let is_another = known != fs.known_child(parent, &name);
                let is_new = known.is_some_and(|ino| !was_unsent && is_unsent(&fs, ino));
                if is_another || is_new {
                    fs.tree.lock().expire_listing(parent);
                } else {
                    fs.forget_name(parent, &name, || {
                        fs.tree.lock().remove(parent, &name, Instant::now());
                    });
                }
                answer.ok(());
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).unlinking().until(self.deadline()));
    }

    fn known_child(&self, parent: Ino, name: &Name) -> Option<Ino> {
        match self.tree.lock().child_as_listed(parent, name) {
            Child::Known(ino) => Some(ino),
            _ => None,
        }
    }

    /// How many handles of a file are open.
    pub(super) fn opens(&self, ino: Ino) -> u32 {
        self.tree.lock().node(ino).map_or(0, |node| node.opens)
    }

    /// Whether a removal has failed because nothing of the file had reached the server yet: its upload made way.
    fn was_never_there(&self, ino: Option<Ino>, error: &Error) -> bool {
        error.refusal() == Some(Refusal::NotFound) && ino.is_some_and(|ino| self.drafts.is_new(ino))
    }

    /// What stood under this name is gone for good: nothing of it needs to be uploaded any more. `act` takes the name away.
    pub(super) fn forget_name(&self, parent: Ino, name: &Name, act: impl FnOnce()) {
        let ino = self.known_child(parent, name);
        let pending = self.drafts.hold(|| {
            act();
            ino.and_then(|ino| self.take_pending(ino))
        });
        if let Some(ino) = ino {
            self.drafts.unlink(ino, self.opens(ino));
            self.drop_pending(ino, pending);
        }
    }

    fn hide(&self, caller: Caller, parent: Ino, name: Name, ino: Ino, answer: Answer<()>) {
        let (Ok(path), Ok(hidden), Some(fs)) = (self.path_of(parent, &name), temporary_name(), self.arc())
        else {
            return answer.error(Errno::STALE);
        };
        let answer = self.hold(caller, answer);
        let hidden_path = path.parent().unwrap_or_else(RemotePath::root).join(&hidden);
        let claims = [Claim::Exclusive(path.clone()), Claim::Exclusive(hidden_path.clone())];
        let shown = path.clone();
        let attempt = move |session: &mut Session, turn: &Turn<'_>| {
            let outcome = session.rename(&path, &hidden_path);
            already_done(outcome.map_err(|error| explain::rename(session, &path, &hidden_path, error)), turn)
        };
        let end = move |outcome: Result<(), Error>| match outcome {
            Err(error) if fs.was_never_there(Some(ino), &error) => {
                fs.forget_name(parent, &name, || {
                    fs.tree.lock().remove(parent, &name, Instant::now());
                });
                answer.ok(());
            }
            Err(error) => answer.error(fs.fail("delete the open file", &shown, &error)),
            Ok(()) => {
                fs.forget_name(parent, &name, || {
                    let mut tree = fs.tree.lock();
                    tree.remove(parent, &name, Instant::now());
                    tree.hide(ino, parent, &hidden);
                });
                // Before the answer: whoever removes the folder next must find it empty.
                fs.delete_hidden_if_closed(ino);
                answer.ok(());
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).unlinking().until(self.deadline()));
    }

    /// The last handle of a removed file is closed: now it goes on the server too.
    pub(in crate::fs) fn delete_hidden_if_closed(&self, ino: Ino) {
        let path = {
            let mut tree = self.tree.lock();
            let path = tree.path(ino);
            let Some(node) = tree.node_mut(ino).filter(|node| node.hidden && node.opens == 0) else { return };
            // No longer, so that it is done once.
            node.hidden = false;
            path
        };
        let (Some(path), Some(fs)) = (path, self.arc()) else { return };
        let shown = path.clone();
        let claims = [Claim::Exclusive(path)];
        // Where it is may change until then: with its folder, or out of a folder that is removed.
        let locate = self.locate(ino);
        let attempt = move |session: &mut Session, turn: &Turn<'_>| match locate() {
            Some(path) => already_done(session.delete(&path), turn),
            None => Ok(()),
        };
        let end = move |outcome: Result<(), Error>| {
            fs.tree.lock().unhide(ino);
            if let Err(error) = outcome {
                warn!("{shown} is left over on the server: {error}");
            }
        };
        self.submit(Job::new(Priority::BackgroundUpload, attempt, end).claim(claims));
    }
}
