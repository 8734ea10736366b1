//! A small FTP server that serves one local folder correctly, and misbehaves exactly where it is told to.
//!
//! Tests use it for what real servers do only on bad days: a transfer that ends early, a confirmation that gets lost, a listing
//! made to harm. The demo uses it because it needs nothing installed. It listens on 127.0.0.1 only, never leaves its
//! folder, and counts what clients do.
//!
//! One thread per session runs [`session`]'s loop: read a line, ask [`faults`] whether something shall go wrong, do what
//! [`commands`] says, reply. [`data`] moves bytes, [`listing`] and [`time`] format, [`jail`] keeps paths inside, [`counters`]
//! remembers; [`wire`] is TLS, for who asks for it.

pub mod counters;
pub mod faults;

mod commands;
mod data;
mod jail;
mod listing;
mod session;
mod time;
mod wire;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use openssl::ssl::SslAcceptor;

pub use counters::Counters;
pub use faults::{DataEnd, Fault, Faults, Rule, Then};

/// What a server is like from the start.
#[derive(Clone, Debug)]
pub struct Options {
    pub user: String,
    pub password: String,
    /// Where it listens; 127.0.0.1, but for tests in networks of their own.
    pub address: Ipv4Addr,
    /// More are refused with 421 at the greeting.
    pub max_sessions: usize,
    /// An idle session is ended with 421.
    pub idle: Duration,
    /// Commands that it does not know: 500, and not in FEAT.
    pub without: Vec<&'static str>,
    /// Bytes of a data connection that are sent and not yet acknowledged, at most; the kernel's own choice when none.
    pub send_buffer: Option<usize>,
    /// Bytes per second that each data connection gets, at most.
    pub rate_of_each: Option<u64>,
    /// Bytes per second that all data connections get together, at most.
    pub rate_of_all: Option<u64>,
    /// Bytes that come are counted and thrown away; the file gets their number of zeros, which take no room.
    pub discards: bool,
    /// Certificate and key: AUTH TLS is known, and nobody logs in without.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user: "guest".into(),
            password: "guest".into(),
            address: Ipv4Addr::LOCALHOST,
            max_sessions: 64,
            idle: Duration::from_secs(300),
            without: Vec::new(),
            send_buffer: None,
            rate_of_each: None,
            rate_of_all: None,
            discards: false,
            tls: None,
        }
    }
}

/// A running server; it ends, with all of its sessions, when dropped.
pub struct Server {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `root` on a free port of 127.0.0.1.
    pub fn start(root: &Path) -> io::Result<Self> {
        Self::start_with(root, Options::default())
    }

    pub fn start_with(root: &Path, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((options.address, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            jail: jail::Jail::new(root)?,
            acceptor: options.tls.as_ref().map(|(cert, key)| wire::acceptor(cert, key)).transpose()?,
            max_sessions: AtomicUsize::new(options.max_sessions),
            options,
            faults: Faults::default(),
            counters: Counters::default(),
            ending: AtomicBool::new(false),
            sockets: Mutex::default(),
            next: AtomicU64::new(0),
            pace_of_all: data::Pace::default(),
        });
        let served = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = served.clone();
                // Ends when its socket does: `drop` sees to that.
                std::thread::spawn(move || session::serve(&shared, stream));
            }
        });
        Ok(Self { shared, port, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        let Options { user, address, tls, .. } = &self.shared.options;
        let scheme = if tls.is_some() { "ftpes" } else { "ftp" };
        format!("{scheme}://{user}@{address}:{}/", self.port)
    }

    pub fn password(&self) -> &str {
        &self.shared.options.password
    }

    pub fn root(&self) -> &Path {
        self.shared.jail.root()
    }

    /// Puts a file there, with the folders above it; no client has asked for it.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.root().join(path);
        fs::create_dir_all(at.parent().expect("it is below the root")).unwrap();
        fs::write(at, content).unwrap();
    }

    /// What shall go wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What clients have done.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// From now on so many sessions are allowed; those that are open stay.
    pub fn set_max_sessions(&self, most: usize) {
        self.shared.max_sessions.store(most, Ordering::SeqCst);
    }

    /// Ends every session as a broken line does: no reply, no good-bye. New ones are welcome.
    pub fn drop_sessions(&self) {
        for socket in locked(&self.shared.sockets).values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.drop_sessions();
        // Wakes the acceptor.
        let _ = TcpStream::connect((self.shared.options.address, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// What all sessions have in common.
struct Shared {
    jail: jail::Jail,
    options: Options,
    acceptor: Option<SslAcceptor>,
    max_sessions: AtomicUsize,
    faults: Faults,
    counters: Counters,
    ending: AtomicBool,
    /// Control and data connections, so that they can be ended from outside.
    sockets: Mutex<HashMap<u64, TcpStream>>,
    next: AtomicU64,
    pace_of_all: data::Pace,
}

impl Shared {
    /// Registers a socket for as long as the value returned lives.
    fn track<'a>(&'a self, socket: &TcpStream) -> io::Result<Tracked<'a>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.sockets).insert(id, socket.try_clone()?);
        if self.ending.load(Ordering::SeqCst) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        Ok(Tracked { shared: self, id })
    }

    fn knows(&self, verb: &str) -> bool {
        !self.options.without.contains(&verb)
    }
}

struct Tracked<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Tracked<'_> {
    fn drop(&mut self) {
        locked(&self.shared.sockets).remove(&self.id);
    }
}

/// A session that panicked must not take the others with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
