//! What must be known to reach a server and log in: filled in by the command line, read by [`super::Session`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::codepage::Codepage;
use super::listing::Zone;
use super::proxy::Proxy;

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
    /// Whether and how connections are encrypted.
    pub tls: Tls,
    /// How data connections are made.
    pub data: DataPolicy,
    /// What stands between; control and data connections go through it, and only passive ones can.
    pub proxy: Option<Proxy>,
    /// How names are encoded on the server, when not in UTF-8.
    pub codepage: Option<Codepage>,
    /// How folders are listed.
    pub list: ListPolicy,
}

impl Config {
    /// An unencrypted session on the usual port with the usual patience; the fields are there to be changed.
    pub fn new(host: impl Into<String>, user: impl Into<String>, password: Secret) -> Self {
        Self {
            host: host.into(),
            port: FTP_PORT,
            user: user.into(),
            password,
            account: None,
            folder: Folder::Login(Vec::new()),
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            tls: Tls::default(),
            data: DataPolicy::default(),
            proxy: None,
            codepage: None,
            list: ListPolicy::default(),
        }
    }
}

/// FTPS (RFC 4217). The default: none, and everything verified once a mode is chosen.
#[derive(Clone, Debug)]
pub struct Tls {
    pub mode: TlsMode,
    /// Certificates to trust instead of the system's (PEM); a self-signed server's own works.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM), for servers that want one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// SHA-256 of the server's certificate (DER): trusts exactly this one, whatever its name and issuer.
    pub pin: Option<[u8; 32]>,
    /// The name to send (SNI) and to verify, when it is not the host's.
    pub name: Option<String>,
    /// False: any certificate will do. Whoever sits between can then read and change everything.
    pub verify: bool,
    /// False: file contents and listings go in the clear (PROT C), only commands are protected.
    pub protect_data: bool,
    /// Exactly this version; the newest that both sides know when none.
    pub version: Option<TlsVersion>,
    /// TLS 1.0 and weak ciphers, for old NAS boxes.
    pub allow_old: bool,
    /// Takes the end of a connection for the end of a file although the server did not say so (no close_notify).
    pub lax_end: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Off,
            ca: None,
            certificate: None,
            key: None,
            pin: None,
            name: None,
            verify: true,
            protect_data: true,
            version: None,
            allow_old: false,
            lax_end: false,
        }
    }
}

/// A version of TLS to insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V12,
    V13,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    #[default]
    Off,
    /// AUTH TLS where the server has it; in the clear, with a warning, where not.
    Try,
    /// AUTH TLS, or no session.
    Explicit,
    /// TLS from the first byte (`ftps://`, usually port 990).
    Implicit,
}

/// How folders are listed. The default asks the server what it can do.
#[derive(Clone, Debug, Default)]
pub struct ListPolicy {
    /// Never MLSD and MLST, although the server offers them.
    pub no_mlsd: bool,
    /// The options of LIST (`-a`); found out when none.
    pub options: Option<String>,
    /// The zone of the times in LIST; taken for UTC, and corrected by MDTM, when none.
    pub zone: Option<Zone>,
}

/// How data connections are made. The default suits nearly everybody.
#[derive(Clone, Debug, Default)]
pub struct DataPolicy {
    pub mode: DataMode,
    /// Whose address a passive connection goes to.
    pub pasv_address: PasvAddress,
    /// Ports to listen on when active; any when none.
    pub active_ports: Option<RangeInclusive<u16>>,
    /// The address to tell the server when active, behind NAT; ours when none.
    pub active_address: Option<IpAddr>,
    /// Which kind of address of the host is tried, or tried first.
    pub family: Family,
}

/// Who connects to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataMode {
    /// Passive; active as the last resort.
    #[default]
    Auto,
    Passive,
    Active,
}

/// Whose address a passive connection goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasvAddress {
    /// The control connection's, whatever the reply says.
    #[default]
    Control,
    /// The 227 reply's, when it is one that can be reached.
    Reply,
}

/// Which addresses of a host are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// In the resolver's order.
    #[default]
    Any,
    V4,
    V6,
}

impl Family {
    /// Whether an address may be used.
    pub fn allows(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
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

/// RFC 959; implicit TLS uses 990.
pub const FTP_PORT: u16 = 21;
