//! Stand-in of the command line's branch: the real module replaces this file.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ftp;

pub struct Options {
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub file_mode: Option<u32>,
    pub dir_mode: Option<u32>,
    pub read_only: bool,
    pub cache_size: u64,
    pub attr_timeout: Duration,
    pub dir_timeout: Duration,
    pub negative_timeout: Duration,
    pub max_conns: usize,
    pub timeout: Duration,
    pub spool_dir: PathBuf,
    pub in_place: bool,
    pub strict_attributes: bool,
}

impl Options {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            umask: 0o022,
            file_mode: None,
            dir_mode: None,
            read_only: false,
            cache_size: 64 << 20,
            attr_timeout: Duration::from_secs(5),
            dir_timeout: Duration::from_secs(30),
            negative_timeout: Duration::from_secs(5),
            max_conns: 8,
            timeout: Duration::from_secs(30),
            spool_dir: PathBuf::new(),
            in_place: false,
            strict_attributes: false,
        }
    }
}

pub struct FileSystem;

impl FileSystem {
    pub fn start(config: ftp::Config, options: Options) -> Result<Arc<Self>, ftp::Error> {
        let unreachable = |e: std::io::Error| ftp::Error::Unreachable { text: e.to_string() };
        let address = (config.host.as_str(), config.port)
            .to_socket_addrs()
            .map_err(unreachable)?
            .next()
            .ok_or(ftp::Error::Unreachable { text: "no address".into() })?;
        let mut stream = TcpStream::connect_timeout(&address, config.connect_timeout).map_err(unreachable)?;
        stream.set_read_timeout(Some(options.timeout)).map_err(unreachable)?;
        let mut greeting = [0; 512];
        stream.read(&mut greeting).map_err(|e| ftp::Error::control("greeting", &e))?;
        Ok(Arc::new(Self))
    }

    pub fn shutdown(&self, _limit: Duration) -> usize {
        0
    }

    pub fn forget_caches(&self) {}

    pub fn open_files(&self) -> usize {
        0
    }
}
