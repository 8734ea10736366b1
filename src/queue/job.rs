//! A job: what is to be done on a session, how urgent it is, and what happens when it has ended.
//!
//! Made by `fs`, `read` and `write`; run by `connection`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Claim, Ticket, Turn};
use crate::ftp::{Error, Session};

/// One piece of work for one session.
pub struct Job {
    pub(crate) priority: Priority,
    pub(crate) claims: Vec<Claim>,
    pub(crate) needs_data: bool,
    pub(crate) deadline: Option<Until>,
    pub(crate) unlinks: bool,
    /// Since when somebody waits for it; of what nobody waits for, when it was made.
    pub(crate) since: Instant,
    pub(crate) ticket: Ticket,
    /// How often it has been tried: kept when another connection goes on with it.
    pub(crate) attempts: u32,
    pub(crate) task: Box<dyn Task>,
}

impl Job {
    /// A job from two closures: `attempt` does the work, and is called again when the connection was lost under it;
    /// `end` is called once with the outcome.
    pub fn new<T: Send + 'static>(
        priority: Priority,
        attempt: impl FnMut(&mut Session, &Turn<'_>) -> Result<T, Error> + Send + 'static,
        end: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) -> Self {
        Self::of(priority, Box::new(Closures { attempt, end, product: None }))
    }

    /// A job from a task with state of its own.
    pub fn of(priority: Priority, task: Box<dyn Task>) -> Self {
        let (claims, since) = (Vec::new(), Instant::now());
        let (needs_data, deadline, unlinks) = (false, None, false);
        Self {
            priority,
            claims,
            needs_data,
            deadline,
            unlinks,
            since,
            ticket: Ticket::default(),
            attempts: 0,
            task,
        }
    }

    /// The paths that it touches.
    pub fn claim(mut self, claims: impl IntoIterator<Item = Claim>) -> Self {
        self.claims.extend(claims);
        self
    }

    /// It will need a data connection: prefer a session that has one ready.
    pub fn with_data(mut self) -> Self {
        self.needs_data = true;
        self
    }

    /// It takes away what is under the paths that it claims: an upload to one of them makes way for it.
    pub fn unlinking(mut self) -> Self {
        self.unlinks = true;
        self
    }

    /// Makes it as urgent as this, if it is less so.
    pub(crate) fn promote(&mut self, to: Priority) {
        if self.priority >= Priority::BackgroundUpload && to < Priority::BackgroundUpload {
            self.since = Instant::now();
        }
        self.priority = self.priority.min(to);
    }

    /// How urgent it is by now: what somebody has waited for for long is overtaken by nobody any more.
    pub(crate) fn urgency(&self) -> Priority {
        match self.priority {
            Priority::BackgroundUpload | Priority::ReadAhead => self.priority,
            _ if self.since.elapsed() > LONG => Priority::Names,
            priority => priority,
        }
    }

    /// Somebody has waited for what it brings since then.
    pub fn waited_for_since(mut self, since: Instant) -> Self {
        self.since = since;
        self
    }

    /// After this moment nobody waits for it any more: it is not started, and not tried again.
    pub fn until(mut self, deadline: impl Into<Until>) -> Self {
        self.deadline = Some(deadline.into());
        self
    }
}

/// Up to when somebody waits for a job. Whoever joins those who wait puts it off.
#[derive(Clone, Debug)]
pub struct Until(Arc<Mutex<Instant>>);

impl Until {
    pub fn extend(&self, deadline: Instant) {
        let mut until = self.0.lock();
        *until = deadline.max(*until);
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() > *self.0.lock()
    }
}

impl From<Instant> for Until {
    fn from(deadline: Instant) -> Self {
        Self(Arc::new(Mutex::new(deadline)))
    }
}

/// The inside of a job.
pub trait Task: Send {
    /// Does the work on a session. Called again on a new session after a transient error.
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error>;

    /// Whether the last attempt brought something new: then its end by a lost connection does not count against it.
    fn has_progressed(&self) -> bool {
        false
    }

    /// Called exactly once, after the last attempt, on a connection thread; or where the queue is closed, or the job was put
    /// in line and no thread could be started for it. Must not block.
    fn finish(self: Box<Self>, outcome: Result<(), Error>);
}

/// How urgent a job is; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Attributes, listings, and changes of names.
    Names,
    /// A reader waits.
    Read,
    /// Somebody waits in close() or fsync().
    Upload,
    /// Nobody waits for this upload.
    BackgroundUpload,
    /// A reader will probably come.
    ReadAhead,
}

/// Where there are few sessions, there is always something more urgent than a close().
const LONG: Duration = Duration::from_secs(2);

struct Closures<T, A, E> {
    attempt: A,
    end: E,
    product: Option<T>,
}

impl<T, A, E> Task for Closures<T, A, E>
where
    T: Send,
    A: FnMut(&mut Session, &Turn<'_>) -> Result<T, Error> + Send,
    E: FnOnce(Result<T, Error>) + Send,
{
    fn attempt(&mut self, session: &mut Session, turn: &Turn<'_>) -> Result<(), Error> {
        self.product = Some((self.attempt)(session, turn)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Error>) {
        let product = self.product;
        (self.end)(outcome.and_then(|()| product.ok_or(Error::Cancelled)));
    }
}
