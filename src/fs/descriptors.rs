//! Whether a program that closes a descriptor has the same file open by another one.
//!
//! A shell that runs `echo x > f` opens `f`, makes a copy of the descriptor as its standard output and closes the first,
//! all before a byte is written; dd and touch do the same. FUSE tells of every close() alike. The last one is what must
//! bring an empty new file to the server; on the others that would be an upload for nothing.
//!
//! What counts is that a later close() of the same process will come: another descriptor, open for writing, of the same
//! inode at the same path in our mount. Only links and texts in /proc are read; the mount is never touched (that would wait for
//! ourselves). Whatever cannot be seen there (another user's process, another namespace) means no.

use std::path::Path;

use super::Caller;
use crate::tree::Ino;

/// Whether `caller` has another descriptor for writing of the file that is `path` in its mount.
pub fn has_another(caller: Caller, path: &Path, ino: Ino) -> bool {
    if caller.pid == 0 {
        return false;
    }
    let folder = format!("/proc/{}/fd", caller.pid);
    let Ok(descriptors) = std::fs::read_dir(folder) else { return false };
    descriptors.flatten().take(MOST).any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|target| target == path)
            && std::fs::read_to_string(format!(
                "/proc/{}/fdinfo/{}",
                caller.pid,
                descriptor.file_name().to_string_lossy()
            ))
            .is_ok_and(|info| writes_to(&info, ino))
    })
}

/// Reads a descriptor's fdinfo (proc(5)).
fn writes_to(info: &str, ino: Ino) -> bool {
    let value = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let flags = value("flags:").and_then(|octal| i32::from_str_radix(octal, 8).ok());
    let same = value("ino:").and_then(|number| number.parse().ok()) == Some(ino.0);
    same && flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Programs with more descriptors than this are not looked through.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn another_descriptor_counts_when_it_is_of_the_same_file_and_can_write() {
        let path = std::env::temp_dir().join(format!("ftpfs-descriptors-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        let caller = Caller { pid: std::process::id() };
        assert!(has_another(caller, &path, ino));
        assert!(!has_another(caller, &path, Ino(ino.0 + 1)), "another file");
        assert!(!has_another(caller, Path::new("/elsewhere"), ino), "another place");
        let reader = std::fs::File::open(&path).unwrap();
        drop(file);
        assert!(!has_another(caller, &path, ino), "it cannot write");
        drop(reader);
        std::fs::remove_file(&path).unwrap();
    }
}
