//! The life of a mount: log in, mount, serve, and end in a way that loses nothing.
//!
//! Three threads report events to the main thread: signals (waited for, never handled asynchronously), the watcher of the
//! table of mounts, and the event loop when it ends. The mount ends in one of three ways.
//!
//! * TERM or INT: the mount is detached at once, so that nobody new comes in; then uploads are waited for, for a while.
//!   A second signal ends the wait (what is not uploaded is kept, as after its time), a third everything.
//! * Unmounted from outside: files that are still open (lazy unmount) and copies of the mount in other mount namespaces
//!   keep the event loop alive; the first are waited for, the second only for a grace. Nothing is ever unmounted then.
//! * The event loop failed: the mount is detached, so that no dead one stays behind.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::daemon::Starter;
use super::failure::{Exit, Failure};
use super::logging;
use crate::fs::{self, FileSystem};
use crate::mount::{self, Identity, Watchdog, mountinfo};
use crate::status::Desk;
use crate::{ftp, fuse};

/// All that is needed to serve.
pub struct Plan {
    pub config: ftp::Config,
    pub filesystem: fs::Options,
    pub mount: mount::Options,
    pub point: PathBuf,
    pub shutdown_timeout: Duration,
    /// Log in when somebody first looks, not before mounting.
    pub delay_connect: bool,
}

/// Mounts, and comes back when the mount has ended. The starter hears of success; a failure to start is returned.
pub fn run(plan: Plan, starter: &mut Starter) -> Result<(), Failure> {
    keep_memory_together();
    let spool_dir = plan.filesystem.spool_dir.clone();
    let mut watchdog = Watchdog::start(|| starter.forget())
        .map_err(|error| Failure::new(Exit::Local, format!("cannot start the watchdog: {error}")))?;
    let signals = signals();
    signals
        .thread_block()
        .map_err(|errno| Failure::new(Exit::Local, format!("cannot block signals: {errno}")))?;
    let (report, events) = mpsc::channel();
    spawn("signals", {
        let report = report.clone();
        move || wait_for_signals(&signals, &report)
    })?;

    let place = match (plan.config.host.as_str(), plan.config.port) {
        (address, port) if address.contains(':') => format!("[{address}]:{port}"),
        (name, port) => format!("{name}:{port}"),
    };
    let user = plan.config.user.clone();
    log::info!("logging in to {place} as {user}");
    let filesystem = if plan.delay_connect {
        FileSystem::start_later(plan.config, plan.filesystem)
    } else {
        FileSystem::start(plan.config, plan.filesystem)
            .map_err(|error| Failure::from_ftp(&error, &place, &user))?
    };

    IS_MOUNTING.store(true, Ordering::Relaxed);
    let (serving, identity) = match mount(&plan.point, &plan.mount, &mut watchdog, &filesystem) {
        Ok(mounted) => mounted,
        Err(message) => {
            // Servers that allow few sessions shall not count these any longer.
            filesystem.shutdown(Duration::ZERO, || false);
            return Err(Failure::new(Exit::Mount, message));
        }
    };
    spawn("event loop", {
        let report = report.clone();
        move || drop(report.send(Event::Ended(serving.join().err().map(|error| error.to_string()))))
    })?;
    let point = plan.point.clone();
    spawn("mount table", move || match mountinfo::wait_until_gone(identity, &point) {
        Ok(()) => drop(report.send(Event::Unmounted)),
        Err(error) => log::warn!("cannot watch the table of mounts: {error}"),
    })?;

    let desk = Desk::open(identity, &plan.point, &plan.mount.source, filesystem.clone())
        .inspect_err(|error| log::info!("`ftpfs status` will not work: {error}"))
        .ok();
    if starter.is_background() {
        logging::go_to_background();
    }
    starter
        .succeeded()
        .map_err(|error| Failure::new(Exit::Local, format!("cannot go to the background: {error}")))?;
    notify_systemd("READY=1");
    log::info!("{} is mounted on {}", plan.mount.source, plan.point.display());

    let result = serve(&events, &filesystem, identity, &plan.point);
    notify_systemd("STOPPING=1");
    let unconfirmed = filesystem.shutdown(plan.shutdown_timeout, || IS_ENOUGH.load(Ordering::Relaxed));
    watchdog.dismiss();
    if let Some(desk) = desk {
        desk.ended(unconfirmed);
    }
    if unconfirmed > 0 {
        let message = format!(
            "{}: {unconfirmed} file(s) could not be confirmed by the server; they are kept in {} (`ftpfs recover`)",
            plan.mount.source,
            spool_dir.display()
        );
        log::error!("{message}");
        return Err(Failure::new(Exit::Unconfirmed, message));
    }
    result.inspect(|()| log::info!("{} is unmounted", plan.mount.source))
}

/// Mounts, and answers the kernel's first request.
fn mount(
    point: &Path,
    options: &mount::Options,
    watchdog: &mut Watchdog,
    filesystem: &Arc<FileSystem>,
) -> Result<(fuse::Serving, Identity), String> {
    let (device, identity) = mount::attach(point, options, watchdog).map_err(|error| error.to_string())?;
    let serving = fuse::serve(device, filesystem.clone(), options.access.acl()).map_err(|error| {
        detach(identity, point);
        format!("cannot mount on {}: the kernel and ftpfs could not agree: {error}", point.display())
    })?;
    filesystem.mounted_as(identity.id);
    Ok((serving, identity))
}

enum Event {
    Signal(Signal),
    /// Our line has left the table of mounts.
    Unmounted,
    /// The event loop has ended; with an error, or because the kernel said that nobody uses the mount any more.
    Ended(Option<String>),
}

/// Waits for the end of the mount, and brings it about.
fn serve(
    events: &Receiver<Event>,
    filesystem: &Arc<FileSystem>,
    identity: Identity,
    point: &Path,
) -> Result<(), Failure> {
    loop {
        match events.recv() {
            Ok(Event::Signal(Signal::SIGHUP)) => {
                logging::reopen();
                log::info!("HUP: everything is asked for anew");
                filesystem.forget_caches();
            }
            Ok(Event::Signal(signal)) => {
                log::info!("{signal}: unmounting");
                detach(identity, point);
                return Ok(());
            }
            Ok(Event::Unmounted) => {
                linger(events, filesystem);
                return Ok(());
            }
            Ok(Event::Ended(None)) => {
                detach(identity, point);
                return Ok(());
            }
            Ok(Event::Ended(Some(error))) => {
                detach(identity, point);
                log::error!("the event loop failed: {error}");
                return Err(Failure::new(Exit::Local, format!("the event loop failed: {error}")));
            }
            Err(mpsc::RecvError) => return Ok(()),
        }
    }
}

/// After an unmount from outside: until nobody uses the mount, or a signal says that it is enough.
fn linger(events: &Receiver<Event>, filesystem: &Arc<FileSystem>) {
    let grace = Instant::now() + GRACE;
    loop {
        match events.recv_timeout(Duration::from_millis(250)) {
            Ok(Event::Ended(_) | Event::Signal(Signal::SIGTERM | Signal::SIGINT)) => return,
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            // Copies in other mount namespaces are not waited for; files that programs have open are.
            Err(RecvTimeoutError::Timeout) if Instant::now() > grace && filesystem.open_files() == 0 => {
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn detach(identity: Identity, point: &Path) {
    if let Err(error) = mount::detach(identity, point) {
        log::warn!("cannot unmount: {error}");
    }
}

fn signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}

fn wait_for_signals(signals: &SigSet, report: &Sender<Event>) {
    let mut ends = 0;
    loop {
        let signal = match signals.wait() {
            Ok(signal) => signal,
            Err(errno) => return log::error!("cannot wait for signals: {errno}"),
        };
        match signal {
            // Nothing is mounted yet. HUP: the terminal is gone, and nobody reads how the login went.
            _ if !IS_MOUNTING.load(Ordering::Relaxed) => std::process::exit(128 + signal as i32),
            Signal::SIGTERM | Signal::SIGINT if ends == 1 => {
                ends += 1;
                log::warn!("second signal: not waiting for uploads");
                IS_ENOUGH.store(true, Ordering::Relaxed);
            }
            Signal::SIGTERM | Signal::SIGINT if ends > 1 => {
                std::process::exit(i32::from(Exit::Unconfirmed as u8));
            }
            Signal::SIGTERM | Signal::SIGINT => {
                ends += 1;
                if report.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
            _ if report.send(Event::Signal(signal)).is_err() => return,
            _ => {}
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|error| Failure::new(Exit::Local, format!("cannot start a thread: {error}")))
}

/// sd_notify(3): for units with Type=notify. Without systemd it does nothing.
fn notify_systemd(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        log::debug!("NOTIFY_SOCKET: {error}");
    }
}

/// Blocks are allocated on one thread and freed on another: with an arena per thread, as glibc likes it, four streams at once
/// held 180 MiB for 64 MiB of blocks, and 104 with two arenas.
fn keep_memory_together() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number inside the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Whether the main thread has come so far, for the thread that waits for signals: nothing else is read because of it.
static IS_MOUNTING: AtomicBool = AtomicBool::new(false);

/// Whether a second signal has said that uploads are not to be waited for.
static IS_ENOUGH: AtomicBool = AtomicBool::new(false);

/// Long enough for a container that is being started and closes its copy; short enough that a restart finds us gone.
const GRACE: Duration = Duration::from_secs(5);
