//! Names: looking them up, making, removing and moving them, and where links point.

use std::time::{Duration, Instant};

use log::{debug, warn};

use super::writeback::Settled;
use super::{Answer, Caller, Errno, FileSystem, Stat};
use crate::ftp::{
    Entry, Error, Kind, Listing, Name, Refusal, RemotePath, Session, explain, replace, spelling,
};
use crate::queue::{Claim, Job, Priority, Turn};
use crate::tree::{Child, Ino, Tree};
use crate::write::temporary::{empty_out, temporary_name};

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
        if let Some(found) = self.find(parent, known) {
            return answer.ok(found);
        }
        let answer = self.hold(caller, answer);
        self.refresh(
            parent,
            Box::new(move |fs, outcome| match outcome {
                Ok(()) => match fs.find_as_listed(parent, &name) {
                    Some(found) => answer.ok(found),
                    None => fs.ask_for(parent, name, answer),
                },
                // A folder that cannot be read may still be walked through.
                Err(error) if error.refusal() == Some(Refusal::Denied) => fs.ask_for(parent, name, answer),
                Err(error) => answer.error(fs.fail_at("list", parent, &error)),
            }),
        );
    }

    fn find_as_listed(&self, parent: Ino, name: &Name) -> Option<Found> {
        let listed = self.tree.lock().child_as_listed(parent, name);
        self.find(parent, listed)
    }

    /// The answer to a look-up; none when the server must be asked.
    fn find(&self, parent: Ino, known: Child) -> Option<Found> {
        let now = Instant::now();
        let mut tree = self.tree.lock();
        match known {
            Child::Unknown => None,
            Child::Missing => {
                let life = tree.absence_life(parent, now);
                Some(Found::Missing(life))
            }
            Child::Known(ino) => {
                tree.remember(ino);
                self.found(&tree, ino)
            }
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
                let found = ino.and_then(|ino| {
                    tree.remember(ino);
                    fs.found(&tree, ino)
                });
                drop(tree);
                answer.send(found.ok_or(Errno::STALE));
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
                let found = ino.and_then(|ino| {
                    tree.made_empty(ino, now);
                    tree.remember(ino);
                    fs.found(&tree, ino)
                });
                drop(tree);
                answer.send(found.ok_or(Errno::STALE));
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }

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
        // Files in it that were removed while open move up, and stay hidden: to programs the folder is empty.
        let hidden = self.hidden_in(parent, &name);
        let folder = path.parent().unwrap_or_else(RemotePath::root);
        let attempt = {
            let (path, hidden, fs) = (path.clone(), hidden, self.this.clone());
            move |session: &mut Session, turn: &Turn<'_>| {
                for (ino, old, new) in &hidden {
                    if session.rename(&path.join(old), &folder.join(new)).is_ok()
                        && let Some(fs) = fs.upgrade()
                    {
                        fs.tree.lock().hide(*ino, parent, new);
                    }
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

    /// The hidden files in a folder, with their names and new ones.
    fn hidden_in(&self, parent: Ino, name: &Name) -> Vec<(Ino, Name, Name)> {
        let tree = self.tree.lock();
        let Child::Known(folder) = tree.child_as_listed(parent, name) else { return Vec::new() };
        let hidden = tree.hidden_in(folder).into_iter();
        hidden.filter_map(|ino| Some((ino, tree.node(ino)?.name.clone()?, temporary_name().ok()?))).collect()
    }

    fn has_local_children(&self, parent: Ino, name: &Name) -> bool {
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
        self.when_settled(caller, &[path.clone()], answer, move |fs, _, answer| {
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
        let (ino, opens) = {
            let tree = self.tree.lock();
            match tree.child(parent, &name, Instant::now()) {
                Child::Known(ino) => (Some(ino), tree.node(ino).map_or(0, |node| node.opens)),
                _ => (None, 0),
            }
        };
        if let Some(ino) = ino
            && self.drafts.is_only_local(ino)
        {
            self.forget_pending(ino);
            self.tree.lock().remove(parent, &name, Instant::now());
            self.drafts.abandon_unless_open(ino, opens);
            return answer.ok(());
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
        let end = move |outcome: Result<(), Error>| match outcome {
            Err(error) => {
                fs.tree.lock().expire_listing(parent);
                answer.error(fs.fail(what, &path, &error));
            }
            Ok(()) => {
                fs.forget_name(parent, &name);
                fs.tree.lock().remove(parent, &name, Instant::now());
                answer.ok(());
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }

    /// What stood under this name is gone for good: nothing of it needs to be uploaded any more.
    fn forget_name(&self, parent: Ino, name: &Name) {
        let known = self.tree.lock().child_as_listed(parent, name);
        if let Child::Known(ino) = known {
            self.forget_pending(ino);
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
            Err(error) => answer.error(fs.fail("delete the open file", &shown, &error)),
            Ok(()) => {
                fs.forget_pending(ino);
                let mut tree = fs.tree.lock();
                tree.remove(parent, &name, Instant::now());
                tree.hide(ino, parent, &hidden);
                drop(tree);
                // Before the answer: whoever removes the folder next must find it empty.
                fs.delete_hidden_if_closed(ino);
                answer.ok(());
            }
        };
        self.submit(Job::new(Priority::Names, attempt, end).claim(claims).until(self.deadline()));
    }

    /// The last handle of a removed file is closed: now it goes on the server too.
    pub(super) fn delete_hidden_if_closed(&self, ino: Ino) {
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
        let is_here = |folder, name| {
            let known = self.tree.lock().child_as_listed(folder, name);
            matches!(known, Child::Known(ino) if self.drafts.is_only_local(ino))
        };
        let mut paths = Vec::new();
        if !is_here(from.0, &from.1) {
            paths.push(from.2.clone());
        }
        if !is_here(to.0, &to.1) {
            paths.push(to.2.clone());
        }
        self.when_settled(caller, &paths, answer, move |fs, settled, answer| {
            let known = fs.tree.lock().child_as_listed(from.0, &from.1);
            let is_here = matches!(known, Child::Known(ino) if fs.drafts.is_only_local(ino));
            match settled {
                // What could not be uploaded cannot be renamed there.
                Settled::Failed(errno) if !is_here => answer.error(errno),
                _ => fs.rename_settled(caller, from, to, keep, answer),
            }
        });
    }

    /// Renames what no upload is left of, or what is only here.
    fn rename_settled(
        &self,
        caller: Caller,
        (from, from_name, from_path): (Ino, Name, RemotePath),
        (to, to_name, to_path): (Ino, Name, RemotePath),
        keep: bool,
        answer: Answer<()>,
    ) {
        let now = Instant::now();
        let (moved, target) = {
            let tree = self.tree.lock();
            (tree.child_as_listed(from, &from_name), tree.child(to, &to_name, now))
        };
        let moved = match moved {
            Child::Known(ino) => Some(ino),
            _ => None,
        };
        let (from, to) = ((from, from_name, from_path), (to, to_name, to_path));
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
            !self.drafts.is_only_local(ino) && self.tree.lock().node(ino).is_some_and(|node| node.opens > 0)
        });
        let only_local = moved.filter(|&ino| self.drafts.is_only_local(ino));
        if let (Some(ino), None) = (only_local, open) {
            if known.is_some_and(|known| !self.drafts.is_only_local(known)) {
                self.drafts.will_replace(ino);
            }
            if let Some(known) = known {
                self.forget_pending(known);
            }
            self.rename_in_tree((from, &from_name), (to, &to_name));
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
        let attempt = move |session: &mut Session, turn: &Turn<'_>| {
            spelling::check_before(session, &to_path)?;
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
                fs.forget_name(to, &to_name);
                fs.rename_in_tree((from, &from_name), (to, &to_name));
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

    /// readlink. The target is rewritten relative to the link, and never leads out of the mount: what would is refused.
    pub fn link_target(&self, caller: Caller, ino: Ino, answer: Answer<Vec<u8>>) {
        let (parent, target) = {
            let tree = self.tree.lock();
            let Some(node) = tree.node(ino) else { return answer.error(Errno::STALE) };
            (node.parent, node.attributes.target.clone())
        };
        let Some(parent) = parent else { return answer.error(Errno::NOENT) };
        if let Some(target) = target {
            return answer.send(self.inside(parent, &target));
        }
        let (Ok(folder), Some(fs)) = (self.path(parent), self.arc()) else {
            return answer.error(Errno::STALE);
        };
        let answer = self.hold(caller, answer);
        let asked = folder.clone();
        let end = move |outcome: Result<Listing, Error>| match outcome {
            Err(error) => answer.error(fs.fail("read the links of", &folder, &error)),
            Ok(listing) => {
                let mut tree = fs.tree.lock();
                tree.apply_targets(parent, &listing);
                let target = tree.node(ino).and_then(|node| node.attributes.target.clone());
                drop(tree);
                match target {
                    Some(target) => answer.send(fs.inside(parent, &target)),
                    None => answer.error(Errno::IO),
                }
            }
        };
        let attempt = move |session: &mut Session, _: &Turn<'_>| session.link_targets(&asked);
        self.submit(Job::new(Priority::Names, attempt, end).with_data().until(self.deadline()));
    }

    /// The target of a link in `folder`, as `../` steps and names only: that is all a path inside needs, and `..` after
    /// a name could be led elsewhere by another link.
    fn inside(&self, folder: Ino, target: &[u8]) -> Result<Vec<u8>, Errno> {
        let tree = self.tree.lock();
        let root = tree.root_path().clone();
        let folder = tree.path(folder).ok_or(Errno::NOENT)?;
        drop(tree);
        let outside = |_| Errno::ACCES;
        let to = folder.resolve(target).map_err(outside)?;
        // More steps up than there are folders would end at the server's root, which may be inside by chance.
        let ups = target.split(|&b| b == b'/').filter(|part| part == b"..").count();
        let depth = folder.as_bytes().split(|&b| b == b'/').filter(|part| !part.is_empty()).count();
        let climbs = target.first() != Some(&b'/') && ups > depth;
        if !to.is_within(&root) || climbs {
            debug!("a link in {folder} leads out of the mount");
            return Err(Errno::ACCES);
        }
        let names = |path: &RemotePath| -> Vec<Vec<u8>> {
            path.as_bytes()
                .split(|&b| b == b'/')
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        let (from, to) = (names(&folder), names(&to));
        let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let mut parts: Vec<Vec<u8>> = vec![b"..".to_vec(); from.len() - common];
        parts.extend_from_slice(to.get(common..).unwrap_or_default());
        if parts.is_empty() {
            parts.push(b".".to_vec());
        }
        Ok(parts.join(&b'/'))
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
