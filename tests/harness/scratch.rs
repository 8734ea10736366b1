//! Folders that tests work in: below cargo's target folder, or below /tmp when servers that have dropped root could not
//! reach it there (a checkout in /root, say).
//!
//! A folder's name carries the process that owns it. What a killed run left behind, dead mounts included, is
//! swept away by the next one.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new empty folder, removed when the value is dropped; what is mounted below it is unmounted first.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        // Bounded: a name can only be taken by a leftover of an earlier process with our id.
        for _ in 0..1000 {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = runs().join(format!("{}-{number}-{name}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                return Self(path);
            }
        }
        panic!("no free name below {}", runs().display());
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Where programs that were fetched stay from run to run.
pub fn cache() -> PathBuf {
    let path = base().join("servers");
    fs::create_dir_all(&path).unwrap();
    path
}

/// What is mounted at `path` or below it, innermost first.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|at| at.starts_with(path))
        .collect();
    found.reverse();
    found
}

fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_path_buf();
        let reachable =
            |at: &Path| fs::metadata(at).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if target.ancestors().all(reachable) { target } else { std::env::temp_dir().join("ftpfs-tests") }
    })
}

fn runs() -> PathBuf {
    let path = base().join("runs");
    fs::create_dir_all(&path).unwrap();
    path
}

fn sweep() {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(|| {
        for entry in fs::read_dir(runs()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_string_lossy().split('-').next().and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                clear(&entry.path());
            }
        }
    });
}

/// Never descends into a mount: what lies there belongs to a server.
fn clear(path: &Path) {
    for at in mounts_below(path) {
        let _ = Command::new("umount").arg("-l").arg(&at).output();
    }
    if mounts_below(path).is_empty() {
        let _ = Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(path).output();
    }
}

/// `\040` and its like, as mountinfo writes blanks.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(value) if byte == b'\\' => {
                out.push(value);
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}
