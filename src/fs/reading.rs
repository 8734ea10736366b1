//! Opening and reading files.
//!
//! open() is where a file changed on the server is noticed (close-to-open, as NFS): when its attributes are past their
//! lifetime the server is asked first. The kernel keeps its pages over the open when the content is the one that they
//! came from.
//!
//! A change behind an open file is noticed when more of it is fetched ([`crate::read`]): one that was only added to is
//! read on, any other is stale for whoever has it open and has seen something of it. A file whose size the server does not
//! tell at all is read past the kernel's cache, to the end of its transfer; it can be replaced, but not changed in part.

use super::handles::{Fh, Handle};
use super::{Answer, Caller, Errno, FileSystem};
use crate::ftp::{Error, Kind, Refusal};
use crate::read::{Bytes, Content, blocks::PAGE};
use crate::tree::{Ino, Node, Tree, Version};
use crate::write::Piece;

/// How a program opens a file.
#[derive(Clone, Copy, Debug)]
pub struct OpenMode {
    pub write: bool,
    pub truncate: bool,
    /// Fails when the file exists (create only).
    pub exclusive: bool,
    /// The permission bits of a new file (create only).
    pub bits: u32,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub handle: Fh,
    /// The kernel's pages are of this content: it may keep them.
    pub keep_pages: bool,
    /// Only reading it tells where it ends.
    pub has_unknown_size: bool,
}

impl FileSystem {
    /// open.
    pub fn open(&self, caller: Caller, ino: Ino, mode: OpenMode, answer: Answer<Opened>) {
        if mode.write
            && let Err(errno) = self.may_write()
        {
            return answer.error(errno);
        }
        let fresh = {
            let tree = self.tree.lock();
            let now = std::time::Instant::now();
            match tree.node(ino) {
                None => return answer.error(Errno::STALE),
                Some(node) => match node.attributes.kind {
                    Kind::Directory => return answer.error(Errno::ISDIR),
                    Kind::Special => return answer.error(Errno::NOTSUP),
                    Kind::File | Kind::Symlink => {
                        node.parent.is_none() || !tree.attributes_life(ino, now).is_zero()
                    }
                },
            }
        };
        if fresh {
            return self.open_fresh(caller, ino, mode, answer);
        }
        let answer = self.hold(caller, answer);
        self.renew(
            ino,
            Box::new(move |fs, outcome| match outcome {
                Err(error) if error.refusal() == Some(Refusal::NotFound) => answer.error(Errno::STALE),
                Err(error) => answer.error(fs.fail_at("open", ino, &error)),
                Ok(()) => fs.open_fresh(caller, ino, mode, answer),
            }),
        );
    }

    /// Opens a file whose attributes are believed, but for a size that no listing tells.
    fn open_fresh(&self, caller: Caller, ino: Ino, mode: OpenMode, answer: Answer<Opened>) {
        let parent =
            self.tree.lock().node(ino).filter(|node| node.has_unknown_size()).and_then(|node| node.parent);
        let coarse = {
            let tree = self.tree.lock();
            let node = tree.node(ino).filter(|node| self.reads.needs_exact_times() && node.has_coarse_time());
            node.and_then(|node| node.parent).filter(|_| !mode.write)
        };
        match parent.filter(|_| self.features.can_tell_size()) {
            None if coarse.is_some() => {
                let answer = self.hold(caller, answer);
                // Without an exact time it is read all the same.
                let then = move |fs: &FileSystem, _: Result<(), Error>| fs.answer_open(ino, mode, answer);
                self.refresh_times(coarse.unwrap_or(ino), ino, Box::new(then));
            }
            None => self.answer_open(ino, mode, answer),
            Some(parent) => {
                let answer = self.hold(caller, answer);
                let then = move |fs: &FileSystem, outcome: Result<(), Error>| match outcome {
                    Err(error) if error.refusal() == Some(Refusal::NotFound) => answer.error(Errno::STALE),
                    // Whoever reads it will be told what is wrong.
                    _ => fs.answer_open(ino, mode, answer),
                };
                self.ask_one(parent, ino, Box::new(then));
            }
        }
    }

    /// Opens a file for whoever still waits for that.
    fn answer_open(&self, ino: Ino, mode: OpenMode, answer: Answer<Opened>) {
        if let Some(answer) = answer.claim() {
            answer.send(self.opened(ino, mode));
        }
    }

    fn opened(&self, ino: Ino, mode: OpenMode) -> Result<Opened, Errno> {
        let (keep_pages, has_unknown_size, size) = {
            let mut tree = self.tree.lock();
            // The kernel believes in a name that is gone: ESTALE makes it look again (and create, if it may).
            if tree.path(ino).is_none() {
                return Err(Errno::STALE);
            }
            let node = tree.node_mut(ino).ok_or(Errno::STALE)?;
            let has_unknown_size = node.has_unknown_size();
            if has_unknown_size {
                if mode.write && !mode.truncate {
                    return Err(Errno::NOTSUP);
                }
                if node.opens == 0 {
                    // Nothing tells whether it is the one that was read before.
                    node.replaced();
                }
            }
            let keep = node.kernel_version == Some(node.version);
            node.kernel_version = Some(node.version);
            node.opens += 1;
            (keep, has_unknown_size && !mode.write, node.attributes.size)
        };
        self.reads.opened(ino);
        self.drafts.forget_if_outdated(ino, self.version(ino));
        if mode.truncate && mode.write {
            self.resize(ino, 0).inspect_err(|_| {
                if self.tree.lock().closed(ino) == 0 {
                    self.reads.closed(ino);
                }
            })?;
        }
        if !mode.write {
            self.reads_ahead_of(ino);
        }
        let unread = (!mode.write && !keep_pages && !has_unknown_size).then_some(size);
        let version = self.version(ino);
        let handle = self.handles.add(Handle::File { ino, writable: mode.write, version, unread });
        Ok(Opened { handle, keep_pages, has_unknown_size })
    }

    /// read.
    pub fn read(&self, caller: Caller, ino: Ino, handle: Fh, offset: u64, len: usize, answer: Answer<Bytes>) {
        self.read_here(Call { caller, ino, handle, offset, len, tries: TRIES }, answer);
    }

    fn read_here(&self, call: Call, answer: Answer<Bytes>) {
        let Call { caller, ino, handle, offset, len, .. } = call;
        let Some(draft) = self.drafts.find(ino) else {
            let content = match self.content(ino) {
                Ok(content) => content,
                Err(errno) => return answer.error(errno),
            };
            return match self.handles.at(handle) {
                Some(Handle::File { version, .. }) if version != content.version => {
                    self.read_on(call, version, content, answer);
                }
                _ => {
                    let miss = match self.reads.at_hand(&content, offset, len) {
                        Ok(bytes) if self.shows(call, content.version) => return answer.ok(bytes),
                        Ok(_) => return self.read_here(call, answer),
                        Err(miss) => miss,
                    };
                    let answer = self.hold(caller, answer);
                    let fs = self.this.clone();
                    let version = content.version;
                    let done = move |outcome| {
                        let Some(fs) = fs.upgrade() else { return };
                        match outcome {
                            Ok(data) if fs.shows(call, version) => answer.ok(data),
                            Ok(_) => fs.read_here(call, answer),
                            Err(error) => fs.read_failed(call, version, &error, answer),
                        }
                    };
                    self.reads.fetch(&content, miss, Box::new(done));
                }
            };
        };
        let piece = draft.lock().read(offset, len);
        self.shows(call, self.version(ino));
        match piece {
            Err(error) => answer.error(error.into()),
            Ok(Piece::Here(data)) => answer.ok(data.into()),
            Ok(Piece::Sent) => {
                let Some(fs) = self.arc() else { return };
                let answer = self.waiting.hold(caller, None, answer);
                self.confirm(
                    ino,
                    Answer::new(move |outcome| match outcome {
                        Ok(()) => fs.read(caller, ino, handle, offset, len, answer),
                        Err(errno) => answer.error(errno),
                    }),
                );
            }
            Ok(Piece::Missing(content, gap)) => {
                let Some(fs) = self.arc() else { return };
                let answer = self.hold(caller, answer);
                let (from, gap_len) = (gap.start, (gap.end - gap.start) as usize);
                let below = content.clone();
                let done = move |outcome: Result<Bytes, Error>| match outcome {
                    Err(error) => {
                        fs.note_failure(ino, below.version, &error);
                        answer.error(fs.fail_at("read", ino, &error));
                    }
                    Ok(data) => {
                        let filled = draft.lock().fill(&below, from, &data, &fs.options.spool_dir);
                        match filled {
                            Err(error) => answer.error(error.into()),
                            Ok(()) => fs.read_here(call, answer),
                        }
                    }
                };
                self.reads.read(&content, from, gap_len, Box::new(done));
            }
        }
    }

    /// Reads a file that has changed since it was opened. One that has only grown is followed (`tail -f`), if the page in
    /// front of what is asked for is what it was, as far as that is remembered; of any other the reader must not get a
    /// mixture of old and new.
    fn read_on(&self, call: Call, version: Version, content: Content, answer: Answer<Bytes>) {
        let Call { caller, ino, handle, offset, len, .. } = call;
        let same_since = self.tree.lock().node(ino).map(|node| node.same_since);
        if same_since.is_none_or(|since| version < since) {
            return if self.begins_anew(call) {
                self.read_here(call, answer)
            } else {
                answer.error(Errno::STALE)
            };
        }
        let Some(fs) = self.arc() else { return };
        let from = (offset - offset % PAGE).saturating_sub(PAGE);
        let skip = (offset - from) as usize;
        let followed = content.version;
        let answer = self.hold(caller, answer);
        let done = move |outcome: Result<Bytes, Error>| {
            let data = match outcome {
                Ok(data) => data,
                Err(error) => return fs.read_failed(call, followed, &error, answer),
            };
            let before = fs.reads.known_pages(ino, version, from, data.len());
            if before.iter().any(|(at, page)| data.get(*at..at + page.len()) != Some(page.as_slice())) {
                if let Some(node) = fs.tree.lock().node_mut(ino) {
                    node.replaced();
                }
                return answer.error(Errno::STALE);
            }
            fs.handles.follow(handle, followed);
            fs.shows(call, followed);
            answer.ok(data.get(skip..).unwrap_or_default().to_vec().into());
        };
        self.reads.read(&content, from, len + skip, Box::new(done));
    }

    /// Something of a content is about to be answered: nobody can begin anew with another one from here on. False when the
    /// reader has done so meanwhile: this content is not for it any more.
    fn shows(&self, call: Call, version: Version) -> bool {
        let mut tree = self.tree.lock();
        if let Some(Handle::File { version: now, .. }) = self.handles.at(call.handle)
            && now > version
        {
            return false;
        }
        if let Some(node) = tree.node_mut(call.ino) {
            node.shown = node.shown.max(version);
        }
        true
    }

    /// A reader that has seen nothing yet of a file that has been replaced goes on with the new one, unless that is longer: its
    /// kernel would end it where the old one ended.
    fn begins_anew(&self, call: Call) -> bool {
        let tree = self.tree.lock();
        let Some((node, size)) = self.unseen(&tree, call) else { return false };
        let begins = !node.local && !node.has_unknown_size() && node.attributes.size <= size;
        if begins {
            self.handles.follow(call.handle, node.version);
        }
        begins
    }

    /// The file of a reader that has seen nothing of it yet, and the size that it had when it was opened.
    fn unseen<'t>(&self, tree: &'t Tree, call: Call) -> Option<(&'t Node, u64)> {
        let Some(Handle::File { version, unread: Some(size), .. }) = self.handles.at(call.handle) else {
            return None;
        };
        tree.node(call.ino).filter(|node| node.shown < version).map(|node| (node, size))
    }

    /// The content that is known of a file now.
    pub(super) fn version(&self, ino: Ino) -> Version {
        self.tree.lock().node(ino).map_or(Version(0), |node| node.version)
    }

    /// A content could not be read; if that is because the file has grown, it is read on.
    fn read_failed(&self, call: Call, version: Version, error: &Error, answer: Answer<Bytes>) {
        self.note_failure(call.ino, version, error);
        let has_grown = || self.tree.lock().node(call.ino).is_some_and(|node| node.same_since <= version);
        if call.tries > 0 && matches!(error, Error::Replaced(_)) && has_grown() {
            return self.read_here(Call { tries: call.tries - 1, ..call }, answer);
        }
        let is_other = matches!(error, Error::Replaced(_) | Error::WrongLength { .. });
        if !(is_other && call.tries == TRIES && self.unseen(&self.tree.lock(), call).is_some()) {
            return answer.error(self.fail_at("read", call.ino, error));
        }
        let then = move |fs: &FileSystem, outcome: Result<(), Error>| match outcome {
            Ok(()) => fs.read_here(Call { tries: call.tries - 1, ..call }, answer),
            Err(error) => answer.error(fs.fail_at("read", call.ino, &error)),
        };
        self.renew(call.ino, Box::new(then));
    }

    /// What a failure shows about a file.
    fn note_failure(&self, ino: Ino, version: Version, error: &Error) {
        let mut tree = self.tree.lock();
        let Some(node) = tree.node_mut(ino).filter(|node| node.version == version) else { return };
        match error {
            Error::Replaced(told) => node.told(told.size, told.modified),
            // What we believed of this file is wrong: ask before the next open.
            Error::WrongLength { .. } | Error::Refused { .. } => node.expire(),
            _ => {}
        }
    }
}

/// One call of read.
#[derive(Clone, Copy)]
struct Call {
    caller: Caller,
    ino: Ino,
    handle: Fh,
    offset: u64,
    len: usize,
    /// How often it may begin anew for a file that grows while it is read.
    tries: u8,
}

/// Every time the file has grown once more between two questions.
const TRIES: u8 = 5;
