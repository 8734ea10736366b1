//! Every operation on every server, over every kind of connection; and which of them a server does not have.
//!
//! ```text
//! cargo test --test matrix                                                     # a part of it, as CI does
//! cargo test --test matrix -- --ignored --nocapture --test-threads 1           # all of it, and the tables
//! FTPFS_SERVERS=Vsftpd,Twisted cargo test --test matrix -- --ignored --nocapture --test-threads 1
//! ```
//!
//! A cell is done on a server of its own, with no option set but those of TLS (and `active`, where that is asked for). As in a
//! mount, an operation whose connection breaks is tried again on a new one; how often that was needed stands in the table. What a
//! server is known to lack is written down in [`lacks`]: both a lack that is not there and a new one fail the test.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ftpfs::ftp::config::{DataMode, Secret, TlsMode, TlsVersion};
use ftpfs::ftp::{After, Config, Error, Features, How, Kind as Is, Session};
use harness::servers::{Kind, Options, Server, Tls};
use harness::session::{path, read};
use harness::skip::in_ci;
use harness::{Target, fetch};

#[test]
fn every_operation_works_on_every_server_in_the_usual_ways() {
    let mut cells = Vec::new();
    for kind in kinds() {
        for protection in Protection::ALL {
            cells.push(Cell { kind, protection, data: DataMode::Auto, ipv6: false });
        }
        cells.push(Cell { kind, protection: Protection::Plain, data: DataMode::Active, ipv6: false });
        cells.push(Cell { kind, protection: Protection::Plain, data: DataMode::Auto, ipv6: true });
    }
    check(&cells);
}

#[test]
#[ignore = "takes minutes; the part above is what changes are likely to break"]
fn every_operation_works_on_every_server_in_all_ways() {
    let mut cells = Vec::new();
    for kind in kinds() {
        for ipv6 in [false, true] {
            for data in [DataMode::Auto, DataMode::Active] {
                for protection in Protection::ALL {
                    cells.push(Cell { kind, protection, data, ipv6 });
                }
            }
        }
    }
    check(&cells);
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_transfers_in_a_row_inside_tls_lose_nothing() {
    let mut report = String::from("1000 transfers in a row (500 up, 500 down, 0 to 300 kB)\n");
    let mut failed = Vec::new();
    for kind in kinds() {
        for protection in [Protection::Tls12, Protection::Tls13, Protection::Implicit] {
            let cell = Cell { kind, protection, data: DataMode::Auto, ipv6: false };
            if cannot(&cell).is_some() {
                continue;
            }
            let Ok(server) = cell.start() else { continue };
            let mut client = Client::new(&cell, &server);
            let lost = match a_thousand_transfers(&mut client, &server) {
                Ok(()) => "all arrived".to_owned(),
                Err(why) => {
                    failed.push(format!("{cell}: {why}"));
                    why
                }
            };
            let sessions = client.features.counters().read().sessions;
            let _ = writeln!(report, "{cell:<40} {lost}; {sessions} sessions, {} tried again", client.again);
        }
    }
    eprintln!("{report}");
    assert!(failed.is_empty(), "{failed:#?}");
}

fn a_thousand_transfers(client: &mut Client, server: &Server) -> Result<(), String> {
    let content: Vec<u8> =
        (0..75_000u32).map(|n| n.wrapping_mul(2_654_435_761)).flat_map(u32::to_le_bytes).collect();
    for number in 0..500usize {
        // Around the sizes at which something changes: nothing, one byte, one TLS record, many.
        let length = [0, 1, 16_384, number * 7, 100_000 + number, 300_000][number % 6];
        let start = number * 13 % (content.len() - length + 1);
        let body = &content[start..start + length];
        let name = path(&format!("/f{}", number % 10));
        client
            .on(|session| session.store(&name, How::Replace, &mut &*body, &After::default()))
            .map_err(|error| format!("upload {number}: {error}"))?;
        if server.read(format!("f{}", number % 10)) != body {
            return Err(format!("upload {number} of {length} bytes is confirmed, and not what was sent"));
        }
        let got = client
            .on(|session| read(session, &name, 0))
            .map_err(|error| format!("download {number}: {error}"))?;
        if got != body {
            return Err(format!("download {number}: {} bytes of {length}", got.len()));
        }
    }
    Ok(())
}

/// One column of the table.
#[derive(Clone, Copy)]
struct Operation {
    name: &'static str,
    check: fn(&mut Client, &Server) -> Result<(), Trouble>,
}

/// What keeps an operation from working.
enum Trouble {
    /// The server has no such thing.
    Lacks,
    Other(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported { .. } => Self::Lacks,
            error => Self::Other(error.to_string()),
        }
    }
}

/// In the order in which they are done: each finds what those before it have left.
const OPERATIONS: &[Operation] = &[
    Operation { name: "put", check: put },
    Operation { name: "get", check: get },
    Operation { name: "list", check: list },
    Operation { name: "stat", check: stat },
    Operation { name: "mkdir", check: mkdir },
    Operation { name: "rename", check: rename },
    Operation { name: "append", check: append },
    Operation { name: "restart", check: restart },
    Operation { name: "times", check: times },
    Operation { name: "cut", check: cut },
    Operation { name: "delete", check: delete },
];

fn put(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    for length in [SIZE, 0, 1, SIZE] {
        let body = &content()[..length];
        let stored = client
            .on(|session| session.store(&path("/file"), How::Replace, &mut &*body, &After::default()))?;
        demand(
            stored.sent == length as u64 && stored.size.is_none_or(|size| size == stored.sent),
            "the size told",
        )?;
        demand(server.read("file") == body, "the bytes stored")?;
    }
    Ok(())
}

fn get(client: &mut Client, _: &Server) -> Result<(), Trouble> {
    demand(client.on(|session| read(session, &path("/file"), 0))? == content(), "the bytes read")?;
    demand(client.on(|session| read(session, &path("/none"), 0)).is_err(), "that a missing file is an error")
}

fn list(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    server.put("folder with blanks/.hidden", "1234567");
    server.make_folder("empty");
    let root = client.on(|session| session.list(&path("/")))?;
    let find = |name: &str| root.entries.iter().find(|entry| entry.name.as_bytes() == name.as_bytes());
    demand(root.unparsed == 0 && !root.truncated, "that every line is understood")?;
    let file = find("file").ok_or(Trouble::Other("a file is not listed".to_owned()))?;
    demand(file.kind == Is::File && file.size == Some(SIZE as u64), "size and kind of a file")?;
    demand(find("empty").is_some_and(|entry| entry.kind == Is::Directory), "the kind of a folder")?;
    let folder = client.on(|session| session.list(&path("/folder with blanks")))?;
    demand(folder.entries.len() == 1 && folder.entries[0].size == Some(7), "hidden names")?;
    demand(client.on(|session| session.list(&path("/empty")))?.entries.is_empty(), "an empty folder")?;
    demand(client.on(|session| session.list(&path("/none"))).is_err(), "that a missing folder is an error")
}

fn stat(client: &mut Client, _: &Server) -> Result<(), Trouble> {
    let file = client.on(|session| session.stat(&path("/file")))?;
    demand(file.kind == Is::File && file.size == Some(SIZE as u64), "size and kind of a file")?;
    let folder = client.on(|session| session.stat(&path("/empty")))?;
    demand(folder.kind == Is::Directory, "the kind of a folder")?;
    demand(client.on(|session| session.stat(&path("/none"))).is_err(), "that a missing name is an error")
}

fn mkdir(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    client.on(|session| session.make_directory(&path("/new folder")))?;
    demand(server.root().join("new folder").is_dir(), "the folder")?;
    client.on(|session| session.remove_directory(&path("/new folder")))?;
    demand(!server.root().join("new folder").exists(), "that the folder is gone")
}

fn rename(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    client.on(|session| session.rename(&path("/file"), &path("/empty/moved")))?;
    demand(server.read("empty/moved") == content(), "the file in its new place")?;
    client.on(|session| session.rename(&path("/empty/moved"), &path("/file")))?;
    demand(server.root().join("file").exists(), "the file in its old place")
}

fn append(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    client.on(|session| session.store(&path("/file"), How::Append, &mut &b"more"[..], &After::default()))?;
    demand(server.read("file") == [content(), b"more"].concat(), "old and new bytes")?;
    server.put("file", content());
    Ok(())
}

fn restart(client: &mut Client, _: &Server) -> Result<(), Trouble> {
    for offset in [SIZE - 1, 70_000, 1] {
        let got = client.on(|session| read(session, &path("/file"), offset as u64))?;
        demand(got == content()[offset..], "the bytes from there on")?;
    }
    demand(
        client.on(|session| read(session, &path("/file"), 0))? == content(),
        "that the offset is forgotten",
    )
}

fn times(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_001);
    client.on(|session| session.set_modified(&path("/file"), then))?;
    let kept = std::fs::metadata(server.root().join("file")).and_then(|found| found.modified());
    demand(kept.is_ok_and(|kept| kept == then), "the time on the server")?;
    let told = client.on(|session| session.stat(&path("/file")))?.modified;
    demand(told.is_some_and(|told| told.at == then), "the time that the server tells")
}

fn cut(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    server.put("big", vec![7; 20_000_000]);
    for _ in 0..3 {
        client.on(|session| {
            let mut download = session.retrieve(&path("/big"), 0)?;
            let read = download.read(&mut [0; 1000]);
            if read.is_ok() {
                download.abandon();
            }
            read
        })?;
        demand(client.on(|session| read(session, &path("/file"), 0))? == content(), "the next file")?;
    }
    Ok(())
}

fn delete(client: &mut Client, server: &Server) -> Result<(), Trouble> {
    client.on(|session| session.delete(&path("/file")))?;
    demand(!server.root().join("file").exists(), "that the file is gone")?;
    demand(client.on(|session| session.delete(&path("/file"))).is_err(), "that it cannot go twice")
}

/// What a server has no way to do.
fn lacks(kind: Kind) -> &'static [&'static str] {
    match kind {
        // "451 Append/Restart not permitted", unless its owner allows it; appended files are then stored as a whole.
        Kind::Proftpd => &["append"],
        Kind::Twisted => &["append", "times"],
        Kind::Inetutils | Kind::LinuxFtpd | Kind::Aioftp | Kind::Libunftp | Kind::FtpSrv => &["times"],
        Kind::Vsftpd | Kind::PureFtpd | Kind::Pyftpdlib => &[],
    }
}

/// Why a server cannot do a whole cell; none when it can.
fn cannot(cell: &Cell) -> Option<&'static str> {
    use Protection::{Implicit, Plain};
    match (cell.kind, cell.protection) {
        (Kind::Inetutils | Kind::LinuxFtpd | Kind::Twisted, protection) if protection != Plain => {
            Some("no TLS")
        }
        (Kind::PureFtpd | Kind::Libunftp, Implicit) => Some("no implicit TLS"),
        (Kind::Libunftp, Protection::Tls13) => Some("no TLS 1.3"),
        (Kind::Aioftp, Protection::Tls12 | Protection::Tls13) => Some("no AUTH TLS"),
        (Kind::Aioftp, _) if cell.data == DataMode::Active => Some("no PORT"),
        (Kind::Libunftp, _) if cell.data == DataMode::Active && cell.ipv6 => Some("no EPRT"),
        _ => None,
    }
}

/// One row of the table.
#[derive(Clone, Copy)]
struct Cell {
    kind: Kind,
    protection: Protection,
    data: DataMode,
    ipv6: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Plain,
    Tls12,
    Tls13,
    Implicit,
}

impl Protection {
    const ALL: [Self; 4] = [Self::Plain, Self::Tls12, Self::Tls13, Self::Implicit];
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protection = match self.protection {
            Protection::Plain => "plain",
            Protection::Tls12 => "TLS 1.2",
            Protection::Tls13 => "TLS 1.3",
            Protection::Implicit => "implicit",
        };
        let data = if self.data == DataMode::Active { "active" } else { "passive" };
        let line = format!("{:?} {protection} {data} {}", self.kind, if self.ipv6 { "IPv6" } else { "IPv4" });
        f.pad(&line)
    }
}

impl Cell {
    fn start(&self) -> Result<Server, String> {
        let tls = match self.protection {
            Protection::Plain => Tls::Plain,
            Protection::Tls12 | Protection::Tls13 => Tls::Explicit,
            Protection::Implicit => Tls::Implicit,
        };
        Server::try_start(self.kind, &Options { tls, ipv6: self.ipv6, ..Options::default() })
    }

    /// The row of this cell, and what is wrong in it.
    fn check(&self) -> (String, Vec<String>) {
        let mut row = format!("{self:<36}");
        let mut wrong = Vec::new();
        if let Some(why) = cannot(self) {
            return (row + why, wrong);
        }
        let server = match self.start() {
            Ok(server) => server,
            Err(why) => {
                // ftp-srv is the one that CI does not have, see `Kind::cannot_be_started`.
                if Kind::MAIN.contains(&self.kind) || in_ci() && self.kind != Kind::FtpSrv {
                    wrong.push(format!("{self}: {why}"));
                }
                return (row + "cannot be started here", wrong);
            }
        };
        let mut client = Client::new(self, &server);
        for operation in OPERATIONS {
            let expected = !lacks(self.kind).contains(&operation.name);
            let sign = match (operation.check)(&mut client, &server) {
                Ok(()) if expected => "yes",
                Ok(()) => {
                    wrong.push(format!("{self}: {} works although it is said not to", operation.name));
                    "YES?"
                }
                Err(Trouble::Lacks) if !expected => "-",
                Err(Trouble::Lacks) => {
                    wrong.push(format!("{self}: {} is not supported", operation.name));
                    "LACKS?"
                }
                Err(Trouble::Other(why)) => {
                    wrong.push(format!("{self}: {}: {why}", operation.name));
                    "FAILS"
                }
            };
            let _ = write!(row, "{sign:<8}");
        }
        let sessions = client.features.counters().read().sessions;
        let _ = write!(row, "{sessions:>8} {:>5}", client.again);
        (row, wrong)
    }
}

/// One session at a time, and a new one when it breaks: as `connection` does for a mount.
struct Client {
    config: Arc<Config>,
    features: Features,
    session: Option<Session>,
    /// Operations that were tried again.
    again: u32,
}

impl Client {
    fn new(cell: &Cell, server: &Server) -> Self {
        let host = if cell.ipv6 { "::1" } else { "127.0.0.1" };
        let mut config = Config::new(host, server.user(), Secret::new(server.password()));
        config.port = server.port();
        config.timeout = Duration::from_secs(30);
        config.data.mode = cell.data;
        config.tls.mode = match cell.protection {
            Protection::Plain => TlsMode::Off,
            Protection::Tls12 | Protection::Tls13 => TlsMode::Explicit,
            Protection::Implicit => TlsMode::Implicit,
        };
        config.tls.version = match cell.protection {
            Protection::Tls12 => Some(TlsVersion::V12),
            Protection::Tls13 => Some(TlsVersion::V13),
            _ => None,
        };
        config.tls.ca = fetch::certificate().ok().map(|(certificate, _)| certificate);
        config.tls.name = Some("localhost".to_owned());
        Self { config: Arc::new(config), features: Features::new(), session: None, again: 0 }
    }

    fn on<T>(&mut self, mut operation: impl FnMut(&mut Session) -> Result<T, Error>) -> Result<T, Error> {
        for attempt in 0.. {
            if self.session.as_mut().is_some_and(|session| !session.is_alive()) {
                self.session = None;
            }
            let result = match &mut self.session {
                Some(session) => operation(session),
                None => Session::open(&self.config, &self.features)
                    .and_then(|session| operation(self.session.insert(session))),
            };
            match result {
                Err(error) if error.is_transient() && attempt < 2 => {
                    log::debug!("{error}: once more");
                    self.again += 1;
                }
                result => return result,
            }
        }
        unreachable!("the loop returns")
    }
}

/// Does all cells, a few at a time, and prints the table.
fn check(cells: &[Cell]) {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(vec![None; cells.len()]);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((index, cell)) = {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    cells.get(index).map(|cell| (index, cell))
                } {
                    let row = cell.check();
                    rows.lock().unwrap()[index] = Some(row);
                }
            });
        }
    });
    let mut table = format!("{:<36}", "");
    for operation in OPERATIONS {
        let _ = write!(table, "{:<8}", operation.name);
    }
    table += "sessions again\n";
    let mut wrong = Vec::new();
    for (row, found) in rows.into_inner().unwrap().into_iter().flatten() {
        table += row.trim_end();
        table.push('\n');
        wrong.extend(found);
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All servers, or those that FTPFS_SERVERS names.
fn kinds() -> Vec<Kind> {
    let all = Kind::MAIN.into_iter().chain(Kind::OTHERS);
    let Ok(wanted) = std::env::var("FTPFS_SERVERS") else { return all.collect() };
    all.filter(|kind| wanted.split(',').any(|name| name.eq_ignore_ascii_case(&format!("{kind:?}")))).collect()
}

fn content() -> &'static [u8] {
    static CONTENT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    CONTENT.get_or_init(|| (0..SIZE).map(|n| (n * 31 % 251) as u8).collect())
}

fn demand(is_so: bool, what: &str) -> Result<(), Trouble> {
    if is_so { Ok(()) } else { Err(Trouble::Other(format!("{what}: not as expected"))) }
}

/// Some TLS records and some socket buffers.
const SIZE: usize = 100_000;
/// Servers and their clients mostly wait for one another.
const AT_A_TIME: usize = 4;
