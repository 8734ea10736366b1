//! Mounting as root: open /dev/fuse, mount(2).

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::MsFlags;
use nix::unistd::{getegid, geteuid};

use super::{Access, Error, FSTYPE, Identity, Options};

/// Mounts and gives the connection.
pub(super) fn mount(point: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let device =
        File::options().read(true).write(true).open(DEVICE).map_err(|error| Error::Device { error })?;
    let refused = |error| Error::Refused { point: point.to_owned(), error };
    let root_mode = std::fs::metadata(point).map_err(refused)?.mode();
    let mut data = format!(
        "fd={},rootmode={root_mode:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        geteuid(),
        getegid()
    );
    if options.access != Access::Owner {
        data.push_str(",allow_other");
    }
    // Set-user-id bits and device nodes that a server tells of are never honoured.
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    flags.set(MsFlags::MS_NOEXEC, options.no_exec);
    nix::mount::mount(Some(options.source.as_str()), point, Some(FSTYPE), flags, Some(data.as_str()))
        .map_err(|errno| refused(errno.into()))?;
    Ok(device.into())
}

/// Lets the kernel ask for more at once (its default, 128 KiB, costs a sequential reader 20 to 40 %). Only root may set
/// it, and nothing depends on it.
pub(super) fn widen_read_ahead(mount: Identity) {
    let path = format!("/sys/class/bdi/{}:{}/read_ahead_kb", mount.major, mount.minor);
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KIB) {
        log::debug!("{path}: {error}");
    }
}

const DEVICE: &str = "/dev/fuse";

/// Measured: 1 MiB is the best window; larger ones make the kernel skip ahead and come back.
const READ_AHEAD_KIB: &str = "1024";
