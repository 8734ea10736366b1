//! Mounting as an ordinary user: `fusermount3`, the setuid program of the fuse3 package, mounts for us and hands over the
//! open device through a socket (its `_FUSE_COMMFD` protocol).
//!
//! The socket is given to it as its standard input. That is the one descriptor that `Command` passes on without any
//! unsafe code between fork and exec, and fusermount3 reads nothing else from there.

use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use super::{Access, Error, Options};

/// Mounts and gives the connection.
pub(super) fn mount(point: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let program = find().ok_or(Error::NoFusermount)?;
    let mut list = format!("fsname={},subtype=ftpfs,default_permissions,nosuid,nodev", options.source);
    list.push_str(if options.read_only { ",ro" } else { ",rw" });
    if options.no_exec {
        list.push_str(",noexec");
    }
    if options.access != Access::Owner {
        list.push_str(",allow_other");
    }
    let failed = |error: io::Error| Error::Fusermount { text: error.to_string() };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut child = Command::new(&program)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(point)
        .env(SOCKET_VARIABLE, "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Fusermount { text: format!("{}: {error}", program.display()) })?;
    let device = receive(&ours);
    let text = finish(&mut child);
    match device {
        Ok(device) => {
            if !text.is_empty() {
                log::debug!("fusermount3: {text}");
            }
            Ok(device)
        }
        Err(_) if !text.is_empty() => Err(Error::Fusermount { text }),
        Err(error) => Err(failed(error)),
    }
}

/// Detaches what lies at `point`, lazily; works for mounts of this user only.
pub(super) fn unmount(point: &Path) -> io::Result<()> {
    run(&["-u", "-z", "--"], point)
}

/// Detaches what lies at `point` unless it is in use; works for mounts of this user only.
pub(super) fn unmount_unused(point: &Path) -> io::Result<()> {
    run(&["-u", "--"], point)
}

fn run(arguments: &[&str], point: &Path) -> io::Result<()> {
    let program = find().ok_or_else(|| io::Error::other("there is no fusermount3"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = finish(&mut child);
    match child.try_wait()? {
        Some(status) if status.success() => Ok(()),
        _ => Err(io::Error::other(if text.is_empty() { "fusermount3 failed".to_owned() } else { text })),
    }
}

/// What to do about fusermount3's refusal.
pub(super) fn advice(text: &str) -> &'static str {
    let known = [
        (
            "user_allow_other",
            " (as root, put the line user_allow_other into /etc/fuse.conf, or leave allow_other out)",
        ),
        ("no write access to mountpoint", " (mount on a folder of your own)"),
        ("/dev/fuse: Permission denied", " (/dev/fuse should have mode 0666)"),
        ("fuse device not found", " (as root: modprobe fuse; in a container: --device /dev/fuse)"),
        (
            "Operation not permitted",
            " (fusermount3 must be setuid root; in a container it needs CAP_SYS_ADMIN)",
        ),
        ("too many FUSE filesystems", " (raise mount_max in /etc/fuse.conf)"),
    ];
    known.iter().find(|(words, _)| text.contains(words)).map_or("", |(_, advice)| advice)
}

/// Mount helpers are started without PATH, so the usual places come first.
fn find() -> Option<PathBuf> {
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    let folders =
        || FOLDERS.iter().map(PathBuf::from).chain(path.iter().filter(|p| p.is_absolute()).cloned());
    let usable = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    // fuse 2's program speaks the same protocol.
    ["fusermount3", "fusermount"].iter().find_map(|name| folders().map(|f| f.join(name)).find(usable))
}

/// Waits for the message that carries the device.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(&raw) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
            let device = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) };
            fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            return Ok(device);
        }
    }
    Err(io::Error::other("fusermount3 gave no device"))
}

/// Waits for the program to end (a while: then it is killed) and gives what it complained about, on one line.
fn finish(child: &mut Child) -> String {
    let limit = Instant::now() + PATIENCE;
    while let Ok(None) = child.try_wait() {
        if Instant::now() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return format!("no answer within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX_COMPLAINT).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("fusermount3: ").map_or(line, |(_, complaint)| complaint).trim())
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Where distributions put it; the last is NixOS.
const FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];

/// It only calls mount(2), but it looks at the mount point first, which may lie on a slow disk or a network.
const PATIENCE: Duration = Duration::from_secs(20);

/// Its complaints are one line.
const MAX_COMPLAINT: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_refusals_come_with_advice() {
        let text = "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf";
        assert!(advice(text).contains("/etc/fuse.conf"));
        assert_eq!(advice("something new"), "");
    }

    #[test]
    fn complaints_become_one_trimmed_line() {
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                "echo '/usr/bin/fusermount3: user has no write access to mountpoint /x' >&2; echo >&2; echo two >&2",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        assert_eq!(finish(&mut child), "user has no write access to mountpoint /x; two");
    }
}
