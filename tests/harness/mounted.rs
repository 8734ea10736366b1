//! A server and its mount: [`Mounted`] for a real one, [`Scripted`] for ours. The mount goes first, and then what it needs.
//!
//! A test that wants more words for its own matter adds them with an `impl` of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{Kind, Mount, Options, Server, scripted, shell};

/// A fresh server and its mount.
pub struct Mounted {
    pub mount: Mount,
    pub server: Server,
}

impl Mounted {
    /// `None` as in [`Server::start`].
    #[track_caller]
    pub fn new(kind: Kind, options: &Options, mount_options: &[&str]) -> Option<Self> {
        let server = Server::start_with(kind, options)?;
        let mount = Mount::new(&server, mount_options);
        Some(Self { mount, server })
    }

    pub fn kind(&self) -> Kind {
        self.server.kind()
    }

    /// A path inside the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mount.path().join(name)
    }

    /// A file's bytes through the mount.
    #[track_caller]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let at = self.path(name);
        fs::read(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()))
    }

    /// Runs a script inside the mount, see [`shell::ok`].
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        shell::ok(self.mount.path(), script)
    }

    /// See [`Mount::remount`].
    #[track_caller]
    pub fn remount(&mut self) {
        self.mount.remount(&self.server, &[]);
    }
}

/// The scripted server, mounted.
pub struct Scripted {
    pub mount: Mount,
    pub server: scripted::Server,
    options: Vec<String>,
    _served: Scratch,
}

impl Scripted {
    /// With nothing in it and no options.
    #[track_caller]
    pub fn new() -> Self {
        Self::with(scripted::Options::default(), &[])
    }

    /// With a short time-out, for tests in which the server falls silent.
    #[track_caller]
    pub fn impatient() -> Self {
        Self::with(scripted::Options::default(), &IMPATIENT)
    }

    /// For tests that demand a success: nothing is silent, and the machine may be busy.
    #[track_caller]
    pub fn patient() -> Self {
        Self::with(scripted::Options::default(), &PATIENT)
    }

    #[track_caller]
    pub fn with(options: scripted::Options, mount_options: &[&str]) -> Self {
        Self::prepared(options, mount_options, |_| ())
    }

    /// `prepare` gives the server its files and faults before it is mounted: what appears behind a mount's back is seen only
    /// after a while.
    #[track_caller]
    pub fn prepared(
        options: scripted::Options,
        mount_options: &[&str],
        prepare: impl FnOnce(&scripted::Server),
    ) -> Self {
        Self::through(&[], options, mount_options, prepare)
    }

    /// As [`Scripted::prepared`], with the program run through a command that limits it, see [`Mount::through`].
    #[track_caller]
    pub fn through(
        command: &[&str],
        options: scripted::Options,
        mount_options: &[&str],
        prepare: impl FnOnce(&scripted::Server),
    ) -> Self {
        let served = Scratch::new("served");
        let server = scripted::Server::start_with(served.path(), options).unwrap();
        prepare(&server);
        let mount = Mount::through(command, &server, mount_options);
        let options = mount_options.iter().map(|&option| option.to_owned()).collect();
        Self { mount, server, options, _served: served }
    }

    /// After the program has died, see [`Mount::again`].
    #[track_caller]
    pub fn again(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.mount.again(&self.server, &options);
    }

    /// A path inside the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mount.path().join(name)
    }

    /// What the server serves.
    pub fn root(&self) -> &Path {
        self.server.root()
    }

    /// Runs a script inside the mount, see [`shell::ok`].
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        shell::ok(self.mount.path(), script)
    }

    /// Behind the mount's back.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        self.server.put(name, content);
    }

    /// Whether the server has this file with just this content.
    pub fn holds(&self, name: &str, content: &[u8]) -> bool {
        fs::read(self.root().join(name)).is_ok_and(|found| found == content)
    }
}

/// Seconds enough for a server that is well, and few to wait for one that is not.
pub const IMPATIENT: [&str; 2] = ["timeout=2", "shutdown_timeout=2"];
/// Seconds enough for a machine that is busy with other things, too; less than [`super::patience::LONGEST`].
pub const PATIENT: [&str; 2] = ["timeout=20", "shutdown_timeout=2"];
