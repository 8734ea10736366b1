//! How a mount tells what it is doing: a socket that only its owner (and root) can reach, served by threads of its own.
//!
//! `ftpfs status`, `list`, `flush`, `forget` and `umount` talk to it; so can a script (`socat - UNIX:/run/ftpfs/0-52`).
//!
//! **Where**: [`folder`] of the user who mounted: `/run/ftpfs` for root, `$XDG_RUNTIME_DIR/ftpfs` (or `/run/user/UID/ftpfs`)
//! for others, `/tmp/ftpfs-UID` where there is neither. The socket's name is the mount's device number, as in the third
//! field of `/proc/self/mountinfo`, with a dash: `0-52`.
//!
//! **Protocol**: lines of text. The client sends one of the requests below; the answer is any number of lines that begin
//! with `+`, then one line that is `.` (done) or begins with `!` (failed, and why). Several requests may follow each other.
//!
//! | request | answer |
//! |---|---|
//! | `status` | what is going on, for people; speeds are those since the request before |
//! | `summary`, `transfers` | the same in two parts: without the transfers, and those as `up`/`down`, bytes done, bytes in all, path |
//! | `json` | the same as one line of JSON |
//! | `metrics` | the same in Prometheus's text format |
//! | `brief` | one line, for `ftpfs list` |
//! | `flush SECONDS` | uploads what is due; `+files done bytes` now and then; `.` when the server has confirmed all of it |
//! | `forget` | drops everything that is cached |
//! | `push FILE` | uploads what `ftpfs recover` shows; `+` and what there is to say about it |
//! | `wait` | `+` at once (whoever has it may unmount), and when the mount has ended `+` and how many files were not confirmed |
//!
//! The answer to `status` comes also when the network, the disk and every call are stuck: nothing here takes a lock that
//! is held across I/O ([`crate::fs::figures`]). Started by `cli::serve`.

mod report;

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, geteuid};
use parking_lot::{Condvar, Mutex};

use crate::fs::FileSystem;
use crate::fs::writeback::Settled;
use crate::mount::Identity;
pub use report::bytes;
use report::{Before, Report};

/// The socket of a mount; it goes when this is dropped.
pub struct Desk {
    socket: PathBuf,
    inode: u64,
    shared: Arc<Shared>,
}

struct Shared {
    filesystem: Arc<FileSystem>,
    mount_point: PathBuf,
    source: String,
    started: Instant,
    visitors: Mutex<Visitors>,
    changed: Condvar,
}

#[derive(Default)]
struct Visitors {
    /// Everybody who is connected.
    count: usize,
    /// Those who wait for the end.
    waiting: usize,
    /// The mount has ended, with so many files not confirmed.
    ended: Option<usize>,
}

impl Desk {
    /// Opens the socket and starts to answer.
    ///
    /// # Errors
    /// Those of making the folder and the socket: the mount works without.
    pub fn open(
        mount: Identity,
        mount_point: &Path,
        source: &str,
        filesystem: Arc<FileSystem>,
    ) -> io::Result<Self> {
        let (listener, socket) = bind(&name(mount))?;
        let shared = Arc::new(Shared {
            filesystem,
            mount_point: mount_point.to_owned(),
            source: source.to_owned(),
            started: Instant::now(),
            visitors: Mutex::default(),
            changed: Condvar::new(),
        });
        let inode = std::fs::symlink_metadata(&socket)?.ino();
        let desk = Self { socket, inode, shared: shared.clone() };
        std::thread::Builder::new().name("status".into()).spawn(move || accept(&listener, &shared))?;
        Ok(desk)
    }

    /// Tells everybody who waits for the end that it has come, and lets them read it.
    pub fn ended(self, unconfirmed: usize) {
        let mut visitors = self.shared.visitors.lock();
        visitors.ended = Some(unconfirmed);
        self.shared.changed.notify_all();
        let until = Instant::now() + FAREWELL;
        while visitors.waiting > 0 && !self.shared.changed.wait_until(&mut visitors, until).timed_out() {}
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // The next mount may have got our number while we were uploading: then the name is its, too.
        if std::fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.socket);
        }
        // The last mount's end leaves nothing behind.
        let _ = self.socket.parent().map(std::fs::remove_dir);
    }
}

/// Where the sockets of a user's mounts are.
pub fn folder(user: Uid) -> PathBuf {
    if user.is_root() {
        return PathBuf::from("/run/ftpfs");
    }
    let belongs = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.uid() == user.as_raw());
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = PathBuf::from(format!("/run/user/{user}"));
    match [named, Some(usual)].into_iter().flatten().find(|path| belongs(path)) {
        Some(runtime) => runtime.join("ftpfs"),
        None => PathBuf::from(format!("/tmp/ftpfs-{user}")),
    }
}

/// The socket's name within its folder.
pub fn name(mount: Identity) -> String {
    format!("{}-{}", mount.major, mount.minor)
}

/// Whether a folder is one that only `user` can have put something into.
pub fn is_private(folder: &Path, user: Uid) -> bool {
    std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw() && found.mode() & 0o022 == 0)
}

/// Uploads what was kept by an earlier upload that failed; gives what there is to say about it.
///
/// # Errors
/// The reason, for people; [`NOT_OURS`] for what belongs elsewhere.
pub fn push(filesystem: &FileSystem, file: &Path) -> Result<String, String> {
    let (tell, hear) = mpsc::channel();
    let started = filesystem.push(file, move |outcome| drop(tell.send(outcome)));
    started.map_err(|errno| match errno.0 {
        libc::EXDEV => NOT_OURS.to_owned(),
        libc::EINVAL => "it is not known where it belongs: `save` it".to_owned(),
        libc::EBUSY => "a program is changing this file in the mount".to_owned(),
        _ => errno.to_string(),
    })?;
    // As long as it takes: in line for an upload that is free, and with `hard`, there is no deadline but the end of the process.
    match hear.recv() {
        Ok(Settled::Done) => Ok(String::new()),
        Ok(Settled::Beside(path)) => {
            Ok(format!("the server's file had been changed, so both are kept: this one is now {path}"))
        }
        Ok(Settled::Failed(errno)) => Err(errno.to_string()),
        Err(mpsc::RecvError) => Err("it was given up".to_owned()),
    }
}

fn bind(name: &str) -> io::Result<(UnixListener, PathBuf)> {
    for _ in 0..ATTEMPTS {
        let folder = make_folder(geteuid())?;
        let (socket, unfinished) = (folder.join(name), folder.join(format!(".{name}")));
        let _ = std::fs::remove_file(&unfinished);
        match UnixListener::bind(&unfinished) {
            // Another mount has just ended, and has taken the empty folder away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            listener => {
                let listener = listener?;
                std::fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
                // If one is there, its mount is gone: the kernel gives a number to one mount at a time.
                std::fs::rename(&unfinished, &socket)?;
                return Ok((listener, socket));
            }
        }
    }
    Err(io::Error::other("its folder vanishes again and again"))
}

fn make_folder(user: Uid) -> io::Result<PathBuf> {
    let folder = folder(user);
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_private(&folder, user) {
        return Err(io::Error::other(format!("{} belongs to somebody else", folder.display())));
    }
    Ok(folder)
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                log::debug!("the status socket: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let is_welcome = getsockopt(&stream, sockopt::PeerCredentials)
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw());
        if !is_welcome {
            continue;
        }
        {
            let mut visitors = shared.visitors.lock();
            if visitors.count >= MAX_VISITORS {
                continue;
            }
            visitors.count += 1;
        }
        let visited = shared.clone();
        let started = std::thread::Builder::new().name("status".into()).spawn(move || {
            // A visitor who leaves in the middle is no event, and one whose answer panics (the log tells) takes no place for ever.
            let _ = catch_unwind(AssertUnwindSafe(|| visited.serve(&stream)));
            visited.visitors.lock().count -= 1;
        });
        if started.is_err() {
            shared.visitors.lock().count -= 1;
        }
    }
}

impl Shared {
    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(io::Read::take(stream, MAX_REQUESTS));
        let mut line = String::new();
        let mut before = None;
        while lines.read_line(&mut line)? > 0 {
            let answer = match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
                ("status", "") => Ok(self.report(&mut before).text()),
                ("summary", "") => Ok(self.report(&mut before).summary()),
                ("transfers", "") => Ok(self.transfers()),
                ("json", "") => Ok(self.report(&mut before).json().to_string()),
                ("metrics", "") => Ok(self.report(&mut before).metrics()),
                ("brief", "") => Ok(self.report(&mut before).brief()),
                ("flush", seconds) => self.flush(stream, seconds.parse().ok()),
                ("forget", "") => {
                    self.filesystem.forget_caches();
                    Ok(String::new())
                }
                ("push", file) => push(&self.filesystem, Path::new(file)),
                ("wait", "") => Ok(self.wait(stream)?),
                _ => Err(
                    "unknown request: status, summary, transfers, json, metrics, brief, flush, forget, push, wait"
                        .to_owned(),
                ),
            };
            let mut text = String::new();
            match answer {
                Ok(answer) => {
                    answer.lines().for_each(|line| text.push_str(&format!("+{}\n", clean(line))));
                    text.push_str(".\n");
                }
                Err(why) => text.push_str(&format!("!{}\n", clean(&why))),
            }
            let written = (&mut &*stream).write_all(text.as_bytes());
            if line.trim() == "wait" {
                let mut visitors = self.visitors.lock();
                visitors.waiting -= 1;
                self.changed.notify_all();
            }
            written?;
            line.clear();
        }
        Ok(())
    }

    fn report(&self, before: &mut Option<Before>) -> Report {
        let figures = self.filesystem.figures();
        let report = Report::new(&self.mount_point, &self.source, self.started, figures, before.as_ref());
        *before = Some(report.as_before());
        report
    }

    /// Without touching the time from which speeds are reckoned.
    fn transfers(&self) -> String {
        let figures = self.filesystem.figures();
        Report::new(&self.mount_point, &self.source, self.started, figures, None).transfers()
    }

    /// Waits for uploads, and says now and then how far they are.
    fn flush(&self, stream: &UnixStream, seconds: Option<u64>) -> Result<String, String> {
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let outcomes = self.filesystem.confirm_everything();
        let mut failed = Vec::new();
        let mut told = Instant::now();
        loop {
            match outcomes.recv_timeout(PROGRESS) {
                Ok((_, Ok(()))) | Err(RecvTimeoutError::Timeout) => {}
                Ok((path, Err(errno))) => failed.push(format!("{path} ({errno})")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let uploads = self.filesystem.figures().uploads.unwrap_or_default();
                let sent: u64 = uploads.iter().map(|upload| upload.sent).sum();
                let size: u64 = uploads.iter().map(|upload| upload.size).sum();
                let line = format!("+{} {sent} {size}\n", uploads.len());
                // Who has left does not stop the uploads.
                (&mut &*stream).write_all(line.as_bytes()).map_err(|error| error.to_string())?;
            }
            if until.is_some_and(|until| Instant::now() > until) {
                return Err("the server has not confirmed everything yet".to_owned());
            }
        }
        if failed.is_empty() {
            Ok(String::new())
        } else {
            Err(format!("not confirmed: {}", failed.join(", ")))
        }
    }

    fn wait(&self, stream: &UnixStream) -> io::Result<String> {
        self.visitors.lock().waiting += 1;
        // From here on the end waits for this visitor, who may bring it about.
        let heard = (&mut &*stream).write_all(b"+\n");
        let mut visitors = self.visitors.lock();
        if let Err(error) = heard {
            visitors.waiting -= 1;
            return Err(error);
        }
        loop {
            if let Some(unconfirmed) = visitors.ended {
                return Ok(unconfirmed.to_string());
            }
            self.changed.wait_for(&mut visitors, LOOK_ROUND);
            let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
            // POLLHUP is reported whatever was asked for.
            if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                visitors.waiting -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
}

/// One line, whatever a server said.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The answer to a push of what belongs to another server or folder.
pub const NOT_OURS: &str = "it does not belong here";
const ATTEMPTS: usize = 5;
/// More at once are turned away.
const MAX_VISITORS: usize = 16;
/// Bytes of requests on one connection: `--watch` for a week.
const MAX_REQUESTS: u64 = 8 << 20;
/// Who says nothing for so long has forgotten us.
const IDLE: Duration = Duration::from_secs(60);
/// Who does not read what was asked for is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon it is noticed that somebody who waits for the end has left.
const LOOK_ROUND: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_millis(200);
/// How long the end waits for those who want to hear of it: more than for one who does not read.
const FAREWELL: Duration = Duration::from_secs(3);
