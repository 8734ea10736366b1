//! umount(8)'s external helper: `/sbin/umount.fuse.ftpfs`, a link to the program.
//!
//! A FUSE mount is gone for umount(2) as soon as the kernel has detached it; a mount with `writeback` may have files to upload
//! then, and a machine that goes on to shut down would take them with it (they stay in the journal, for the next mount). So
//! umount(8), which asks for a helper by the mount's type, gets one that unmounts as ever (`umount -i`: without a helper) and comes
//! back when the daemon has ended: after `umount_timeout` at the latest, because that is when the daemon gives up.
//!
//! Nobody is waited for who will not end: not with `-l` and `-f`, not when the same mount is seen elsewhere (a bind mount), and
//! not in another mount namespace than the daemon's, whose own mount stays. A daemon that does not answer changes nothing.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use super::control::Visit;
use crate::cli::failure::{Exit, Failure};
use crate::mount::FSTYPE;
use crate::mount::mountinfo::{self, Entry};

/// What umount(8) hands on.
#[derive(Debug, clap::Parser)]
#[command(name = "umount.fuse.ftpfs", version)]
pub(super) struct Args {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mount_point: PathBuf,

    /// Even if the server cannot be reached
    #[arg(short = 'f')]
    force: bool,

    /// Detach now, end when nobody uses it any more
    #[arg(short = 'l')]
    lazy: bool,

    /// Without an entry in /run/mount
    #[arg(short = 'n')]
    no_mtab: bool,

    /// Read-only when it is busy
    #[arg(short = 'r')]
    read_only: bool,

    /// Say what is done
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,

    /// The mount's namespace: umount(8) is in it already
    #[arg(short = 'N', hide = true)]
    namespace: Option<OsString>,

    /// The mount's type
    #[arg(short = 't', hide = true)]
    fstype: Option<OsString>,
}

/// Unmounts, and waits for the end of the daemon. Gives umount(8)'s exit code when that has failed (and has said why).
pub(super) fn umount(args: &Args) -> Result<u8, Failure> {
    let waits = !args.lazy && !args.force;
    // Before: afterwards it cannot be found.
    let visit = if waits { visit(args) } else { None };
    let mut command = Command::new("umount");
    command.arg("-i");
    let flags = [
        (args.force, "-f"),
        (args.lazy, "-l"),
        (args.no_mtab, "-n"),
        (args.read_only, "-r"),
        (args.verbose > 0, "-v"),
    ];
    command.args(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag));
    let status = command
        .arg("--")
        .arg(&args.mount_point)
        .status()
        .map_err(|error| Failure::new(Exit::Local, format!("cannot run umount(8): {error}")))?;
    if !status.success() {
        let code = status.code().or(status.signal()).and_then(|code| u8::try_from(code).ok());
        return Ok(code.unwrap_or(Exit::Mount as u8));
    }
    match visit {
        Some(visit) if !is_seen(visit.entry()) => visit.until_ended(None).map(|()| 0),
        _ => Ok(0),
    }
}

/// The daemon, asked to say when it has ended. None when there is no use in waiting for it.
fn visit(args: &Args) -> Option<Visit> {
    let entries = mountinfo::read().ok()?;
    let entry = mountinfo::topmost(&entries, &args.mount_point).filter(|entry| entry.fstype == FSTYPE)?;
    let mut visit = Visit::begin(entry).ok()?;
    if visit.is_elsewhere() {
        return None;
    }
    visit.wait_for_end().ok()?;
    Some(visit)
}

/// Whether the file system can still be reached by another path.
fn is_seen(gone: &Entry) -> bool {
    let is_same = |entry: &Entry| {
        (entry.identity.major, entry.identity.minor) == (gone.identity.major, gone.identity.minor)
            && entry.fstype == FSTYPE
    };
    mountinfo::read().is_ok_and(|entries| entries.iter().any(is_same))
}
