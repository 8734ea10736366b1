//! What must be known to reach a server and log in: filled in by the command line, read by [`super::Session`].

use std::fmt;
use std::time::Duration;

/// How to reach one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host name or address, as the user typed it (TLS verifies this name).
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
    /// For servers that ask for ACCT (RFC 959 section 4.1.1).
    pub account: Option<Secret>,
    /// The folder that becomes the root of the mount.
    pub folder: Folder,
    /// Bound of one wait for the server: a reply, the next bytes of a transfer.
    pub timeout: Duration,
    /// Bound of connecting, one address.
    pub connect_timeout: Duration,
}

/// Where the mount begins (curl's convention for FTP URLs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// `ftp://host/rel`: below the login folder; empty for the login folder itself.
    Login(Vec<u8>),
    /// `ftp://host//abs`.
    Absolute(Vec<u8>),
}

/// A password: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The password itself, for the PASS command only.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}
