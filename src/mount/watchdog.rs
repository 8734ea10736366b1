//! A small process that detaches the mount when the daemon dies.
//!
//! Killed, crashed or out of memory: a FUSE daemon that is gone leaves a mount behind on which every call fails with
//! "Transport endpoint is not connected", until somebody unmounts by hand. The watchdog is forked before the daemon has
//! threads. It holds the read end of a pipe whose write end only the daemon has; however the daemon dies, the kernel
//! closes that end, the watchdog wakes, and detaches *that* mount (by identity) if it is still there.
//!
//! What it must know arrives over the same pipe, as fields that end with NUL: before mounting the path, after mounting
//! the identity, and at a clean end `dismiss`. It has its own session, so that Ctrl-C on the terminal does not reach it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::{FSTYPE, Identity, detach, mountinfo};
use crate::fork::{Side, fork};

/// The daemon's end. Dropping it without [`Watchdog::dismiss`] lets the watchdog detach.
pub struct Watchdog {
    pipe: Option<File>,
}

impl Watchdog {
    /// Forks the watchdog. `in_child` runs there first: it gives up descriptors that only the daemon shall hold.
    ///
    /// Fails when this process has threads already.
    pub fn start(in_child: impl FnOnce()) -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        match fork()? {
            Side::Parent(_) => Ok(Self { pipe: Some(write.into()) }),
            Side::Child => {
                drop(write);
                in_child();
                watch(read);
                std::process::exit(0)
            }
        }
    }

    /// Tells the path before mounting, and what lies there now.
    pub(super) fn expect(&mut self, point: &Path, below: Option<Identity>) {
        self.tell(&[
            b"expect",
            point.as_os_str().as_bytes(),
            below.map(write).unwrap_or_default().as_bytes(),
        ]);
    }

    /// Tells what is to be detached from now on.
    pub(super) fn mounted(&mut self, mount: Identity) {
        self.tell(&[b"mounted", write(mount).as_bytes()]);
    }

    /// The mount has been taken care of: the watchdog ends.
    pub fn dismiss(mut self) {
        self.tell(&[b"dismiss"]);
    }

    fn tell(&mut self, fields: &[&[u8]]) {
        let mut message = fields.join(&0);
        message.push(0);
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(&message)
        {
            log::warn!("the watchdog is gone ({error}): if this process is killed, unmount by hand");
            self.pipe = None;
        }
    }
}

/// What the watchdog has been told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Orders {
    point: Option<PathBuf>,
    below: Option<Identity>,
    mount: Option<Identity>,
    dismissed: bool,
}

impl Orders {
    fn parse(told: &[u8]) -> Self {
        let mut orders = Self::default();
        let mut fields = told.split(|&b| b == 0);
        while let Some(field) = fields.next() {
            match field {
                b"expect" => {
                    orders.point =
                        fields.next().map(|path| std::ffi::OsString::from_vec(path.to_vec()).into());
                    orders.below = fields.next().and_then(parse_identity);
                }
                b"mounted" => orders.mount = fields.next().and_then(parse_identity),
                b"dismiss" => orders.dismissed = true,
                _ => {}
            }
        }
        orders
    }

    /// The mount to detach. When the daemon died between mounting and telling, it is the ftpfs on top of the path that
    /// was not there before.
    fn target(&self) -> Option<Identity> {
        if self.dismissed {
            return None;
        }
        let point = self.point.as_ref()?;
        self.mount.or_else(|| {
            let entries = mountinfo::read().ok()?;
            let top = mountinfo::topmost(&entries, point)?;
            (top.fstype == FSTYPE && Some(top.identity) != self.below).then_some(top.identity)
        })
    }
}

/// The life of the watchdog.
fn watch(read: OwnedFd) {
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    // A whole group or cgroup is told to end: the daemon needs time to upload, and is watched until then.
    let mut patient = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        patient.add(signal);
    }
    let _ = patient.thread_block();
    let _ = nix::sys::prctl::set_name(c"ftpfs-watchdog");
    let _ = silence();
    let mut told = Vec::new();
    let _ = File::from(read).take(MAX_TOLD).read_to_end(&mut told);
    let orders = Orders::parse(&told);
    let (Some(mount), Some(point)) = (orders.target(), &orders.point) else { return };
    for _ in 0..ATTEMPTS {
        if detach(mount, point).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Nobody who waits for the end of our output shall wait for the watchdog.
fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

fn write(mount: Identity) -> String {
    format!("{} {}:{}", mount.id, mount.major, mount.minor)
}

fn parse_identity(field: &[u8]) -> Option<Identity> {
    let (id, device) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    Some(Identity { id: id.parse().ok()?, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// A path (at most 4 KiB) and two identities.
const MAX_TOLD: u64 = 16 * 1024;

/// Another mount on top, or fusermount3 busy with somebody else's: for a while only.
const ATTEMPTS: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT: Identity = Identity { id: 41, major: 0, minor: 52 };

    #[test]
    fn orders_arrive_as_they_were_told() {
        let told = b"expect\0/mnt/a b\n\0\0mounted\x0041 0:52\0";
        let orders = Orders::parse(told);
        assert_eq!(orders.point.as_deref(), Some(Path::new("/mnt/a b\n")));
        assert_eq!((orders.below, orders.mount, orders.dismissed), (None, Some(MOUNT), false));
        assert_eq!(orders.target(), Some(MOUNT));
        assert_eq!(parse_identity(write(MOUNT).as_bytes()), Some(MOUNT));
    }

    #[test]
    fn a_dismissed_or_never_instructed_watchdog_detaches_nothing() {
        assert_eq!(Orders::parse(b"expect\0/mnt\0\0mounted\x0041 0:52\0dismiss\0").target(), None);
        assert_eq!(Orders::parse(b"").target(), None);
    }

    #[test]
    fn without_an_identity_only_a_new_ftpfs_at_the_path_counts() {
        assert_eq!(Orders::parse(b"expect\0/proc\0\0").target(), None);
    }
}
