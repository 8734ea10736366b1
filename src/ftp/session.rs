//! (helper: one logged-in session)

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Config, Entry, Error, Features, Listing, Modified, RemotePath};

/// One control connection, logged in, with TYPE I set.
pub struct Session {}

impl Session {
    /// Connects, logs in, learns features (the first session of a mount) and finds the mount's root.
    pub fn open(_config: &Arc<Config>, _features: &Features) -> Result<Self, Error> {
        todo!()
    }

    /// The folder on the server that is the root of the mount (Config::folder resolved against PWD).
    pub fn root(&self) -> &RemotePath {
        todo!()
    }

    /// What is known of this server.
    pub fn features(&self) -> &Features {
        todo!()
    }

    /// False when the session can no longer be used: an earlier error ended it, or the server has closed it or sent 421 meanwhile
    /// (looks without waiting).
    pub fn is_alive(&mut self) -> bool {
        todo!()
    }

    /// Does the round trips of the next transfer ahead (EPSV, data connect). Never needed for correctness; called when idle.
    pub fn make_ready(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Keep-alive for an idle session (NOOP).
    pub fn keep_alive(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Says QUIT without waiting for the answer.
    pub fn quit(self) {}

    /// Lists a folder.
    pub fn list(&mut self, _folder: &RemotePath) -> Result<Listing, Error> {
        todo!()
    }

    /// Attributes of one path (MLST, or SIZE+MDTM, with CWD to tell folders). Follows symlinks where the server does.
    pub fn stat(&mut self, _path: &RemotePath) -> Result<Entry, Error> {
        todo!()
    }

    /// Modification times to the second (MDTM, pipelined where the server allows); none per path that has none.
    pub fn exact_times(&mut self, _paths: &[RemotePath]) -> Result<Vec<Option<Modified>>, Error> {
        todo!()
    }

    /// Where symlinks of a folder point, for servers whose MLSD does not tell: LIST.
    pub fn link_targets(&mut self, _folder: &RemotePath) -> Result<Listing, Error> {
        todo!()
    }

    /// Starts RETR at `offset`.
    pub fn retrieve(&mut self, _path: &RemotePath, _offset: u64) -> Result<Download<'_>, Error> {
        todo!()
    }

    /// Uploads everything that `source` gives; returns when the server has confirmed it (226) and told the size.
    pub fn store(
        &mut self,
        _path: &RemotePath,
        _how: How,
        _source: &mut dyn io::Read,
        _after: &After,
    ) -> Result<Stored, Error> {
        todo!()
    }

    pub fn rename(&mut self, _from: &RemotePath, _to: &RemotePath) -> Result<(), Error> {
        todo!()
    }

    pub fn delete(&mut self, _path: &RemotePath) -> Result<(), Error> {
        todo!()
    }

    pub fn make_directory(&mut self, _path: &RemotePath) -> Result<(), Error> {
        todo!()
    }

    pub fn remove_directory(&mut self, _path: &RemotePath) -> Result<(), Error> {
        todo!()
    }

    /// MFMT, SITE UTIME or vsftpd's MDTM, whichever this server has; Unsupported when none.
    pub fn set_modified(&mut self, _path: &RemotePath, _at: SystemTime) -> Result<(), Error> {
        todo!()
    }

    /// SITE CHMOD, octal; Unsupported when the server has none.
    pub fn set_mode(&mut self, _path: &RemotePath, _mode: u32) -> Result<(), Error> {
        todo!()
    }
}

/// How an upload meets what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// STOR: replaces.
    Replace,
    /// APPE: adds at the end.
    Append,
    /// REST + STOR: overwrites from this offset on.
    From(u64),
}

/// What is to be done or asked once the data is there, in the same round trip where the server allows it.
#[derive(Clone, Debug, Default)]
pub struct After {
    pub modified: Option<SystemTime>,
    pub mode: Option<u32>,
}

/// A confirmed upload.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Bytes sent by this transfer.
    pub sent: u64,
    /// The file's size as the server tells it after the transfer (SIZE, or MLST/listing where SIZE is missing); none if it cannot.
    pub size: Option<u64>,
    /// The file's mtime as the server tells it (or as it was just set).
    pub modified: Option<Modified>,
    /// Whether After::modified was applied / is unsupported / failed: Some(Err) carries the refusal.
    pub modified_set: Option<Result<(), Error>>,
    pub mode_set: Option<Result<(), Error>>,
}

/// A running RETR.
pub struct Download<'s> {
    _session: &'s mut Session,
}

impl Download<'_> {
    /// The next bytes; 0 at the end of the stream. Errors: the refusal (also one that comes after 150), a broken or silent connection.
    pub fn read(&mut self, _buf: &mut [u8]) -> Result<usize, Error> {
        todo!()
    }

    /// After `read` gave 0: closes the data connection at once and reads the final reply. Ok only on 2xx.
    pub fn finish(self) -> Result<(), Error> {
        todo!()
    }

    /// Stops early, leaving the session usable where this server allows it (`Session::is_alive` tells).
    pub fn abandon(self) {}
}
