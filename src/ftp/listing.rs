//! (helper: listings; one file per dialect in listing/)

use std::time::SystemTime;

use super::path::Name;

/// One entry of a folder, as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub kind: Kind,
    /// Bytes; none when the server does not tell.
    pub size: Option<u64>,
    pub modified: Option<Modified>,
    /// Permission bits (0o7777) when the server tells them.
    pub mode: Option<u32>,
    /// Where a symbolic link points, when the server tells it.
    pub target: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    /// A FIFO, socket, device or something unknown: shown, never read (RETR of a FIFO hangs 7 of 13 servers).
    Special,
}

/// A modification time and how far it can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// Already corrected by the server's zone where that is known.
    pub at: SystemTime,
    pub precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Second,
    Minute,
    Day,
}

/// A whole listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Lines that no parser understood (logged): names may be missing.
    pub unparsed: usize,
    /// The server said that it left names out (Pure-FTPd's 10,000): a missing name proves nothing.
    pub truncated: bool,
}
