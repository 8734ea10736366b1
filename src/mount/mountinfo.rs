//! `/proc/self/mountinfo`: the only honest answer to "is our mount still there, and is it still ours?" that does not touch
//! the mount itself (proc_pid_mountinfo(5)).
//!
//! Called by the other parts of `mount` and, for [`wait_until_gone`], by the thread of `cli` that reports an unmount.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One mount for as long as it exists. The id alone may be given away again by the kernel, and so may the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: u64,
    pub major: u32,
    pub minor: u32,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub identity: Identity,
    /// Id of the mount that this one lies in.
    pub parent: u64,
    pub mount_point: PathBuf,
    pub fstype: String,
    pub source: OsString,
}

/// All mounts that this process can see.
pub fn read() -> io::Result<Vec<Entry>> {
    Ok(parse(&std::fs::read(TABLE)?))
}

/// Lines that cannot be understood are left out.
pub fn parse(table: &[u8]) -> Vec<Entry> {
    table.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// The mount with this identity at this point. The kernel gives ids and devices away again, often both together, so
/// that another mount may have them a moment later: elsewhere.
pub fn find<'a>(entries: &'a [Entry], mount: Identity, point: &Path) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.identity == mount && entry.mount_point == point)
}

/// The mount that one meets at `point`: of several mounted on the same folder, the one on top.
pub fn topmost<'a>(entries: &'a [Entry], point: &Path) -> Option<&'a Entry> {
    let stacked = || entries.iter().filter(|entry| entry.mount_point == point);
    stacked().rfind(|entry| !stacked().any(|other| other.parent == entry.identity.id))
}

/// Returns once the mount is no longer in the table, whoever took it away.
///
/// Waits without a deadline: that is its purpose, and only a thread of its own calls it.
pub fn wait_until_gone(mount: Identity, point: &Path) -> io::Result<()> {
    let mut table = File::open(TABLE)?;
    let mut content = Vec::new();
    loop {
        content.clear();
        table.rewind()?;
        table.read_to_end(&mut content)?;
        if find(&parse(&content), mount, point).is_none() {
            return Ok(());
        }
        let mut waiting = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `36 35 0:98 / /mnt rw,noatime master:1 - fuse.ftpfs ftp://host rw`: six fields, optional ones, a dash, three more.
fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&b| b == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let identity = Identity { id, major: major.parse().ok()?, minor: minor.parse().ok()? };
    let _root = fields.next()?;
    let mount_point = unescape(fields.next()?);
    let mut fields = fields.skip_while(|&field| field != b"-").skip(1);
    let fstype = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = OsString::from_vec(unescape(fields.next()?));
    Some(Entry { identity, parent, mount_point: OsString::from_vec(mount_point).into(), fstype, source })
}

/// The kernel writes blank, tab, newline, backslash and `#` as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = || {
            let digits = after.get(..3).filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)))?;
            u8::try_from(digits.iter().fold(0u32, |value, b| value * 8 + u32::from(b - b'0'))).ok()
        };
        match if first == b'\\' { octal() } else { None } {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

impl Entry {
    /// The source as text for a message.
    pub fn source_text(&self) -> String {
        String::from_utf8_lossy(self.source.as_bytes()).into_owned()
    }
}

const TABLE: &str = "/proc/self/mountinfo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_and_without_optional_fields_is_understood() {
        let table =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
            41 36 0:52 / /mnt/my\\040site\\134x rw,nosuid - fuse.ftpfs ftp://joe@host/a\\043b rw,user_id=0\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].identity, Identity { id: 36, major: 98, minor: 0 });
        assert_eq!(entries[1].mount_point, Path::new("/mnt/my site\\x"));
        assert_eq!(entries[1].fstype, "fuse.ftpfs");
        assert_eq!(entries[1].source_text(), "ftp://joe@host/a#b");
        assert_eq!(entries[1].parent, 36);
    }

    #[test]
    fn of_stacked_mounts_the_one_on_top_is_met() {
        let line = |id, parent, point: &str| format!("{id} {parent} 0:{id} / {point} rw - tmpfs t rw\n");
        let table =
            [line(20, 1, "/"), line(31, 30, "/m"), line(30, 20, "/m"), line(32, 31, "/m/sub")].concat();
        let entries = parse(table.as_bytes());
        assert_eq!(topmost(&entries, Path::new("/m")).map(|e| e.identity.id), Some(31));
        assert_eq!(topmost(&entries, Path::new("/elsewhere")), None);
    }

    #[test]
    fn nonsense_lines_are_left_out() {
        assert!(parse(b"\nx\n1\n1 2 3\n1 2 a:b / / - x y z\n1 2 0:1 / /m rw no dash\n\\\n").is_empty());
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\777\\"), b"\\777\\");
    }

    #[test]
    fn the_own_table_has_a_root() {
        let entries = read().expect("proc is mounted");
        assert!(topmost(&entries, Path::new("/")).is_some());
    }
}
