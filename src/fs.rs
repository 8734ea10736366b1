//! The file system: one method per file call, answered from memory or by a job.
//!
//! One file per family of calls: [`names`], [`attributes`] (with [`times`]), [`folders`] (with [`arriving`]), [`reading`],
//! [`writing`] (with [`descriptors`], and [`writeback`] for who does not want to wait), [`space`]. Beside them: [`handles`], what
//! programs have open; [`ahead`], what comes before it is asked for; [`figures`], what `status` shows.
//!
//! Every call takes an [`Answer`] and returns at once. Where the [`tree`](crate::tree), the block cache or a draft know, the
//! answer is sent before the method returns; otherwise a job goes to the queue and its end answers. Errors become an errno
//! in [`errno`], and nowhere else.
//!
//! Locks are short, never held across I/O or an answer, and taken in one order: the drafts, one draft, the tree. Only `fuse`
//! calls this; and `cli` and `status`, to start it, to stop it, and to look at it.

mod ahead;
pub mod answer;
mod arriving;
pub mod attributes;
mod descriptors;
pub mod errno;
pub mod figures;
pub mod folders;
mod handles;
pub mod names;
pub mod options;
pub mod reading;
pub mod space;
mod times;
pub mod writeback;
pub mod writing;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::{debug, info, warn};

pub use answer::{Answer, Caller};
pub use attributes::{Change, Stat};
pub use errno::Errno;
pub use options::Options;

use crate::connection::{Connections, Patience};
use crate::ftp::codepage::Codepage;
use crate::ftp::{self, Error, Features, Name, Refusal, RemotePath, Session};
use crate::lock::Mutex;
use crate::queue::{Job, Queue};
use crate::read::{Content, Locate, Reads, UNKNOWN_SIZE};
use crate::tree::{Ino, Lifetimes, Tree};
use ahead::Ahead;
use answer::Waiting;
use descriptors::Descriptors;
use folders::Listings;
pub use handles::Fh;
use handles::Handles;
use space::SpaceLeft;
use times::Times;
use writeback::{Writeback, open_journal};
use writing::Drafts;

/// A mounted server.
pub struct FileSystem {
    tree: Mutex<Tree>,
    queue: Arc<Queue>,
    reads: Arc<Reads>,
    drafts: Drafts,
    writeback: Writeback,
    handles: Handles,
    listings: Listings,
    ahead: Ahead,
    times: Times,
    space: SpaceLeft,
    waiting: Arc<Waiting>,
    descriptors: Descriptors,
    features: Features,
    options: Options,
    /// The server's address without a password, for messages.
    server: String,
    codepage: Option<Codepage>,
    this: Weak<FileSystem>,
}

impl FileSystem {
    /// Logs in; the file system is ready when this returns.
    ///
    /// # Errors
    /// Those of connecting and logging in.
    pub fn start(config: ftp::Config, options: Options) -> Result<Arc<Self>, Error> {
        let config = Arc::new(config);
        let features = Features::new();
        let started = Instant::now();
        let session = loop {
            match Session::open_proven(&config, &features) {
                // Others have them all: another mount of the same account gives some back when it rests.
                Err(error @ Error::TooManySessions { .. }) if started.elapsed() < options.timeout => {
                    warn!("{error}: waiting for one");
                    std::thread::sleep(ANOTHER_TRY);
                }
                opened => break opened?,
            }
        };
        session.warn_of_clear_text();
        let root = session.root().clone();
        // More than the login is proven: that data connections work. What the listing tells is not kept: the first program
        // to look shall see the server as it is then.
        Ok(Self::over(config, features, options, root, Some(session)))
    }

    /// Connects when somebody first looks: for mounts at boot, when the server may not be there yet. Whatever is wrong
    /// with the login or the folder is then told to whoever looks.
    pub fn start_later(config: ftp::Config, options: Options) -> Arc<Self> {
        // The first listing brings the true root.
        Self::over(Arc::new(config), Features::new(), options, RemotePath::root(), None)
    }

    fn over(
        config: Arc<ftp::Config>,
        features: Features,
        mut options: Options,
        root: RemotePath,
        session: Option<Session>,
    ) -> Arc<Self> {
        let server = format!("ftp://{}@{}:{}", config.user, config.host, config.port);
        let lifetimes = Lifetimes {
            attributes: options.attr_timeout,
            absence: options.negative_timeout,
            listings: options.dir_timeout,
        };
        let codepage = config.codepage;
        let (journal, left) = open_journal(&options, &format!("{server} {:?}", config.folder));
        let writeback = Writeback::new(options.writeback, journal);
        if writeback.acknowledges() {
            // What is uploaded while it is written needs no journal; only large files are, so that close() need not wait.
            options.stream_from = options.stream_from.max(options.spool_size / 4);
        }
        let waiting = Waiting::new();
        let patience: Patience = match options.hard {
            true => {
                let waiting = Arc::downgrade(&waiting);
                Some(Box::new(move || waiting.upgrade().is_some_and(|waiting| waiting.count() > 0)))
            }
            false => None,
        };
        let queue = Connections::start(config, features.clone(), options.max_conns, patience, session);
        let filesystem = Arc::new_cyclic(|this| Self {
            tree: Mutex::new(Tree::new(root, lifetimes)),
            reads: Reads::new(
                queue.clone(),
                options.cache_size,
                options.disk_cache.as_ref(),
                options.prefetch,
                &server,
            ),
            queue,
            drafts: Drafts::default(),
            writeback,
            handles: Handles::default(),
            listings: Listings::default(),
            ahead: Ahead::default(),
            waiting,
            descriptors: Descriptors::default(),
            features,
            options,
            times: Times::default(),
            space: SpaceLeft::default(),
            server,
            codepage,
            this: this.clone(),
        });
        filesystem.restore(left);
        filesystem
    }

    /// Brings what is not yet on the server there, for at most `limit`; then no more work is taken. Returns how many
    /// files could not be confirmed (their bytes are kept, and logged). `is_enough`: whether somebody will not wait any longer.
    pub fn shutdown(&self, limit: Duration, is_enough: impl Fn() -> bool) -> usize {
        let until = Instant::now() + limit;
        self.upload_everything();
        let mut told = Instant::now();
        loop {
            let left = self.drafts.unconfirmed();
            // What the server refuses now, it refuses in a minute.
            if left <= self.hopeless() || Instant::now() >= until || is_enough() {
                break;
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                info!("{left} files are still to be uploaded");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let lost = self.keep_everything();
        self.reads.settle();
        self.writeback.tidy();
        self.queue.close();
        let (mut open, _) = self.queue.connections();
        let until = Instant::now() + GOODBYE;
        while open > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
            open = self.queue.connections().0;
        }
        lost
    }

    /// Tells under which number the kernel has the mount, of those in `/proc/self/mountinfo`.
    pub fn mounted_as(&self, id: u64) {
        self.descriptors.mounted_as(id);
    }

    /// Forgets everything that the server told: it will be asked again.
    pub fn forget_caches(&self) {
        self.tree.lock().expire_all();
        self.reads.forget_all();
    }

    /// How many files and folders programs have open.
    pub fn open_files(&self) -> usize {
        self.handles.count()
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A strong reference to this file system, for a job.
    fn arc(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    fn submit(&self, job: Job) {
        self.queue.submit(job);
    }

    /// The moment after which nobody waits any more for a call that begins now.
    fn deadline(&self) -> Instant {
        Instant::now() + if self.options.hard { NEVER } else { self.options.timeout }
    }

    /// An answer that gives up by itself.
    fn hold<T: Send + 'static>(&self, caller: Caller, answer: Answer<T>) -> Answer<T> {
        let limit = (!self.options.hard).then_some(self.options.timeout);
        self.waiting.hold(caller, limit, answer)
    }

    /// Where a node is on the server.
    fn path(&self, ino: Ino) -> Result<RemotePath, Errno> {
        self.tree.lock().path(ino).ok_or(Errno::NOENT)
    }

    /// Where a name in a folder is on the server.
    fn path_of(&self, parent: Ino, name: &Name) -> Result<RemotePath, Errno> {
        Ok(self.path(parent)?.join(name))
    }

    /// The content of a file as it is known on the server now.
    fn content(&self, ino: Ino) -> Result<Content, Errno> {
        let tree = self.tree.lock();
        let node = tree.node(ino).ok_or(Errno::STALE)?;
        Ok(Content {
            ino,
            version: node.version,
            size: if node.has_unknown_size() { UNKNOWN_SIZE } else { node.attributes.size },
            modified: node.exact_time(),
            locate: self.locate(ino),
        })
    }

    fn locate(&self, ino: Ino) -> Locate {
        let this = self.this.clone();
        Arc::new(move || this.upgrade()?.tree.lock().path(ino))
    }

    /// The errno for an error, with a line in the log that says what was tried and what the server said.
    fn fail(&self, what: &str, path: &impl std::fmt::Display, error: &Error) -> Errno {
        let errno = Errno::from(error);
        match error {
            Error::Refused { meaning, .. } if *meaning != Refusal::Unclear => {
                debug!("{what} {path}: {error}: {errno}")
            }
            Error::Unsupported { .. } => debug!("{what} {path}: {error}: {errno}"),
            _ => {
                self.features.troubles().note(format!("{what} {path}: {error}"));
                warn!("{what} {path}: {error}: {errno}")
            }
        }
        errno
    }

    fn may_write(&self) -> Result<(), Errno> {
        if self.options.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }
}

/// Work to be done once something is known, on whichever thread learns it.
type Then = Box<dyn FnOnce(&FileSystem, Result<(), Error>) + Send>;

/// A hundred years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How often the end says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// Between two looks whether a session has become free.
const ANOTHER_TRY: Duration = Duration::from_secs(1);
/// How long QUITs may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// Nodes held in memory at most, as far as the kernel and open folders let us forget: about 40 MB.
const MAX_NODES: usize = 100_000;
