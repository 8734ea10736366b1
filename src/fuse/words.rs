//! Words: fuser's types in, ours out, and replies as [`Answer`]s. Used by `fuse`.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, Request,
};

use crate::fs::names::Found;
use crate::fs::reading::{OpenMode, Opened};
use crate::fs::{Answer, Caller, Errno, Fh, Stat};
use crate::ftp::Kind;
use crate::tree::Ino;

pub(super) fn caller(req: &Request) -> Caller {
    Caller { pid: req.pid() }
}

pub(super) fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

pub(super) fn handle(fh: FileHandle) -> Fh {
    Fh(fh.0)
}

pub(super) fn error(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

pub(super) fn entry(reply: ReplyEntry) -> Answer<Found> {
    Answer::new(move |found| match found {
        Ok(Found::Node { stat, name_life, life }) => {
            reply.entry_with_ttls(&life, &name_life, &file_attr(&stat), Generation(0));
        }
        Ok(Found::Missing(Duration::ZERO)) => reply.error(fuser::Errno::ENOENT),
        Ok(Found::Missing(life)) => reply.entry(&life, &no_attr(), Generation(0)),
        Err(errno) => reply.error(error(errno)),
    })
}

pub(super) fn attributes(reply: ReplyAttr) -> Answer<(Stat, Duration)> {
    Answer::new(move |known| match known {
        Ok((stat, life)) => reply.attr(&life, &file_attr(&stat)),
        Err(errno) => reply.error(error(errno)),
    })
}

pub(super) fn data<B: Deref<Target = [u8]>>(reply: ReplyData) -> Answer<B> {
    Answer::new(move |bytes: Result<B, Errno>| match bytes {
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(error(errno)),
    })
}

pub(super) fn empty(reply: ReplyEmpty) -> Answer<()> {
    Answer::new(move |done| match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(error(errno)),
    })
}

pub(super) fn open_mode(flags: i32) -> OpenMode {
    OpenMode {
        write: flags & libc::O_ACCMODE != libc::O_RDONLY,
        truncate: flags & libc::O_TRUNC != 0,
        exclusive: flags & libc::O_EXCL != 0,
        bits: 0,
    }
}

pub(super) fn open_flags(opened: Opened) -> FopenFlags {
    if opened.has_unknown_size {
        // The kernel would read no further than the size that it knows.
        return FopenFlags::FOPEN_DIRECT_IO;
    }
    if opened.keep_pages { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        // A FIFO or device of the server is none here: opening it must not reach into this machine.
        Kind::File | Kind::Special => FileType::RegularFile,
    }
}

pub(super) fn file_attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: stat.size,
        blocks: stat.size.div_ceil(512),
        atime: stat.modified,
        mtime: stat.modified,
        ctime: stat.modified,
        crtime: stat.modified,
        kind: file_type(stat.kind),
        perm: (stat.mode & 0o7777) as u16,
        nlink: u32::from(!stat.removed),
        uid: stat.uid,
        gid: stat.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// Inode 0: the kernel remembers that the name does not exist.
fn no_attr() -> FileAttr {
    let stat = Stat {
        ino: Ino(0),
        kind: Kind::File,
        size: 0,
        modified: SystemTime::UNIX_EPOCH,
        mode: 0,
        uid: 0,
        gid: 0,
        removed: false,
    };
    file_attr(&stat)
}

/// st_blksize: programs that buffer read this much at once, and random readers should not read more.
pub(super) const BLOCK: u32 = 4096;
