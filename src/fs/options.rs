//! What a mount can be told about how to behave.

use std::path::PathBuf;
use std::time::Duration;

use crate::read::DiskPlace;

/// The file system's options, filled in by the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Owner and group of everything in the mount.
    pub uid: u32,
    pub gid: u32,
    /// Taken from every mode; where there is none, [`Options::UMASK`] from those that the server does not tell.
    pub umask: Option<u32>,
    /// Permission bits of every file, whatever the server says.
    pub file_mode: Option<u32>,
    /// Permission bits of every folder, whatever the server says.
    pub dir_mode: Option<u32>,
    pub read_only: bool,
    /// Bytes of file contents kept in memory.
    pub cache_size: u64,
    /// Where file contents are kept over the mount, if anywhere.
    pub disk_cache: Option<DiskPlace>,
    /// Whether files and listings that will probably be asked for next are fetched before they are.
    pub prefetch: bool,
    /// How long attributes are believed.
    pub attr_timeout: Duration,
    /// How long listings are believed.
    pub dir_timeout: Duration,
    /// How long a name that was not there is believed to be missing.
    pub negative_timeout: Duration,
    /// Sessions at the server at most; fewer when it allows fewer.
    pub max_conns: usize,
    /// After this long without an answer a call fails with ETIMEDOUT.
    pub timeout: Duration,
    /// Calls wait for the server as long as it takes, as with NFS's `hard`: only a signal ends them.
    pub hard: bool,
    /// Where large drafts are, and what could not be uploaded.
    pub spool_dir: PathBuf,
    /// close() answers when the data is safe on the local disk.
    pub writeback: bool,
    /// Bytes on the local disk that files may take while they are written and uploaded at the same time.
    pub spool_size: u64,
    /// A file written from its start on is uploaded while it is written once so many bytes are there.
    pub stream_from: u64,
    /// A small change in a file of at least this size is written into it on the server.
    pub patch_from: u64,
    /// Write existing files directly instead of replacing them in one step.
    pub in_place: bool,
    /// Refuse what the server cannot do (chmod, chown, utimes) instead of accepting it quietly.
    pub strict_attributes: bool,
}

impl Options {
    /// What files and folders have whose mode the server does not tell, unless asked for otherwise.
    pub const UMASK: u32 = 0o022;

    /// The defaults, for the user of this process.
    pub fn new() -> Self {
        Self {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            umask: None,
            file_mode: None,
            dir_mode: None,
            read_only: false,
            cache_size: 64 << 20,
            disk_cache: None,
            prefetch: true,
            attr_timeout: Duration::from_secs(5),
            dir_timeout: Duration::from_secs(30),
            negative_timeout: Duration::from_secs(5),
            max_conns: 8,
            timeout: Duration::from_secs(30),
            hard: false,
            spool_dir: PathBuf::from("/var/tmp/ftpfs"),
            writeback: false,
            spool_size: 1 << 30,
            stream_from: 4 << 20,
            patch_from: 16 << 20,
            in_place: false,
            strict_attributes: false,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
