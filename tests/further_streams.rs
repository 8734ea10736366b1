//! Several streams for one file: begun where each connection gets only so much, given up where the line is all there is, and
//! never at the price of others. Connections, transfers and bytes are counted, never timed.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use harness::files::date;
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{self, Server};
use harness::{Kind, Mount, Options, Relay, fetch, shell};

#[test]
fn where_each_connection_gets_only_so_much_a_file_comes_over_several() {
    let at = Place::new(&[], SIZE, |options| options.rate_of_each = Some(RATE));
    at.read_it_all();
    let longest = at.pieces().into_iter().max().unwrap();
    assert!(at.offsets().len() >= 3, "{:?}", at.offsets());
    assert!(longest <= SIZE / 2, "no stream brings most of it: {:?}", at.pieces());
    assert!(at.sent() <= SIZE * 11 / 10, "{} bytes for {SIZE}", at.sent());
    let peak = at.mount.peak_memory() >> 10;
    assert!(peak <= 64 + 64, "{peak} MiB");
}

#[test]
fn several_streams_of_one_file_come_inside_tls_as_well() {
    let (certificate, key) = fetch::certificate().unwrap();
    let authority = format!("cacert={}", certificate.display());
    let at = Place::new(&[&authority], SIZE, |options| {
        options.rate_of_each = Some(RATE);
        options.tls = Some((certificate, key));
    });
    at.read_it_all();
    let longest = at.pieces().into_iter().max().unwrap();
    assert!(at.offsets().len() >= 3, "{:?}", at.offsets());
    assert!(longest <= SIZE / 2, "no stream brings most of it: {:?}", at.pieces());
    assert!(at.sent() <= SIZE * 11 / 10, "{} bytes for {SIZE}", at.sent());
    // Each ends in a way that leaves its session usable: nobody logs in more often than there are connections.
    assert!(at.server.counters().of("PASS") <= 8, "{:?}", at.server.counters().now().commands);
}

#[test]
fn what_several_streams_have_brought_is_on_the_disk_after_a_remount() {
    let cache = Scratch::new("cache");
    let option = format!("cache_dir={}", cache.path().display());
    let mut at = Place::new(&[&option], SIZE, |options| options.rate_of_each = Some(RATE));
    at.read_it_all();
    assert!(at.offsets().len() >= 3, "{:?}", at.offsets());
    // How much a slow disk has kept is not the matter here, but that it is not asked for again.
    let kept = || {
        let told = shell::ok(cache.path(), "du -s --block-size=1");
        told.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let (mut now, mut since) = (kept(), Instant::now());
    eventually("an end of writing", || {
        if kept() != now {
            (now, since) = (kept(), Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    let kept = kept();
    assert!(kept >= SIZE / 4, "{kept} bytes of {SIZE}");
    at.mount.remount(&at.server, &[&option]);
    at.server.counters().reset();
    at.read_it_all();
    assert!(
        at.sent() + kept <= SIZE + SIZE / 4,
        "{} bytes came again, {kept} of {SIZE} were there",
        at.sent()
    );
}

#[test]
fn where_the_line_is_all_there_is_further_streams_are_given_up() {
    let at = Place::new(&[], SIZE, |options| options.rate_of_all = Some(5 * MIB));
    fs::write(at.server.root().join("other"), content(SIZE)).unwrap();
    at.read_it_all();
    // One is tried, and what it has brought is not brought again; that is remembered for the next file.
    assert!(at.offsets().len() <= 12, "{:?}", at.offsets());
    assert!(at.sent() <= SIZE * 12 / 10, "{} bytes for {SIZE}", at.sent());
    shell::ok(at.mount.path(), "cat other > /dev/null");
    let lines = at.server.counters().now().lines;
    assert_eq!(lines.iter().filter(|(_, line)| line == "RETR /other").count(), 1, "{lines:?}");
}

#[test]
fn a_metered_mount_and_one_of_two_connections_read_a_file_in_one_stream() {
    for option in ["no_prefetch", "max_conns=2"] {
        let at = Place::new(&[option], 48 * MIB, |options| options.rate_of_each = Some(5 * MIB));
        at.read_it_all();
        assert_eq!(at.server.counters().of("RETR"), 1, "{option}: {:?}", at.offsets());
    }
}

#[test]
fn a_second_reader_finds_a_connection_ready_and_further_streams_give_way_to_it() {
    let at = Place::new(&[], 2 * SIZE, |options| options.rate_of_each = Some(RATE));
    let reading = at.start_reading();
    eventually("several streams", || at.offsets().len() >= 3);
    eventually("a connection that is ready", || at.is_one_ready());
    let (before, sessions) = (at.server.counters().now().lines.len(), at.server.counters().now().sessions);
    assert_eq!(fs::read(at.mount.path().join("small")).unwrap(), b"content");
    let lines = at.server.counters().now().lines;
    let asked = lines[before..].iter().position(|(_, line)| line == "RETR /small").unwrap();
    let logins = lines[before..][..asked].iter().filter(|(_, line)| line.starts_with("USER")).count();
    assert_eq!(logins, 0, "it waits for no login: {:?}", &lines[before..]);
    assert!(at.server.counters().now().sessions <= sessions + 1);
    eventually("one stream", || at.running() == 1);
    drop(reading);
}

#[test]
fn a_seek_ends_further_streams_and_what_is_sent_in_vain_is_bounded() {
    let at = Place::new(&[], 2 * SIZE, |options| options.rate_of_each = Some(RATE));
    let reading = at.start_reading();
    eventually("several streams", || at.offsets().len() >= 3);
    drop(reading);
    let before = at.sent();
    let mut page = [0; 4096];
    let file = File::open(at.mount.path().join("big")).unwrap();
    file.read_exact_at(&mut page, at.size - 4096).unwrap();
    assert_eq!(page.as_slice(), &content(at.size)[at.size as usize - 4096..]);
    eventually("an end of all other streams", || at.running() == 0);
    // The stream that the reader had runs its window to the end, as ever; of the others hardly more than is under way.
    assert!(at.sent() <= before + 12 * MIB, "{} bytes for a page", at.sent() - before);
}

#[test]
fn real_servers_that_limit_each_session_are_read_over_several() {
    for (kind, limit) in [(Kind::Vsftpd, "local_max_rate=6000000"), (Kind::PureFtpd, "-T:6000")] {
        // Also where FTPFS_MAX_SESSIONS says one: this is about several.
        let options = Options { extra: vec![limit.into()], max_sessions: Some(8), ..Options::default() };
        let Some(server) = harness::Server::start_with(kind, &options) else { continue };
        let size = 64 * MIB;
        server.put("big", content(size));
        let relay = Relay::new(&server);
        let mount = Mount::new(&relay, &[]);
        let before = relay.traffic();
        assert!(fs::read(mount.path().join("big")).unwrap() == content(size));
        let after = relay.traffic();
        // Those that are kept ready are among them.
        let connections = after.data_connections - before.data_connections;
        assert!(connections >= 6, "{kind:?}: {connections} data connections");
        let sent = after.bytes_down - before.bytes_down;
        assert!(sent <= size * 12 / 10, "{kind:?}: {sent} bytes for {size}");
    }
}

/// A scripted server with a big file and a small one, and its mount.
struct Place {
    mount: Mount,
    server: Server,
    size: u64,
    _served: Scratch,
}

impl Place {
    fn new(mount: &[&str], size: u64, limit: impl FnOnce(&mut scripted::Options)) -> Self {
        let served = Scratch::new("served");
        fs::write(served.path().join("big"), content(size)).unwrap();
        // What may change within its second is not kept on the disk.
        date(&served.path().join("big"), 3600);
        fs::write(served.path().join("small"), "content").unwrap();
        // Small: what is in it counts as sent.
        let mut options = scripted::Options { send_buffer: Some(64 << 10), ..scripted::Options::default() };
        limit(&mut options);
        let server = Server::start_with(served.path(), options).unwrap();
        let mount = Mount::new(&server, mount);
        Self { mount, server, size, _served: served }
    }

    fn read_it_all(&self) {
        assert!(fs::read(self.mount.path().join("big")).unwrap() == content(self.size));
    }

    /// A program that reads the file until this is dropped.
    fn start_reading(&self) -> Reading {
        let child = std::process::Command::new("cat")
            .arg(self.mount.path().join("big"))
            .stdout(std::process::Stdio::null())
            .spawn();
        Reading(child.unwrap())
    }

    /// Where the transfers of the big file began.
    fn offsets(&self) -> Vec<u64> {
        let mut rests = std::collections::HashMap::new();
        let mut offsets = Vec::new();
        for (session, line) in self.server.counters().now().lines {
            if let Some(offset) = line.strip_prefix("REST ") {
                rests.insert(session, offset.parse().unwrap());
            } else if line == "RETR /big" {
                offsets.push(rests.remove(&session).unwrap_or(0));
            }
        }
        offsets
    }

    /// How much each of them had to bring, if none brought what another one did.
    fn pieces(&self) -> Vec<u64> {
        let mut offsets = self.offsets();
        offsets.push(self.size);
        offsets.sort_unstable();
        offsets.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Transfers that run.
    fn running(&self) -> u64 {
        self.server.counters().now().transfers
    }

    /// Whether a session has a port that is not in use.
    fn is_one_ready(&self) -> bool {
        let now = self.server.counters().now();
        now.commands.get("EPSV").is_some_and(|ports| *ports > now.data_connections)
    }

    /// Bytes that went into data connections.
    fn sent(&self) -> u64 {
        self.server.counters().now().bytes_sent
    }
}

/// A program that is killed when the test has seen enough.
struct Reading(std::process::Child);

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every page is another one.
fn content(size: u64) -> Vec<u8> {
    let mut content = vec![0; size as usize];
    for (number, page) in content.chunks_mut(4096).enumerate() {
        page.fill(number as u8);
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    content
}

const MIB: u64 = 1 << 20;
/// Half as much again as a file must have left for a further stream to be worth it.
const SIZE: u64 = 48 * MIB;
/// What each connection gets: little enough that a program that is not optimised takes four times as much on a busy machine.
const RATE: u64 = 2 * MIB;
