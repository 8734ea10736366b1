//! What a mount is doing, as numbers: read by `status`, at any time, also when everything else is stuck.
//!
//! So no lock is waited for that somebody may hold while the local disk or the network is slow: drafts are locked while
//! their bytes go to the spool, and what cannot be had at once is left out.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::writing::Unconfirmed;
use super::{Answer, Errno, FileSystem};
use crate::ftp::features::{Counts, Server, Trouble};
use crate::queue::Doing;
use crate::read::Fetching;

/// A mount at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// `ftp://user@host:port`, without a password.
    pub server: String,
    pub software: Server,
    pub connections: Vec<Doing>,
    /// Sessions at most: asked for, or learned from refusals.
    pub limit: usize,
    /// Jobs without a connection.
    pub waiting_jobs: usize,
    /// Programs that wait for an answer.
    pub waiting_calls: usize,
    pub open_files: usize,
    /// None when the drafts are just being worked on.
    pub uploads: Option<Vec<UploadFigures>>,
    /// None when that cannot be told at once.
    pub downloads: Option<Vec<DownloadFigures>>,
    /// Files and bytes in the journal of `writeback`.
    pub journal: (usize, u64),
    /// Bytes.
    pub cached: u64,
    pub cache_limit: u64,
    /// Reads answered from memory, and others.
    pub hits: u64,
    pub misses: u64,
    pub counts: Counts,
    /// The oldest first.
    pub troubles: Vec<Trouble>,
}

/// A file that the server lacks something of.
#[derive(Clone, Debug)]
pub struct UploadFigures {
    pub path: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Bytes given to the connection.
    pub sent: u64,
    /// Whether the upload has begun (or waits for a connection); otherwise it begins at close().
    pub is_running: bool,
}

/// A file that is being fetched.
#[derive(Clone, Debug)]
pub struct DownloadFigures {
    pub path: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Up to where it is there: it need not have begun at the beginning.
    pub at: u64,
}

impl FileSystem {
    pub fn figures(&self) -> Figures {
        let (connections, waiting_jobs) = self.queue.look();
        let (hits, misses) = self.reads.hits_and_misses();
        Figures {
            server: self.server.clone(),
            software: self.features.server(),
            connections,
            limit: self.queue.limit(),
            waiting_jobs,
            waiting_calls: self.waiting.count(),
            open_files: self.handles.count(),
            uploads: self.upload_figures(),
            downloads: self.download_figures(),
            journal: self.writeback.held(),
            cached: self.reads.cached_bytes(),
            cache_limit: self.reads.cache_limit(),
            hits,
            misses,
            counts: self.features.counters().read(),
            troubles: self.features.troubles().read(),
        }
    }

    fn upload_figures(&self) -> Option<Vec<UploadFigures>> {
        let uploads = self.drafts.look(PATIENCE)?;
        let tree = self.tree.try_lock_for(PATIENCE)?;
        let figures = |Unconfirmed { ino, size, sent, is_running }| {
            let path = tree.path(ino).map(|path| path.to_string()).unwrap_or_default();
            UploadFigures { path, size, sent, is_running }
        };
        Some(uploads.into_iter().map(figures).collect())
    }

    fn download_figures(&self) -> Option<Vec<DownloadFigures>> {
        let downloads = self.reads.look(PATIENCE)?;
        let tree = self.tree.try_lock_for(PATIENCE)?;
        let figures = |Fetching { ino, at, size }| {
            let path = tree.path(ino).map(|path| path.to_string()).unwrap_or_default();
            DownloadFigures { path, size, at }
        };
        Some(downloads.into_iter().map(figures).collect())
    }

    /// Starts every upload that is due; each file's path and outcome come through the channel, which then ends.
    pub fn confirm_everything(&self) -> Receiver<(String, Result<(), Errno>)> {
        let (sender, receiver) = mpsc::channel();
        for ino in self.drafts.unconfirmed_files() {
            let sender = sender.clone();
            let path = self.path(ino).map(|path| path.to_string()).unwrap_or_default();
            // Nobody listening any more is no reason not to upload.
            self.confirm(ino, Answer::new(move |outcome| drop(sender.send((path, outcome)))));
        }
        receiver
    }
}

/// For one lock; a whole answer takes several.
const PATIENCE: Duration = Duration::from_millis(10);
