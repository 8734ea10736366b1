//! The adapter to the kernel: fuser's types in, ours out, and replies turned into [`Answer`]s that can be sent later ([`words`]).
//!
//! One event loop, so that requests arrive in the order of their offsets, and it never blocks: the file system answers
//! from memory or takes the answer along. What is asked of the kernel, and why:
//! * at most 96 KiB of read-ahead: our own streams run ahead, and know when not to;
//! * `max_background` 512: with the default of 16, sixteen slow reads stop the reads of all other files;
//! * no write-back cache: it hides sizes and times that change on the server, and turns appends into rewrites;
//! * AUTO_INVAL_DATA, and pages kept over an open only when the content is the same one;
//! * READDIRPLUS_AUTO, PARALLEL_DIROPS, ATOMIC_O_TRUNC: fewer calls for the same work.
//!
//! A panic in a call is that call's error, and the log's: with one event loop, everything else would end with it.
//!
//! Knows nothing of FTP; `fs` knows nothing of fuser.

mod words;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Config, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, Session, SessionACL, TimeOrNow,
    WriteFlags,
};

use crate::fs::names::Found;
use crate::fs::reading::{OpenMode, Opened};
use crate::fs::{Answer, Change, Errno, Fh, FileSystem};
use words::{
    BLOCK, attributes, caller, data, empty, entry, error, file_attr, file_type, handle, ino, open_flags,
    open_mode,
};

/// A running event loop.
pub struct Serving {
    thread: JoinHandle<io::Result<()>>,
}

/// Serves a mounted /dev/fuse descriptor. The handshake with the kernel is done when this returns.
///
/// # Errors
/// Those of the handshake.
pub fn serve(fd: OwnedFd, fs: Arc<FileSystem>, acl: SessionACL) -> io::Result<Serving> {
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(1);
    let session = Session::from_fd(Adapter { fs }, fd, acl, config)?;
    let thread = std::thread::Builder::new().name("fuse".into()).spawn(move || session.run())?;
    Ok(Serving { thread })
}

impl Serving {
    /// Waits until the mount has ended.
    ///
    /// # Errors
    /// Those of /dev/fuse.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the event loop panicked")))
    }
}

struct Adapter {
    fs: Arc<FileSystem>,
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_HANDLE_KILLPRIV,
        ];
        for flag in wanted {
            // An older kernel does without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_readahead(MAX_READAHEAD);
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        survive("lookup", || {
            self.fs.lookup(caller(req), ino(parent), name.as_bytes(), entry(reply));
        });
    }

    fn forget(&self, _req: &Request, node: INodeNo, nlookup: u64) {
        survive("forget", || {
            self.fs.forget(ino(node), nlookup);
        });
    }

    fn getattr(&self, req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        survive("getattr", || {
            self.fs.attributes(caller(req), ino(node), attributes(reply));
        });
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        survive("setattr", || {
            let modified = mtime.map(|time| match time {
                TimeOrNow::SpecificTime(at) => at,
                TimeOrNow::Now => SystemTime::now(),
            });
            let owner = uid.is_some() || gid.is_some();
            let change = Change { mode, owner, size, modified, handle: fh.map(handle) };
            self.fs.change(caller(req), ino(node), change, attributes(reply));
        });
    }

    fn readlink(&self, req: &Request, node: INodeNo, reply: ReplyData) {
        survive("readlink", || {
            self.fs.link_target(caller(req), ino(node), data(reply));
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        survive("mkdir", || {
            self.fs.make_folder(caller(req), ino(parent), name.as_bytes(), mode, entry(reply));
        });
    }

    /// FIFOs, devices and sockets; files are made by create.
    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        entry(reply).error(Errno::PERM);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        survive("unlink", || {
            self.fs.remove_file(caller(req), ino(parent), name.as_bytes(), empty(reply));
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        survive("rmdir", || {
            self.fs.remove_folder(caller(req), ino(parent), name.as_bytes(), empty(reply));
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        survive("rename", || {
            if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
                return reply.error(fuser::Errno::EINVAL);
            }
            let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
            let (from, to) = ((ino(parent), name.as_bytes()), (ino(newparent), newname.as_bytes()));
            self.fs.rename(caller(req), from, to, keep, empty(reply));
        });
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        survive("open", || {
            let answer = Answer::new(move |opened: Result<Opened, Errno>| match opened {
                Ok(opened) => reply.opened(FileHandle(opened.handle.0), open_flags(opened)),
                Err(errno) => reply.error(error(errno)),
            });
            self.fs.open(caller(req), ino(node), open_mode(flags.0), answer);
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        survive("create", || {
            let answer = Answer::new(move |created: Result<(Found, Opened), Errno>| match created {
                Ok((Found::Node { stat, life, .. }, opened)) => {
                    let attr = file_attr(&stat);
                    reply.created(
                        &life,
                        &attr,
                        Generation(0),
                        FileHandle(opened.handle.0),
                        open_flags(opened),
                    );
                }
                Ok(_) => reply.error(fuser::Errno::ENOENT),
                Err(errno) => reply.error(error(errno)),
            });
            let mode = OpenMode { bits: mode, ..open_mode(flags) };
            self.fs.create(caller(req), ino(parent), name.as_bytes(), mode, answer);
        });
    }

    fn read(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        survive("read", || {
            self.fs.read(caller(req), ino(node), handle(fh), offset, size as usize, data(reply));
        });
    }

    fn write(
        &self,
        req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        survive("write", || {
            let answer = Answer::new(move |written| match written {
                Ok(written) => reply.written(written as u32),
                Err(errno) => reply.error(error(errno)),
            });
            self.fs.write(caller(req), ino(node), offset, bytes, answer);
        });
    }

    fn flush(&self, req: &Request, node: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        survive("flush", || {
            self.fs.flush(caller(req), ino(node), handle(fh), empty(reply));
        });
    }

    fn release(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        survive("release", || {
            self.fs.release(handle(fh));
            reply.ok();
        });
    }

    fn fsync(&self, req: &Request, node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        survive("fsync", || {
            self.fs.sync(caller(req), ino(node), empty(reply));
        });
    }

    fn opendir(&self, req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        survive("opendir", || {
            let answer = Answer::new(move |opened: Result<Fh, Errno>| match opened {
                Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
                Err(errno) => reply.error(error(errno)),
            });
            self.fs.open_folder(caller(req), ino(node), answer);
        });
    }

    fn readdir(&self, req: &Request, _node: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        survive("readdir", || {
            let fs = self.fs.clone();
            let answer = Answer::new(move |known: Result<(), Errno>| {
                let outcome = known.and_then(|()| {
                    fs.read_folder(handle(fh), offset, false, |entry| {
                        let name = OsStr::from_bytes(entry.name);
                        reply.add(INodeNo(entry.stat.ino.0), entry.offset, file_type(entry.kind()), name)
                    })
                });
                match outcome {
                    Ok(()) => reply.ok(),
                    Err(errno) => reply.error(error(errno)),
                }
            });
            self.fs.await_entries(caller(req), handle(fh), offset, answer);
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        survive("readdirplus", || {
            let fs = self.fs.clone();
            let answer = Answer::new(move |known: Result<(), Errno>| {
                let outcome = known.and_then(|()| {
                    fs.read_folder(handle(fh), offset, true, |entry| {
                        let (name, attr) = (OsStr::from_bytes(entry.name), file_attr(&entry.stat));
                        let ino = INodeNo(entry.stat.ino.0);
                        reply.add(ino, entry.offset, name, &entry.life, &attr, Generation(0))
                    })
                });
                match outcome {
                    Ok(()) => reply.ok(),
                    Err(errno) => reply.error(error(errno)),
                }
            });
            self.fs.await_entries(caller(req), handle(fh), offset, answer);
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        survive("releasedir", || {
            self.fs.close_folder(handle(fh));
            reply.ok();
        });
    }

    fn fsyncdir(&self, _req: &Request, _node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        // Changes of names are on the server when their call returns.
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        survive("statfs", || {
            let (total, free) = match self.fs.space_left() {
                Some(space) => {
                    (space.total.max(space.free) / u64::from(BLOCK), space.free / u64::from(BLOCK))
                }
                None => (SOME_SPACE, SOME_SPACE),
            };
            reply.statfs(total, free, free, 0, 0, BLOCK, 255, BLOCK);
        });
    }
}

/// A panic costs the call at hand (its reply is dropped, which answers EIO), not the mount.
fn survive(call: &'static str, action: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(action)).is_err() {
        log::error!("{call} panicked: that call failed, the mount goes on");
    }
}

/// What the kernel asks for ahead of a reader, at most. Less than its usual 128 KiB: that is what it asks for at once when a
/// program reads the first 64 KiB of a file and no more, which is then twice the bytes, and what is under way besides.
const MAX_READAHEAD: u32 = 96 << 10;
/// The largest write that the kernel sends at once.
const MAX_WRITE: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 512;
/// Most servers cannot tell the free space: 1 PiB (in blocks) never stops a program that asks first.
const SOME_SPACE: u64 = 1 << 38;
