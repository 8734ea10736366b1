//! Real FTP servers, each on a free loopback port, with a folder, a user and a password of its own.
//!
//! A server runs in private mount and process namespaces: its account files are laid over /etc there and nowhere else, and when
//! the first process of its namespace ends, the kernel ends all the others, sessions included. That first process is a
//! shell that reads from a pipe which the [`Server`] holds: dropping the value, a panic and even a killed test run all
//! close the pipe, and nothing stays behind.
//!
//! The variable `FTPFS_MAX_SESSIONS` makes every server allow so many sessions only, but where a test asks for a number itself:
//! `FTPFS_MAX_SESSIONS=1 cargo test --test writing`. Servers without such a limit are skipped then, said aloud.
//!
//! The folder served belongs to an ordinary user ([`UID`]), as it would on a real server; tests, which run as root, look into
//! it directly to compare bytes.

mod daemons;
mod libraries;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::mount::Target;
use super::scratch::Scratch;

/// The servers that we can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Vsftpd,
    Proftpd,
    PureFtpd,
    Pyftpdlib,
    Inetutils,
    LinuxFtpd,
    Aioftp,
    Twisted,
    Libunftp,
    FtpSrv,
}

impl Kind {
    /// The ones that every promise is checked on; they are always there when CI runs.
    pub const MAIN: [Kind; 4] = [Kind::Vsftpd, Kind::Proftpd, Kind::PureFtpd, Kind::Pyftpdlib];
    /// The rest, checked in less depth.
    pub const OTHERS: [Kind; 6] =
        [Kind::Inetutils, Kind::LinuxFtpd, Kind::Aioftp, Kind::Twisted, Kind::Libunftp, Kind::FtpSrv];
}

/// How the server protects its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    #[default]
    Plain,
    /// AUTH TLS (RFC 4217).
    Explicit,
    /// TLS from the first byte.
    Implicit,
}

impl Kind {
    /// Says so; a failure where CI runs, but where a limit was asked for that it does not have, and for ftp-srv (Debian's npm is four
    /// hundred packages).
    #[track_caller]
    pub fn cannot_be_started(self, why: &str) {
        if self == Self::FtpSrv || sessions_asked_for().is_some() {
            eprintln!("SKIPPED: {self:?} cannot be started: {why}");
        } else {
            super::skip(format!("{self:?} cannot be started: {why}"));
        }
    }
}

/// What a test wants to be different. What a server cannot do makes [`Server::try_start`] fail.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sessions allowed from one address.
    pub max_sessions: Option<u32>,
    /// Seconds until an idle session is ended (Pure-FTPd counts in minutes: rounded up).
    pub idle: Option<u32>,
    /// The server's TZ variable.
    pub time_zone: Option<String>,
    pub tls: Tls,
    /// Listens on ::1 instead of 127.0.0.1.
    pub ipv6: bool,
    /// More lines for the configuration file, or more arguments (Pure-FTPd, inetutils-ftpd, linux-ftpd), or the banner
    /// (pyftpdlib).
    pub extra: Vec<String>,
}

impl Options {
    /// The loopback address to listen on.
    fn address(&self) -> &'static str {
        if self.ipv6 { "::1" } else { "127.0.0.1" }
    }
}

/// A running server.
pub struct Server {
    kind: Kind,
    setup: Setup,
    launch: Launch,
    options: Options,
    running: Option<Child>,
    _port: Flock<File>,
    _scratch: Scratch,
}

impl Server {
    /// Starts it as it comes. `None`, said aloud, when the machine cannot have this server. That is a failure when CI runs (but
    /// for ftp-srv: Debian's npm is four hundred packages).
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, &Options::default())
    }

    /// As [`Server::start`], with options.
    pub fn start_with(kind: Kind, options: &Options) -> Option<Self> {
        match Self::try_start(kind, options) {
            Ok(server) => Some(server),
            Err(why) => {
                kind.cannot_be_started(&why);
                None
            }
        }
    }

    /// As [`Server::start_with`], with the reason when it cannot be.
    pub fn try_start(kind: Kind, options: &Options) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("servers need namespaces and other users: run the tests as root".into());
        }
        let options =
            &Options { max_sessions: options.max_sessions.or_else(sessions_asked_for), ..options.clone() };
        let scratch = Scratch::new(&format!("{kind:?}").to_lowercase());
        let (root, config) = (scratch.path().join("root"), scratch.path().join("config"));
        for folder in [&root, &config] {
            fs::create_dir(folder).map_err(|e| e.to_string())?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
            own(folder);
        }
        let (port, lock) = free_port()?;
        let setup = Setup { root, config, port, user: "tester".into(), password: format!("secret-{port}") };
        let launch = match kind {
            Kind::Vsftpd => daemons::vsftpd(&setup, options),
            Kind::Proftpd => daemons::proftpd(&setup, options),
            Kind::PureFtpd => daemons::pure_ftpd(&setup, options),
            Kind::Inetutils => daemons::inetutils(&setup, options),
            Kind::LinuxFtpd => daemons::linux_ftpd(&setup, options),
            Kind::Pyftpdlib => libraries::pyftpdlib(&setup, options),
            Kind::Aioftp => libraries::aioftp(&setup, options),
            Kind::Twisted => libraries::twisted(&setup, options),
            Kind::Libunftp => libraries::libunftp(&setup, options),
            Kind::FtpSrv => libraries::ftp_srv(&setup, options),
        }?;
        let options = options.clone();
        let mut server = Self { kind, setup, launch, options, running: None, _port: lock, _scratch: scratch };
        server.run()?;
        Ok(server)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The folder that the server serves as `/`.
    pub fn root(&self) -> &Path {
        &self.setup.root
    }

    pub fn port(&self) -> u16 {
        self.setup.port
    }

    pub fn user(&self) -> &str {
        &self.setup.user
    }

    /// Puts a file into the served folder behind every client's back; parent folders are made.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.root().join(path);
        if let Some(parent) = Path::new(path).parent() {
            self.make_folder(parent);
        }
        fs::write(&at, content).unwrap();
        own(&at);
    }

    /// Makes a folder below the served one, with its parents.
    pub fn make_folder(&self, path: impl AsRef<Path>) {
        let mut at = self.root().to_path_buf();
        for part in path.as_ref() {
            at.push(part);
            if !at.exists() {
                fs::create_dir(&at).unwrap();
                own(&at);
            }
        }
    }

    /// The bytes of a file, as the server has them.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let at = self.root().join(path);
        fs::read(&at).unwrap_or_else(|e| panic!("{} on the server: {e}", at.display()))
    }

    /// Ends the server and all of its sessions, as a crash of its machine would.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Closing the pipe ends the namespace; should that shell be stuck, killing unshare ends it too.
            drop(running.stdin.take());
            if !ends_within(&mut running, Duration::from_secs(5)) {
                let _ = running.kill();
                let _ = running.wait();
            }
        }
    }

    /// Starts it again on the same port with the same folder.
    pub fn restart(&mut self) {
        self.stop();
        if let Err(why) = self.run() {
            // Another's passive port may be ours for a moment: servers choose them among all that there are.
            eprintln!("--- {:?} once more: {why}", self.kind);
            self.stop();
            self.run().unwrap();
        }
    }

    /// What the server printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.setup.config.join("output")).unwrap_or_default()).into_owned()
    }

    fn run(&mut self) -> Result<(), String> {
        let output = File::create(self.setup.config.join("output")).map_err(|e| e.to_string())?;
        let errors = output.try_clone().map_err(|e| e.to_string())?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
        command.args(["sh", "-c", FIRST_PROCESS, "server"]);
        command.arg(&self.setup.config).arg(&self.launch.prepare);
        if self.launch.unprivileged {
            let id = UID.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.args(&self.launch.command);
        command.env("LD_LIBRARY_PATH", super::fetch::library_path()).env_remove("TZ");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(zone) = &self.options.time_zone {
            command.env("TZ", zone);
        }
        let child = command.stdin(Stdio::piped()).stdout(output).stderr(errors).spawn();
        self.running = Some(child.map_err(|e| format!("unshare: {e}"))?);
        self.wait_until_it_listens()
    }

    /// Looks into the kernel's table instead of connecting: a connection would count against a limit under test.
    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let wanted = format!(":{:04X} ", self.setup.port);
        let deadline = Instant::now() + STARTS_WITHIN;
        while Instant::now() < deadline {
            let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default()
                + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
            let listens = table.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                fields.next().is_some_and(|local| format!("{local} ").ends_with(&wanted))
                    && fields.nth(1) == Some(LISTENING)
            });
            if listens {
                return Ok(());
            }
            let ended = self.running.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("it ended with {status}: {}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let waits =
            self.running.as_ref().map(|child| super::standstill::family(child.id())).unwrap_or_default();
        Err(format!("it does not listen on {}: {}\n{waits}", self.setup.port, self.log()))
    }
}

impl Target for Server {
    fn url(&self) -> String {
        let scheme = match self.options.tls {
            Tls::Plain => "ftp",
            Tls::Explicit => "ftpes",
            Tls::Implicit => "ftps",
        };
        let host = if self.options.ipv6 { "[::1]" } else { "127.0.0.1" };
        format!("{scheme}://{}@{host}:{}/", self.setup.user, self.setup.port)
    }

    fn password(&self) -> String {
        self.setup.password.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let log = self.log();
        if std::thread::panicking() && !log.trim().is_empty() {
            eprintln!("--- {:?} printed:\n{log}", self.kind);
        }
    }
}

/// What a server's configuration is made of.
struct Setup {
    root: PathBuf,
    /// Configuration files; `config/etc`, when it exists, is laid over /etc.
    config: PathBuf,
    port: u16,
    user: String,
    password: String,
}

/// How a server is run.
#[derive(Default)]
struct Launch {
    command: Vec<OsString>,
    /// Whether it runs as [`UID`] from the start instead of dropping root by itself.
    unprivileged: bool,
    /// Shell commands to run inside the namespace before.
    prepare: String,
}

impl Launch {
    fn new(program: impl Into<OsString>) -> Self {
        Self { command: vec![program.into()], ..Self::default() }
    }

    fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.push(argument.into());
        self
    }

    fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.extend(arguments.into_iter().map(Into::into));
        self
    }
}

/// Key and certificate in one file that the server's user can read.
fn key_and_certificate(setup: &Setup) -> Result<PathBuf, String> {
    let (cert, key) = super::fetch::certificate()?;
    let both = setup.config.join("both.pem");
    let read = |path: &Path| fs::read(path).map_err(|e| e.to_string());
    fs::write(&both, [read(&key)?, read(&cert)?].concat()).map_err(|e| e.to_string())?;
    fs::set_permissions(&both, fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
    own(&both);
    Ok(both)
}

/// How many sessions the variable `FTPFS_MAX_SESSIONS` allows.
pub fn sessions_asked_for() -> Option<u32> {
    let text = std::env::var("FTPFS_MAX_SESSIONS").ok()?;
    Some(text.parse().expect("FTPFS_MAX_SESSIONS is a number"))
}

/// Gives a file or folder to the user whom the server runs as.
pub fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(UID), Some(UID)).unwrap();
}

/// Below the ports that the kernel hands out by itself, so that it stays ours while the server is stopped. The lock
/// keeps other test processes off it.
fn free_port() -> Result<(u16, Flock<File>), String> {
    let folder = std::env::temp_dir().join("ftpfs-tests-ports");
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let start = std::process::id().wrapping_mul(7919).wrapping_add(nanos);
    for step in 0..u32::from(PORTS.1 - PORTS.0) {
        let offset = start.wrapping_add(step) % u32::from(PORTS.1 - PORTS.0);
        let port = PORTS.0 + u16::try_from(offset).map_err(|e| e.to_string())?;
        let file = File::create(folder.join(port.to_string())).map_err(|e| e.to_string())?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok((port, lock));
        }
    }
    Err("no free port".into())
}

fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if child.try_wait().ok().flatten().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The user and group that own what a server serves.
pub const UID: u32 = 22001;

/// Arguments: the configuration folder, commands to run before, the server's command.
///
/// Copies of FUSE mounts are let go at once, without a look at them (one that is stuck would hold us up): a copy in here would
/// keep another test's file system alive after its umount. Where
/// overlays cannot be had (inside some containers), a copy of /etc is bound instead. A server that ends ends the namespace.
const FIRST_PROCESS: &str = r#"
config=$1 prepare=$2
shift 2
awk '/ - fuse/ { print $5 }' /proc/self/mountinfo | while read -r at; do umount -i -c -l "$(printf '%b' "$at")"; done
if [ -d "$config/etc" ]; then
    mount -t overlay overlay -o "lowerdir=$config/etc:/etc" /etc 2>/dev/null || {
        cp -a /etc "$config/merged" && cp -a "$config/etc/." "$config/merged/" && mount --bind "$config/merged" /etc
    } || exit 1
fi
eval "$prepare" || exit 1
trap 'exit 1' USR1
{ "$@" </dev/null; echo "ended with $?"; kill -USR1 1; } &
read -r _
exit 0
"#;

/// A machine that is loaded many times over takes its time.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// /proc/net/tcp's code for LISTEN.
const LISTENING: &str = "0A";
const PORTS: (u16, u16) = (12000, 32000);
