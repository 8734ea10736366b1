//! The thread that owns one FTP session: it connects, runs one job at a time, and keeps the session ready.
//!
//! Blocking code on purpose: a handful of connections need a handful of threads, every wait has a deadline on its
//! socket, and a job reads like the dialogue that it holds. Nothing else touches the session, so there is no lock
//! around the network.
//!
//! What may be retried is retried here: when the connection is lost under a job, the job is attempted again on a new one
//! (it is told which attempt this is, so that a rename whose reply was lost can look before it repeats itself). "Too many
//! sessions" is not an error while another session lives: the job goes back, the thread ends, and the queue keeps to the
//! smaller number. Where none lives, others have them all (another mount of the same account, say): it is asked again for
//! nearly as long as a caller waits, and a mount that rests gives its sessions back sooner than that. A panic in a job
//! costs that job and its session, not the mount; one in upkeep the session.
//!
//! How long a server that is away is waited for counts from when it went and from when a job came, whichever is later; not from
//! when a thread took the job. So a hundred uploads that wait for one another end together, and not one time-out after the other.
//!
//! Started by [`Connections::start`]; the queue is the only way in.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use parking_lot::Mutex;

use crate::ftp::{Config, Error, Features, Session};
use crate::queue::{Growth, Job, Next, Queue, Readiness, SlotId, Task, Turn, Until};

/// Where calls wait for ever (`hard`): tells whether any waits now. For which job is not known, nor since when: whoever joins a
/// listing that is under way waits for a job that is older, and whose first caller may have been interrupted.
pub type Patience = Option<Box<dyn Fn() -> bool + Send + Sync>>;

/// What all connection threads of a mount share.
pub struct Connections {
    config: Arc<Config>,
    features: Features,
    patience: Patience,
    /// The last login that was refused.
    refused: Mutex<Option<(Instant, Error)>>,
    /// No session can be had: since when, and why.
    away: Mutex<Option<(Instant, Error)>>,
}

impl Connections {
    /// Starts the queue with at most `limit` sessions. `first` is the session that proved the login; it is the first
    /// connection of the pool.
    pub fn start(
        config: Arc<Config>,
        features: Features,
        limit: usize,
        patience: Patience,
        first: Option<Session>,
    ) -> Arc<Queue> {
        let connections =
            Arc::new(Self { config, features, patience, refused: Mutex::default(), away: Mutex::default() });
        let is_logged_in = first.is_some();
        let first = Mutex::new(first);
        let queue = Queue::new(limit, move |queue, slot| {
            let connections = connections.clone();
            let session = first.lock().take();
            let spawned = std::thread::Builder::new().name("connection".into()).spawn({
                let queue = queue.clone();
                move || {
                    let idle_since = Instant::now();
                    Connection {
                        shared: connections,
                        queue,
                        slot,
                        session,
                        idle_since,
                        is_unready_told: false,
                    }
                    .run()
                }
            });
            if let Err(error) = spawned {
                error!("cannot start a thread: {error}");
                queue.fail_to_start(slot, error.raw_os_error().unwrap_or(libc::EAGAIN));
            }
        });
        if is_logged_in {
            queue.start_first();
        }
        queue
    }
}

impl Connections {
    /// How long a session is kept that others may need: less than they wait for it.
    fn rest(&self) -> Duration {
        SPARE_LIMIT.min(self.config.timeout / 2)
    }

    /// Whether calls wait for ever, and one does now.
    fn waits_for_ever(&self) -> bool {
        self.patience.as_ref().is_some_and(|anybody_waits| anybody_waits())
    }

    /// No session could be had, and none lives.
    fn note_away(&self, error: &Error) {
        let mut away = self.away.lock();
        let since = away.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *away = Some((since, error.clone()));
    }

    /// How long sessions that others have are waited for: the caller shall get the reason before its time is over.
    fn patience_with_others(&self) -> Duration {
        self.config.timeout * 9 / 10
    }
}

struct Connection {
    shared: Arc<Connections>,
    queue: Arc<Queue>,
    slot: SlotId,
    session: Option<Session>,
    idle_since: Instant,
    /// Whether it has been said that this session cannot prepare a data connection.
    is_unready_told: bool,
}

impl Connection {
    fn run(mut self) {
        self.queue.set_live(self.slot, self.session.is_some());
        if self.session.is_none() && !self.log_in_ahead() {
            return;
        }
        let mut readiness = Readiness::Fresh;
        loop {
            let rests = readiness != Readiness::Fresh || self.session.is_none();
            let patience = if rests { UPKEEP.min(self.shared.rest()) } else { GRACE };
            match self.queue.next(self.slot, readiness, patience) {
                Next::Job(job) => {
                    let goes_on = self.serve(job);
                    self.settle();
                    let is_ready = self.session.as_ref().is_some_and(Session::is_ready);
                    readiness = if is_ready { Readiness::Ready } else { Readiness::Fresh };
                    self.idle_since = Instant::now();
                    if !goes_on {
                        break;
                    }
                }
                Next::Idle if self.idle_since.elapsed() >= self.rest() => break,
                Next::Idle => readiness = self.make_ready(),
                Next::Close => break,
            }
        }
    }

    /// Logs in before there is a job, while there are other sessions: one of them may be free for that sooner. False when this
    /// thread should end.
    fn log_in_ahead(&mut self) -> bool {
        while self.queue.has_other(self.slot) {
            let Err(error) = caught(|| self.connect()) else { break };
            debug!("no further session now: {error}");
            let is_limit = matches!(&error, Error::TooManySessions { is_said, .. }
                if self.queue.refuse_growth(self.slot, *is_said) == Growth::Ended);
            if is_limit || !self.queue.pause_growth(self.slot) {
                return false;
            }
        }
        true
    }

    /// Runs a job to its end, over several connections if need be. False when this thread should end.
    fn serve(&mut self, mut job: Job) -> bool {
        let started = Instant::now();
        let mut tries = 0_u32;
        loop {
            if job.deadline.as_ref().is_some_and(Until::is_over) {
                finish(job.task, Err(Error::TimedOut { during: "waiting for a connection" }));
                return true;
            }
            if let Some((long, error)) = self.away_for(&job)
                && long >= self.shared.config.timeout
                && !self.shared.waits_for_ever()
            {
                finish(job.task, Err(error));
                return true;
            }
            let connected = caught(|| self.connect());
            let outcome = match (connected, &mut self.session) {
                (Ok(()), Some(session)) => {
                    let turn = Turn::new(&self.queue, self.slot, job.attempts);
                    job.attempts += 1;
                    caught(|| job.task.attempt(session, &turn))
                }
                (Err(error), _) => {
                    if let Error::TooManySessions { text, is_said } = &error {
                        let growth = self.queue.refuse_growth(self.slot, *is_said);
                        if growth != Growth::Needed {
                            debug!("no further session: {text}");
                            self.queue.give_back(self.slot, job);
                            return growth == Growth::Later
                                && self.queue.pause_growth(self.slot)
                                && self.log_in_ahead();
                        }
                    }
                    if !self.queue.has_other(self.slot) {
                        self.shared.note_away(&error);
                    }
                    Err(error)
                }
                (Ok(()), None) => Err(Error::Cancelled),
            };
            let Err(error) = outcome else {
                finish(job.task, Ok(()));
                return true;
            };
            if error.ends_session() || matches!(error, Error::Cancelled) {
                self.drop_session();
            }
            let progress = job.task.has_progressed();
            if progress {
                job.attempts = 1;
            }
            let restarting = matches!(error, Error::Unreachable { .. } | Error::TooManySessions { .. });
            // A whole time-out has passed in silence: whoever waits is told now.
            let silent = matches!(error, Error::TimedOut { .. }) && !progress;
            let waits = !self.queue.is_closing()
                && (error.is_transient() || restarting)
                && self.shared.waits_for_ever();
            let away = self.away_for(&job).map_or_else(|| started.elapsed(), |(long, _)| long);
            let again = match &error {
                _ if waits => true,
                Error::TooManySessions { .. } => away < self.shared.patience_with_others(),
                Error::Unreachable { .. } => away < PATIENCE,
                _ => error.is_transient() && job.attempts < MAX_ATTEMPTS && !silent,
            };
            if !again {
                finish(job.task, Err(error));
                return true;
            }
            tries += 1;
            if tries <= TOLD_TRIES {
                self.shared.features.troubles().note(format!("{error}: trying again"));
                info!("{error}: trying again");
            }
            if restarting || waits {
                std::thread::sleep((RETRY_PAUSE * tries).min(LONGEST_PAUSE));
            }
        }
    }

    /// How long a job has waited for a server that is away, and why it is. None while any session lives.
    fn away_for(&self, job: &Job) -> Option<(Duration, Error)> {
        if self.session.is_some() || self.queue.has_other(self.slot) {
            return None;
        }
        let away = self.shared.away.lock();
        away.as_ref().map(|(since, error)| (since.elapsed().min(job.since.elapsed()), error.clone()))
    }

    fn connect(&mut self) -> Result<(), Error> {
        if self.session.as_mut().is_some_and(|session| !session.is_alive()) {
            self.drop_session();
        }
        if self.session.is_none() {
            let refused = self.shared.refused.lock();
            if let Some((at, error)) = &*refused
                && at.elapsed() < LOGIN_PAUSE
            {
                return Err(error.clone());
            }
            drop(refused);
            let is_first = !self.shared.features.is_learned();
            let opened = Session::open(&self.shared.config, &self.shared.features);
            if let Err(error @ Error::Login { .. }) = &opened {
                *self.shared.refused.lock() = Some((Instant::now(), error.clone()));
            }
            let session = opened?;
            if is_first {
                session.warn_of_clear_text();
            }
            self.session = Some(session);
            self.is_unready_told = false;
            *self.shared.away.lock() = None;
            self.queue.set_live(self.slot, true);
        }
        Ok(())
    }

    /// Takes what a job has left to be taken.
    fn settle(&mut self) {
        let Some(session) = self.session.as_mut() else { return };
        let settled = caught(|| {
            session.settle();
            Ok(())
        });
        if settled.is_err() {
            self.drop_session();
        }
    }

    /// Upkeep of an idle session.
    fn make_ready(&mut self) -> Readiness {
        let Some(session) = self.session.as_mut() else { return Readiness::Unable };
        if session.is_alive() {
            match caught(|| session.make_ready()) {
                Ok(()) => return Readiness::Ready,
                Err(Error::Cancelled) => self.drop_session(),
                Err(error) if self.is_unready_told => debug!("cannot prepare a data connection: {error}"),
                Err(error) => {
                    warn!("cannot prepare a data connection: {error}");
                    self.is_unready_told = true;
                }
            }
        }
        if self.session.as_mut().is_some_and(|session| !session.is_alive()) {
            self.drop_session();
        }
        Readiness::Unable
    }

    /// How long this connection is kept without a job.
    fn rest(&self) -> Duration {
        if self.queue.is_spare(self.slot) { self.shared.rest() } else { IDLE_LIMIT }
    }

    fn drop_session(&mut self) {
        self.session = None;
        self.queue.set_live(self.slot, false);
    }
}

/// A panic, here in logging in, in a job or in upkeep, is an error, after which the session is thrown away.
fn caught(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        error!("a job panicked, its connection is closed: {}", words(&*panic));
        Err(Error::Cancelled)
    })
}

/// Ends a job. What panics here has answered nobody: its answers are dropped, which is an error to who waits.
fn finish(task: Box<dyn Task>, outcome: Result<(), Error>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task.finish(outcome))) {
        error!("the end of a job panicked: {}", words(&*panic));
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = caught(|| {
                session.quit();
                Ok(())
            });
        }
        self.queue.leave(self.slot);
    }
}

/// How long upkeep waits for what a program asks right behind an answer (`ls -l` on vsftpd: the exact times).
const GRACE: Duration = Duration::from_millis(2);
/// How often an idle connection looks after itself. Ready data connections last 290 s on the most impatient servers
/// measured; control connections with a short idle limit are noticed dead at the next job anyway.
const UPKEEP: Duration = Duration::from_secs(20);
/// After this long without a job a connection is given back to the server: it comes back on demand.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
/// As [`IDLE_LIMIT`], when another session lives, or the server has said that it allows few.
const SPARE_LIMIT: Duration = Duration::from_secs(15);
/// Attempts at one job when connections break under it.
const MAX_ATTEMPTS: u32 = 3;
/// How long a server that refuses connections is asked again: a restart takes this long, a dead server is told soon.
const PATIENCE: Duration = Duration::from_secs(3);
/// A password that was refused is not tried again for so long: servers ban addresses that insist, and programs that look
/// into a mount again and again would.
const LOGIN_PAUSE: Duration = Duration::from_secs(60);
/// Longer after each try.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The next call shall work within 2 s of the server being up.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A server that is away for a night shall not fill the log.
const TOLD_TRIES: u32 = 5;
