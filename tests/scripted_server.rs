//! The scripted server keeps the rules of FTP where it is not told to break them, and breaks them where it is told to.
//! No mount takes part; curl and raw sockets are the clients.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use harness::scratch::Scratch;
use harness::scripted::{DataEnd, Fault, Options, Rule, Server, Then};
use harness::{Relay, Target};

#[test]
fn files_come_and_go_byte_for_byte() {
    let (scratch, server) = server();
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(scratch.path().join("big"), &content).unwrap();
    assert_eq!(succeeds(curl(&server, "big", &[])).stdout, content);
    assert_eq!(succeeds(curl(&server, "big", &["--continue-at", "1000000"])).stdout, content[1_000_000..]);
    assert_eq!(succeeds(curl(&server, "big", &["--ftp-port", "127.0.0.1"])).stdout, content);

    let source = Scratch::new("source");
    fs::write(source.path().join("new"), "first\n").unwrap();
    let upload = source.path().join("new").display().to_string();
    succeeds(curl(&server, "new", &["--upload-file", &upload]));
    succeeds(curl(&server, "new", &["--append", "--upload-file", &upload]));
    assert_eq!(fs::read(scratch.path().join("new")).unwrap(), b"first\nfirst\n");
}

#[test]
fn listings_name_everything_and_hide_what_is_hidden() {
    let (scratch, server) = server();
    fs::create_dir(scratch.path().join("folder")).unwrap();
    fs::write(scratch.path().join("a file "), "12345").unwrap();
    fs::write(scratch.path().join(".hidden"), "").unwrap();
    let list = String::from_utf8(succeeds(curl(&server, "", &[])).stdout).unwrap();
    assert!(list.lines().any(|line| line.starts_with('d') && line.ends_with(" folder")), "{list}");
    assert!(list.lines().any(|line| line.contains(" 5 ") && line.ends_with(" a file ")), "{list}");
    assert!(!list.contains("hidden"), "{list}");
    let list = String::from_utf8(succeeds(curl(&server, "", &["--request", "LIST -a"])).stdout).unwrap();
    assert!(list.contains(" .hidden"), "{list}");
    let facts = String::from_utf8(succeeds(curl(&server, "", &["--request", "MLSD"])).stdout).unwrap();
    assert!(facts.contains("type=file;size=5;") && facts.contains("; .hidden"), "{facts}");
}

#[test]
fn names_times_and_modes_can_be_changed() {
    let (scratch, server) = server();
    fs::write(scratch.path().join("old"), "text").unwrap();
    let mut session = Session::login(&server);
    assert!(session.ask("RNFR old").starts_with("350"));
    assert!(session.ask("RNTO new").starts_with("250"));
    assert!(session.ask("MFMT 20010203040506 new").starts_with("213"));
    assert!(session.ask("MDTM new").starts_with("213 20010203040506"));
    assert!(session.ask("SITE CHMOD 600 new").starts_with("200"));
    assert!(session.ask("MLST new").contains("modify=20010203040506;UNIX.mode=0600;"));
    assert!(session.ask("MKD a \"quoted\" name").starts_with("257 \"/a \"\"quoted\"\" name\""));
    assert!(session.ask("RMD a \"quoted\" name").starts_with("250"));
    assert!(session.ask("DELE new").starts_with("250"));
    assert!(session.ask("DELE new").starts_with("550"));
}

#[test]
fn nothing_outside_the_folder_can_be_reached() {
    let (scratch, server) = server();
    fs::write(scratch.path().join("inside"), "").unwrap();
    std::os::unix::fs::symlink("/etc", scratch.path().join("link")).unwrap();
    let mut session = Session::login(&server);
    assert!(session.ask("SIZE ../../../../inside").starts_with("213 0"));
    assert!(session.ask("SIZE /../etc/passwd").starts_with("550"));
    assert!(session.ask("SIZE link/passwd").starts_with("550"));
    assert!(session.ask("CWD link").starts_with("550"));
    assert!(session.ask("PORT 10,0,0,1,4,5").starts_with("501"));
}

#[test]
fn faults_strike_where_and_as_often_as_told() {
    let (scratch, server) = server();
    fs::write(scratch.path().join("one"), vec![7; 100_000]).unwrap();
    fs::write(scratch.path().join("two"), vec![7; 100_000]).unwrap();
    let short = Fault::Data { after: 1000, end: DataEnd::Closed, then: Then::Reply("226 Done.".into()) };
    server.faults().add(Rule::on("RETR").path("two").after(1).once().act(short));
    let size = |name: &str| curl(&server, name, &["--ignore-content-length"]).stdout.len();
    assert_eq!((size("one"), size("two")), (100_000, 100_000));
    assert_eq!((size("one"), size("two")), (100_000, 1000));
    assert_eq!((size("one"), size("two")), (100_000, 100_000));

    server.faults().add(Rule::on("PWD").once().act(Fault::Reply("451 Not today.".into())));
    let mut session = Session::login(&server);
    assert!(session.ask("PWD").starts_with("451"));
    assert!(session.ask("PWD").starts_with("257 \"/\""));
    server.faults().add(Rule::on("NOOP").act(Fault::Close));
    assert_eq!(session.ask("NOOP"), "");
}

#[test]
fn sessions_are_limited_counted_and_ended_when_idle() {
    let scratch = Scratch::new("served");
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 1, ..Options::default() }).unwrap();
    let _first = Session::login(&server);
    assert!(Session::connect(&server).reply().starts_with("421"));
    assert_eq!((server.counters().now().sessions, server.counters().now().refused), (1, 1));
    assert_eq!(server.counters().of("PASS"), 1);

    // A server of its own: on a busy machine so short a time may be over before a second client has come.
    let options = Options { idle: Duration::from_millis(300), ..Options::default() };
    let server = Server::start_with(scratch.path(), options).unwrap();
    let mut idle = Session::connect(&server);
    assert!(idle.reply().starts_with("220"));
    assert!(idle.reply().starts_with("421"));
    assert_eq!(idle.reply(), "");
}

#[test]
fn a_relay_counts_delays_and_breaks_what_goes_over_it() {
    let (scratch, server) = server();
    fs::write(scratch.path().join("file"), vec![7; 1_000_000]).unwrap();
    let relay = Relay::new(&server);
    let port = split_port(&relay.url());
    assert_eq!(succeeds(curl_at(port, "file", &[])).stdout.len(), 1_000_000);
    assert_eq!(succeeds(curl_at(port, "file", &["--disable-epsv"])).stdout.len(), 1_000_000);
    let traffic = relay.traffic();
    assert_eq!((traffic.control_connections, traffic.data_connections), (2, 2));
    assert!(traffic.bytes_down > 2_000_000 && traffic.bytes_up < 1000, "{traffic:?}");
    // curl waits for each reply: USER PASS PWD EPSV TYPE SIZE RETR QUIT, and the like for PASV.
    assert_eq!(traffic.turns, traffic.commands, "{traffic:?}");
    assert!((14..=20).contains(&traffic.commands), "{traffic:?}");

    relay.reset();
    relay.delay(Duration::from_millis(30));
    let start = std::time::Instant::now();
    succeeds(curl_at(port, "file", &[]));
    let turns = u32::try_from(relay.traffic().turns).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60) * turns, "{turns} in {:?}", start.elapsed());
    relay.delay(Duration::ZERO);

    let mut session = Session::at(port);
    assert!(session.reply().starts_with("220"));
    relay.black_hole();
    session.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(session.ask("NOOP"), "");
    session.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    relay.heal();
    assert!(session.reply().starts_with("200"));
    relay.cut();
    assert!(session.0.read(&mut [0; 10]).is_err(), "a reset, not a clean end");
}

fn split_port(url: &str) -> u16 {
    url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
}

fn server() -> (Scratch, Server) {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    (scratch, server)
}

fn curl(server: &Server, path: &str, more: &[&str]) -> Output {
    curl_at(server.port(), path, more)
}

fn curl_at(port: u16, path: &str, more: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--user", "guest:guest"]).args(more);
    command.arg(format!("ftp://127.0.0.1:{port}/{path}")).output().unwrap()
}

#[track_caller]
fn succeeds(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A control connection.
struct Session(TcpStream);

impl Session {
    fn connect(server: &Server) -> Self {
        Self::at(server.port())
    }

    fn at(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn login(server: &Server) -> Self {
        let mut session = Self::connect(server);
        assert!(session.reply().starts_with("220"));
        assert!(session.ask("USER guest").starts_with("331"));
        assert!(session.ask("PASS guest").starts_with("230"));
        session
    }

    fn ask(&mut self, command: &str) -> String {
        self.0.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// Every reply is one segment; empty at the end of the connection.
    fn reply(&mut self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}
