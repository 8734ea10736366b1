//! Attaching a FUSE connection to a folder, and taking it away again, without ever harming another mount.
//!
//! fuser could mount for us, but its own mount code calls umount(2) on the *path* when it ends, also after somebody else
//! has unmounted: then it takes away whatever lies below. So we mount ourselves, and afterwards a mount is known by
//! its [`Identity`] (id and device number, as in `/proc/self/mountinfo`), never by its path. Before anything is
//! unmounted, mountinfo must still show that identity, on top of its path.
//!
//! * [`point`]: what the user named becomes an absolute path, checked while it is still an ordinary folder. Once mounted,
//!   this process never touches that path: a daemon that looks into its own mount waits for itself.
//! * [`direct`] as root, by mount(2); [`fusermount`] for everybody else, through the setuid program of the fuse3 package,
//!   which hands the open device over a socket.
//! * [`mountinfo`]: reading the table of mounts, and waiting for our line to go away.
//! * [`watchdog`]: a small process that detaches the mount when the daemon dies, so that nobody meets "Transport endpoint
//!   is not connected".
//!
//! Only `cli` calls this layer; it knows nothing of FTP.

pub mod direct;
pub mod fusermount;
pub mod mountinfo;
pub mod point;
pub mod watchdog;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::unistd::geteuid;

pub use mountinfo::Identity;
pub use watchdog::Watchdog;

/// How to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What mount(8) and df(1) show as the source. Without a password.
    pub source: String,
    pub read_only: bool,
    pub no_exec: bool,
    pub access: Access,
}

/// Who may enter the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The user who mounted. Not even root: FUSE's convention, which protects other users' programs from our answers.
    #[default]
    Owner,
    /// `allow_root`: the kernel lets everybody in, the event loop only the owner and root.
    OwnerAndRoot,
    /// `allow_other`.
    Everybody,
}

impl Access {
    /// The same for the event loop.
    pub fn acl(self) -> fuser::SessionACL {
        match self {
            Self::Owner => fuser::SessionACL::Owner,
            Self::OwnerAndRoot => fuser::SessionACL::RootAndOwner,
            Self::Everybody => fuser::SessionACL::All,
        }
    }
}

/// Mounts on `point` (from [`point::resolve`]); the descriptor is the FUSE connection, on which the kernel waits for
/// INIT to be answered.
pub fn attach(
    point: &Path,
    options: &Options,
    watchdog: &mut Watchdog,
) -> Result<(OwnedFd, Identity), Error> {
    let before = mountinfo::read().map_err(Error::Table)?;
    let below = mountinfo::topmost(&before, point).map(|entry| entry.identity);
    watchdog.expect(point, below);
    let device =
        if geteuid().is_root() { direct::mount(point, options)? } else { fusermount::mount(point, options)? };
    let entries = mountinfo::read().map_err(Error::Table)?;
    let ours = mountinfo::topmost(&entries, point)
        .filter(|entry| entry.fstype == FSTYPE && Some(entry.identity) != below);
    let Some(ours) = ours else {
        return Err(Error::Vanished { point: point.to_owned() });
    };
    watchdog.mounted(ours.identity);
    if geteuid().is_root() {
        direct::widen_read_ahead(ours.identity);
    }
    Ok((device, ours.identity))
}

/// Takes the mount away at once, also when it is in use (programs that have files open keep them until they close).
/// Does nothing when it is gone already; refuses when something else lies on top of it.
pub fn detach(mount: Identity, point: &Path) -> io::Result<()> {
    let entries = mountinfo::read()?;
    let Some(ours) = mountinfo::find(&entries, mount, point) else { return Ok(()) };
    if mountinfo::topmost(&entries, &ours.mount_point).map(|top| top.identity) != Some(mount) {
        return Err(io::Error::other(format!(
            "something else is mounted over {}",
            ours.mount_point.display()
        )));
    }
    if !geteuid().is_root() {
        return fusermount::unmount(&ours.mount_point);
    }
    match nix::mount::umount2(&ours.mount_point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: no longer a mount, somebody was faster.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes away what lies at `point`, as umount(8) does: fails when it is in use.
pub fn unmount(point: &Path) -> io::Result<()> {
    match nix::mount::umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EPERM) => fusermount::unmount_unused(point),
        outcome => outcome.map_err(io::Error::from),
    }
}

/// Why there is no mount. Says what to do about it.
#[derive(Debug)]
pub enum Error {
    /// The mount point cannot be used.
    Point { point: PathBuf, why: String },
    /// Another ftpfs is mounted there.
    AlreadyMounted { point: PathBuf, source: String },
    /// /dev/fuse cannot be opened.
    Device { error: io::Error },
    /// mount(2) refused.
    Refused { point: PathBuf, error: io::Error },
    /// There is no fusermount3.
    NoFusermount,
    /// fusermount3 refused; its words.
    Fusermount { text: String },
    /// /proc/self/mountinfo cannot be read.
    Table(io::Error),
    /// It was mounted and went away before it was in use.
    Vanished { point: PathBuf },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point { point, why } => write!(f, "cannot mount on {}: {why}", point.display()),
            Self::AlreadyMounted { point, source } => {
                let point = point.display();
                write!(f, "{source} is already mounted on {point}: unmount it first (umount {point})")
            }
            Self::Device { error } => match error.kind() {
                io::ErrorKind::NotFound => f.write_str(
                    "there is no /dev/fuse: load the module (modprobe fuse), or start the container with --device /dev/fuse",
                ),
                io::ErrorKind::PermissionDenied => f.write_str(
                    "no permission for /dev/fuse: it should have mode 0666 (package fuse3); in a container, allow the device",
                ),
                _ => write!(f, "cannot open /dev/fuse: {error} (is the kernel module loaded? modprobe fuse)"),
            },
            Self::Refused { point, error } => {
                write!(f, "cannot mount on {}: {error}", point.display())?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    f.write_str(" (in a container: --cap-add SYS_ADMIN --device /dev/fuse)")?;
                }
                Ok(())
            }
            Self::NoFusermount => f.write_str(
                "there is no fusermount3, which ordinary users need to mount: install the package fuse3, or mount as root",
            ),
            Self::Fusermount { text } => {
                write!(f, "fusermount3 refused: {text}")?;
                f.write_str(fusermount::advice(text))
            }
            Self::Table(error) => write!(f, "cannot read /proc/self/mountinfo: {error} (is /proc mounted?)"),
            Self::Vanished { point } => write!(f, "{} was unmounted again at once", point.display()),
        }
    }
}

impl std::error::Error for Error {}

/// The type of our mounts in mountinfo, mount(8) and `updatedb.conf`.
pub const FSTYPE: &str = "fuse.ftpfs";
