//! Creating files: a new file is a draft that the server learns of at close().

use std::time::Instant;

use crate::fs::handles::Handle;
use crate::fs::names::Found;
use crate::fs::reading::{OpenMode, Opened};
use crate::fs::writing::drafts::There;
use crate::fs::{Answer, Caller, Errno, FileSystem};
use crate::ftp::{Error, Kind, Name};
use crate::tree::{Child, Ino, Tree};
use crate::write::Draft;
use crate::write::upload::NEW_FILE_MODE;

impl FileSystem {
    /// create: a new file, which the server learns of at close().
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: OpenMode,
        answer: Answer<(Found, Opened)>,
    ) {
        let name = match self.may_write().and_then(|()| Ok(Name::new(name)?)) {
            Ok(name) => name,
            Err(errno) => return answer.error(errno),
        };
        let known = self.tree.lock().child(parent, &name, Instant::now());
        match known {
            Child::Known(_) if mode.exclusive => answer.error(Errno::EXIST),
            Child::Known(ino) => self.open_known(caller, ino, mode, answer),
            Child::Missing => self.answer_create(parent, &name, mode.bits, answer),
            Child::Unknown => {
                let answer = self.hold(caller, answer);
                let (Ok(path), Some(fs)) = (self.path_of(parent, &name), self.arc()) else {
                    return answer.error(Errno::NOENT);
                };
                self.refresh(
                    parent,
                    Box::new(move |_, outcome| {
                        let known = fs.tree.lock().child_as_listed(parent, &name);
                        match (outcome, known) {
                            (Ok(()), Child::Known(_)) if mode.exclusive => answer.error(Errno::EXIST),
                            (Ok(()), Child::Known(ino)) => fs.open_known(caller, ino, mode, answer),
                            (Err(error), _) if !matches!(error, Error::Refused { .. }) => {
                                answer.error(fs.fail("create", &path, &error));
                            }
                            // A folder that cannot be read may still be written to: the upload will tell.
                            _ => fs.answer_create(parent, &name, mode.bits, answer),
                        }
                    }),
                );
            }
        }
    }

    fn open_known(&self, caller: Caller, ino: Ino, mode: OpenMode, answer: Answer<(Found, Opened)>) {
        let Some(fs) = self.arc() else { return };
        let opened =
            answer.and_then(move |opened: Opened| Ok((fs.remembered(ino).ok_or(Errno::STALE)?, opened)));
        self.open(caller, ino, mode, opened);
    }

    /// Creates a file for whoever still waits for that.
    fn answer_create(&self, parent: Ino, name: &Name, bits: u32, answer: Answer<(Found, Opened)>) {
        if let Some(answer) = answer.claim() {
            answer.send(self.create_new(parent, name, bits));
        }
    }

    fn create_new(&self, parent: Ino, name: &Name, bits: u32) -> Result<(Found, Opened), Errno> {
        if let Some(codepage) = self.codepage {
            // Now, and not when the file is closed: programs look at that less often.
            codepage.encode(name.as_bytes())?;
        }
        let now = Instant::now();
        let ino = {
            let mut tree = self.tree.lock();
            let mode = self.features.can_set_mode().then_some(bits & 0o7777);
            let ino = tree
                .insert(parent, name, Tree::fresh_attributes(Kind::File, mode), now)
                .ok_or(Errno::STALE)?;
            let node = tree.node_mut(ino).ok_or(Errno::STALE)?;
            node.local = true;
            node.opens += 1;
            node.kernel_version = Some(node.version);
            ino
        };
        let mut draft = Draft::new();
        draft.mode = Some(bits & 0o7777).filter(|&mode| mode != NEW_FILE_MODE);
        self.drafts.add(ino, draft, There::Never);
        let found = self.remembered(ino).ok_or(Errno::STALE)?;
        let version = self.version(ino);
        let handle = self.handles.add(Handle::File { ino, writable: true, version, unread: None });
        Ok((found, Opened { handle, keep_pages: true, has_unknown_size: false }))
    }

    fn remembered(&self, ino: Ino) -> Option<Found> {
        let mut tree = self.tree.lock();
        tree.remember(ino);
        let life = tree.attributes_life(ino, Instant::now());
        Some(Found::Node { stat: self.stat_of(&tree, ino)?, name_life: life, life })
    }
}
