//! The mount point, from what the user typed to an absolute path that can be mounted on.
//!
//! Looked at once, before mounting, while it is still an ordinary folder; what comes later uses the path's text only.
//! Two leftovers are met here: an ftpfs that is still mounted (refused: two on one folder help nobody), and the dead
//! mount of a daemon that was killed together with its watchdog (taken away, so that a restart simply works).

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Error, FSTYPE, detach, mountinfo};

/// Resolves and checks a mount point.
pub fn resolve(named: &Path) -> Result<PathBuf, Error> {
    let bad = |why: String| Error::Point { point: named.to_owned(), why };
    // Looking into a mount whose server hangs would hang us too: so the table is asked first.
    clear_the_way(&std::path::absolute(named).map_err(|e| bad(e.to_string()))?)?;
    let point = match named.canonicalize() {
        Ok(point) => point,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(bad("there is no such folder; make it first (mkdir)".into()));
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    clear_the_way(&point)?;
    match std::fs::metadata(&point) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(bad("it is not a folder".into())),
        Err(error) if is_disconnected(&error) => {
            return Err(bad("the dead mount of another program is there: unmount it first (umount)".into()));
        }
        Err(error) => return Err(bad(error.to_string())),
    }
    if point == Path::new("/") {
        return Err(bad("the root folder would disappear below it".into()));
    }
    Ok(point)
}

/// Refuses a folder on which an ftpfs is mounted; one that is dead is taken away instead.
fn clear_the_way(point: &Path) -> Result<(), Error> {
    let entries = mountinfo::read().map_err(Error::Table)?;
    let Some(top) = mountinfo::topmost(&entries, point).filter(|top| top.fstype == FSTYPE) else {
        return Ok(());
    };
    if !is_dead(point) {
        return Err(Error::AlreadyMounted { point: point.to_owned(), source: top.source_text() });
    }
    log::warn!("{}: taking away the dead mount of {}", point.display(), top.source_text());
    detach(top.identity, point)
        .map_err(|error| Error::Point { point: point.to_owned(), why: error.to_string() })
}

/// Whether the daemon behind a mount is gone: the kernel says so at once, without asking anybody. A live mount that
/// hangs is waited for in a thread that is left behind, and counts as alive.
fn is_dead(point: &Path) -> bool {
    let (answer, wait) = std::sync::mpsc::sync_channel(1);
    let point = point.to_owned();
    let looking = std::thread::spawn(move || {
        let died =
            std::fs::symlink_metadata(point).is_err_and(|e| e.raw_os_error() == Some(Errno::ENOTCONN as i32));
        let _ = answer.send(died);
    });
    // Joined, because this process forks later and must then have no second thread.
    wait.recv_timeout(LOOK).is_ok_and(|died| looking.join().is_ok() && died)
}

/// "Transport endpoint is not connected".
fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOTCONN as i32)
}

/// How long a look at a mount may take before it counts as alive but slow.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_is_refused_with_the_reason() {
        let text = |path: &str| resolve(Path::new(path)).map_err(|e| e.to_string());
        assert!(text("/no/such/place").is_err_and(|e| e.contains("no such folder")));
        assert!(text("/proc/self/mountinfo").is_err_and(|e| e.contains("not a folder")));
        assert!(text("/").is_err());
        assert_eq!(text("/usr/../usr/bin/.").ok(), Path::new("/usr/bin").canonicalize().ok());
    }
}
