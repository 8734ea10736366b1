//! What is logged, and where to: the terminal until ftpfs is in the background, then the system log (`/dev/log`, which
//! journald and syslogd both offer), or always the file of `log_file=`.
//!
//! Warnings and errors by default, more with `-v`, the FTP dialogue with `-d` (target `ftpfs::dialogue`, level debug). The
//! variable `FTPFS_LOG` takes env_logger's filters. Nobody waits for the
//! system log: when it is full, lines are lost. Standard error and `log_file=` are written as they take it; the file is opened anew on HUP,
//! for logrotate.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

/// Starts logging; called once, before any thread.
pub fn start(debug: bool, verbose: u8, file: Option<&Path>) -> io::Result<()> {
    let level = match (debug, verbose) {
        (true, _) | (_, 2..) => LevelFilter::Debug,
        (_, 1) => LevelFilter::Info,
        _ => LevelFilter::Warn,
    };
    let mut builder = Builder::new();
    // fuser warns of every call that is answered "not implemented" on purpose.
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module("fuser", LevelFilter::Error)
        .filter_module("ftpfs", level);
    if let Ok(filters) = std::env::var("FTPFS_LOG") {
        builder.parse_filters(&filters);
    }
    let to_file = file.is_some();
    builder.format(move |out, record| {
        let text = record.args().to_string();
        // What a server says may hold escape sequences.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if to_file {
            return writeln!(out, "{} {:5} {text}", out.timestamp_millis(), record.level());
        }
        if IN_BACKGROUND.load(Ordering::Relaxed) {
            let priority = FACILITY_DAEMON | severity(record.level());
            return write!(out, "<{priority}>ftpfs[{}]: {text}", std::process::id());
        }
        match record.target() {
            "ftpfs::dialogue" => writeln!(out, "{} {text}", out.timestamp_millis()),
            _ => writeln!(out, "ftpfs: {}: {text}", record.level().as_str().to_ascii_lowercase()),
        }
    });
    builder.target(Target::Pipe(match file {
        Some(path) => Box::new(LogFile::open(path)?),
        None => Box::new(Output::default()),
    }));
    // In the background nobody reads standard error.
    std::panic::set_hook(Box::new(|panic| log::error!("panicked: {panic}")));
    builder.try_init().map_err(io::Error::other)
}

/// From now on there is no terminal.
pub fn go_to_background() {
    IN_BACKGROUND.store(true, Ordering::Relaxed);
}

/// The next line goes to whatever has the name of `log_file=` then: the file may have been moved away.
pub fn reopen() {
    IS_OUTDATED.store(true, Ordering::Relaxed);
}

/// `log_file=`.
struct LogFile {
    /// Absolute: a daemon has another folder than whoever started it.
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = File::options().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Where that fails, the old one is better than none.
        if IS_OUTDATED.swap(false, Ordering::Relaxed)
            && let Ok(anew) = Self::open(&self.path)
        {
            *self = anew;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The terminal or the system log, whichever it is at the time.
#[derive(Default)]
struct Output {
    system: Option<UnixDatagram>,
}

impl Output {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if self.system.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect("/dev/log")?;
            self.system = Some(socket);
        }
        match &self.system {
            Some(socket) => socket.send(line).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Write for Output {
    /// One call is one record.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !IN_BACKGROUND.load(Ordering::Relaxed) {
            io::stderr().write_all(line)?;
        } else if self.send(line).is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            // The system log was restarted: connect again, once.
            self.system = None;
            let _ = self.send(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 5424 section 6.2.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

static IS_OUTDATED: AtomicBool = AtomicBool::new(false);
static IN_BACKGROUND: AtomicBool = AtomicBool::new(false);

const FACILITY_DAEMON: u8 = 3 << 3;
