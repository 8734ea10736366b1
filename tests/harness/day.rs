//! A bad day: the scripted server with something that goes wrong, its mount with a short time-out, and the words for both.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Mount;
use super::files::close;
use super::scratch::Scratch;
use super::scripted::{Options, Server, Then};

/// A scripted server and its mount.
pub struct Day {
    pub mount: Mount,
    pub server: Server,
    _served: Scratch,
}

impl Day {
    pub fn new() -> Self {
        Self::with(Options::default(), &["timeout=2", "shutdown_timeout=2"])
    }

    pub fn with(options: Options, mount_options: &[&str]) -> Self {
        let served = Scratch::new("served");
        let server = Server::start_with(served.path(), options).unwrap();
        let mount = Mount::new(&server, mount_options);
        Self { mount, server, _served: served }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    /// Behind the mount's back.
    pub fn put(&self, name: &str, content: &[u8]) {
        let at = self.server.root().join(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    pub fn holds(&self, name: &str, content: &[u8]) -> bool {
        fs::read(self.server.root().join(name)).is_ok_and(|found| found == content)
    }
}

/// When a program learns that its bytes are safe.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Close,
    Fsync,
}

pub fn store(path: &Path, content: &[u8], how: How) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    match how {
        How::Close => close(file),
        How::Fsync => file.sync_all(),
    }
}

pub fn ok226() -> Then {
    reply("226 Transfer complete.")
}

pub fn reply(text: &str) -> Then {
    Then::Reply(text.to_string())
}

/// More than fits into the buffers between two sockets, and no multiple of anything.
pub fn content() -> Vec<u8> {
    (0..100_003u32).flat_map(u32::to_le_bytes).collect()
}

/// What hangs is not slow: many times the time-out in force.
pub const LONGEST: Duration = Duration::from_secs(30);
