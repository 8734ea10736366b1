//! Which descriptors a program has open: what tells the close() of a copy from the last one.
//!
//! A shell opens the target of `echo x > file` as one descriptor, copies it to standard output, and closes the first:
//! a close() before anything is written. To send the empty file then, and all of it again at the end, would cost every
//! redirection twice what it needs. Nothing in FUSE says that a copy is left, but /proc does: `fdinfo` names the mount and
//! the inode of each descriptor (proc_pid_fdinfo(5); `ino` since Linux 5.14), without asking the mount itself. The
//! program's next close() of that file comes to us, too, and tells what became of it.
//!
//! Where /proc tells less (another user's program, another mount namespace, an old kernel) the answer is no, and close()
//! sends what there is. Used by `writing`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Caller;
use crate::tree::Ino;

/// What is known of the mount for this.
#[derive(Default)]
pub struct Descriptors {
    /// Its number in `/proc/self/mountinfo`; 0 when it is not mounted yet.
    mount: AtomicU64,
}

impl Descriptors {
    /// Tells under which number the kernel has the mount.
    pub fn mounted_as(&self, id: u64) {
        self.mount.store(id, Ordering::Relaxed);
    }

    /// Whether the calling program surely has a descriptor of this file that it may write to. The one that it closes is
    /// no longer among them.
    pub fn has_another(&self, caller: Caller, ino: Ino) -> bool {
        let mount = self.mount.load(Ordering::Relaxed);
        if caller.pid == 0 || mount == 0 {
            return false;
        }
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fdinfo", caller.pid)) else { return false };
        entries.take(LOOKED_AT).flatten().any(|entry| {
            let info = std::fs::read_to_string(entry.path());
            info.is_ok_and(|info| is_writable(&info) && is_of(&info, mount, ino))
        })
    }
}

/// Whether closing it is a flush for us.
fn is_writable(info: &str) -> bool {
    let flags = value(info, "flags:").and_then(|octal| i32::from_str_radix(octal, 8).ok());
    flags.is_some_and(|flags| {
        flags & libc::O_PATH == 0 && matches!(flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    })
}

fn is_of(info: &str, mount: u64, ino: Ino) -> bool {
    let number = |key: &str| value(info, key).and_then(|text| text.parse::<u64>().ok());
    number("mnt_id:") == Some(mount) && number("ino:") == Some(ino.0)
}

fn value<'i>(info: &'i str, key: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// A shell has few; a program with more than this may have its empty file sent.
const LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_writable_descriptor_of_the_same_file_is_found_and_no_other() {
        let path = std::env::temp_dir().join(format!("ftpfs-descriptors-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let mount = value(&info, "mnt_id:").unwrap().parse().unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        let caller = Caller { pid: std::process::id() };
        let descriptors = Descriptors::default();
        assert!(!descriptors.has_another(caller, ino), "not mounted yet");
        descriptors.mounted_as(mount);
        assert!(descriptors.has_another(caller, ino));
        assert!(!descriptors.has_another(caller, Ino(ino.0 + 1)));
        assert!(!descriptors.has_another(Caller { pid: 0 }, ino));
        let reader = File::open(&path).unwrap();
        drop(file);
        assert!(!descriptors.has_another(caller, ino), "closing one that only reads is no flush");
        drop(reader);
        std::fs::remove_file(&path).unwrap();
    }
}
