//! Networks that FTP does not like: NAT that gives away the wrong address, firewalls that drop data connections of one kind or
//! of every kind. Either it works all the same, or the user is told what is wrong, in bounded time.
//!
//! A small network stands in for them: a client, a router and a server, each a thread in a network namespace of its own (they go
//! with their threads). The router forgets packets by port, as firewalls do: nobody is told. It takes root and `ip`.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddrV6, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ftpfs::ftp::config::{DataMode, PasvAddress, Secret};
use ftpfs::ftp::{After, Config, Error, Features, How, Session};
use harness::network::{Host, Lab, SERVER};
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server};
use harness::session::{path, read};

#[test]
fn an_address_behind_nat_in_the_reply_to_pasv_does_no_harm() {
    for address in [[192, 168, 99, 99], [0, 0, 0, 0], [8, 8, 8, 8], [127, 0, 0, 1]] {
        let Some(net) = Net::new(&["EPSV"]) else { return };
        net.serve(move |server| server.faults().add(Rule::on("PASV").act(Fault::Address(address))));
        net.client(waiting_for_no_dead_port(|config| reads_and_writes(config, &Features::new()))).unwrap();
    }
}

#[test]
fn the_address_in_the_reply_is_tried_when_that_is_asked_for_and_other_ways_after_it() {
    let Some(net) = Net::new(&[]) else { return };
    // The server's own; one that cannot be reached from here, after which other ways are tried; and one that is no address.
    for address in [[10, 2, 0, 2], [8, 8, 8, 8], [0, 0, 0, 0]] {
        net.serve(move |server| {
            server.faults().clear();
            server.faults().add(Rule::on("PASV").act(Fault::Address(address)));
        });
        net.client(|mut config| {
            config.data.pasv_address = PasvAddress::Reply;
            reads_and_writes(config, &Features::new())
        })
        .unwrap();
    }
}

#[test]
fn where_passive_ports_are_dropped_the_server_connects_to_us_and_only_the_first_transfer_pays() {
    let Some(net) = Net::new(&[]) else { return };
    net.drop_passive("blackhole");
    let running = net.running.clone();
    net.client(move |config| {
        let features = Features::new();
        reads_and_writes(config.clone(), &features)?;
        let (before, passive) = (features.counters().read(), asked_for(&running, &["EPSV", "PASV"]));
        assert!(passive > 0);
        reads_and_writes(config, &features)?;
        assert_eq!(asked_for(&running, &["EPSV", "PASV"]), passive, "what works is remembered");
        assert_eq!(features.counters().read().sessions - before.sessions, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn where_passive_ports_are_rejected_nothing_is_waited_for() {
    let Some(net) = Net::new(&[]) else { return };
    net.drop_passive("unreachable");
    net.client(waiting_for_no_dead_port(|config| reads_and_writes(config, &Features::new()))).unwrap();
}

#[test]
fn where_active_ports_are_dropped_passive_works_and_active_says_why_not() {
    let Some(net) = Net::new(&[]) else { return };
    net.drop_active();
    net.client(|config| reads_and_writes(config, &Features::new())).unwrap();
    let started = Instant::now();
    let error = net
        .client(|mut config| {
            config.data.mode = DataMode::Active;
            reads_and_writes(config, &Features::new())
        })
        .unwrap_err();
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert!(error.to_string().contains("firewall"), "{error}");
}

#[test]
fn where_all_data_connections_are_dropped_folders_are_still_shown_and_files_say_why_not() {
    let Some(net) = Net::new(&[]) else { return };
    net.drop_passive("blackhole");
    net.drop_active();
    let started = Instant::now();
    let running = net.running.clone();
    net.client(move |config| {
        let features = Features::new();
        let mut session = Session::open_proven(&Arc::new(config), &features)?;
        assert!(features.data_is_blocked());
        let listing = session.list(&path("/folder with blanks"))?;
        assert_eq!(listing.entries.len(), 1);
        assert_eq!(listing.entries[0].size, Some(5));
        assert!(session.list(&path("/none")).is_err());
        let transfers = ["EPSV", "PASV", "EPRT", "PORT", "RETR"];
        let before = asked_for(&running, &transfers);
        let error = read(&mut session, &path("/file"), 0).unwrap_err();
        assert!(error.to_string().contains("firewall"), "{error}");
        assert_eq!(asked_for(&running, &transfers), before, "it is known by then");
        Ok(())
    })
    .unwrap();
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
}

#[test]
fn without_stat_a_server_behind_such_a_firewall_is_refused_with_the_reason() {
    let Some(net) = Net::new(&["STAT"]) else { return };
    net.drop_passive("blackhole");
    net.drop_active();
    let started = Instant::now();
    let error =
        net.client(|config| Session::open_proven(&Arc::new(config), &Features::new()).map(drop)).unwrap_err();
    assert!(error.to_string().contains("firewall"), "{error}");
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
}

#[test]
fn a_link_local_address_is_good_for_data_connections_too() {
    let host = match Host::new() {
        Ok(host) => host,
        Err(why) => return eprintln!("SKIPPED: no network of namespaces can be had here: {why}"),
    };
    host.ip("link set lo up").unwrap();
    host.ip("addr add fe80::1/64 dev lo nodad").unwrap();
    host.run(|| {
        let listener = TcpListener::bind(link_local(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        eventually("the way to the address", || TcpStream::connect(link_local(port)).is_ok());
        // They end with their sessions, and the last with the test.
        std::thread::spawn(move || {
            for session in listener.incoming() {
                std::thread::spawn(move || serve_one_file(session.unwrap()));
            }
        });
        for mode in [DataMode::Passive, DataMode::Active] {
            let mut config = Config::new("fe80::1%lo", "guest", Secret::new("guest"));
            config.port = port;
            config.data.mode = mode;
            let mut session = Session::open(&Arc::new(config), &Features::new()).unwrap();
            assert_eq!(read(&mut session, &path("/file"), 0).unwrap(), b"hello", "{mode:?}");
        }
    });
}

/// The scripted server knows IPv4 alone: this one knows what a download takes.
fn serve_one_file(session: TcpStream) {
    let say = |text: &str| (&session).write_all(format!("{text}\r\n").as_bytes()).unwrap();
    say("220 Ready.");
    let mut passive = None;
    let mut active = None;
    for line in BufReader::new(&session).lines().map_while(Result::ok) {
        match line.split(' ').next().unwrap() {
            "USER" => say("331 The password?"),
            "PASS" => say("230 Welcome."),
            "TYPE" => say("200 As always."),
            "CWD" => say("250 There."),
            "PWD" => say("257 \"/\""),
            "EPSV" => {
                let listener = TcpListener::bind(link_local(0)).unwrap();
                say(&format!("229 Ok (|||{}|)", listener.local_addr().unwrap().port()));
                passive = Some(listener);
            }
            "EPRT" => {
                let port = line.split('|').nth(3).unwrap().parse().unwrap();
                active = Some(link_local(port));
                say("200 Ok.");
            }
            "RETR" => {
                say("150 Here it is.");
                let mut data = match (passive.take(), active.take()) {
                    (Some(listener), _) => listener.accept().unwrap().0,
                    (None, address) => TcpStream::connect(address.unwrap()).unwrap(),
                };
                data.write_all(b"hello").unwrap();
                drop(data);
                say("226 That was it.");
            }
            _ => say("500 What?"),
        }
    }
}

/// On the loopback device, whose number is 1 in every network.
fn link_local(port: u16) -> SocketAddrV6 {
    SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, 1)
}

fn reads_and_writes(config: Config, features: &Features) -> Result<(), Error> {
    let mut session = Session::open_proven(&Arc::new(config), features)?;
    assert_eq!(session.list(&path("/"))?.entries.len(), 2);
    let body = vec![7; 300_000];
    session.store(&path("/file"), How::Replace, &mut &*body, &After::default())?;
    assert!(read(&mut session, &path("/file"), 0)? == body);
    Ok(())
}

/// A wait for a port that never answers would alone take longer than all of it may.
fn waiting_for_no_dead_port<T>(
    action: impl FnOnce(Config) -> Result<T, Error> + Send + 'static,
) -> impl FnOnce(Config) -> Result<T, Error> + Send + 'static {
    move |mut config| {
        config.connect_timeout = Duration::from_secs(20);
        let (started, wait) = (Instant::now(), config.connect_timeout);
        let outcome = action(config);
        assert!(started.elapsed() < wait, "something was waited for: {:?}", started.elapsed());
        outcome
    }
}

/// How often the server was asked for one of these.
fn asked_for(running: &parking_lot::Mutex<Option<Server>>, verbs: &[&str]) -> u64 {
    let running = running.lock();
    let counters = running.as_ref().unwrap().counters();
    verbs.iter().map(|verb| counters.of(verb)).sum()
}

/// A network with the scripted server at its far end, which lacks the commands `without`.
struct Net {
    lab: Lab,
    /// It ends on the server's thread.
    running: Arc<parking_lot::Mutex<Option<Server>>>,
    port: u16,
    _served: Scratch,
}

impl Net {
    /// None as in [`Lab::new`].
    fn new(without: &[&'static str]) -> Option<Self> {
        // Its own ports of passive connections are not among those of active ones.
        let lab = Lab::new(OWN)?;
        let served = Scratch::new("nat");
        std::fs::create_dir(served.path().join("folder with blanks")).unwrap();
        std::fs::write(served.path().join("folder with blanks/inside"), "hello").unwrap();
        std::fs::write(served.path().join("file"), "x").unwrap();
        let root = served.path().to_path_buf();
        let options = Options { address: SERVER, without: without.to_vec(), ..Options::default() };
        let running = lab.server.run(move || Server::start_with(&root, options)).unwrap();
        let port = running.port();
        let running = Arc::new(parking_lot::Mutex::new(Some(running)));
        Some(Self { lab, running, port, _served: served })
    }

    /// Does something on the client's machine.
    fn client<T: Send + 'static>(
        &self,
        action: impl FnOnce(Config) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut config = Config::new(SERVER.to_string(), "guest", Secret::new("guest"));
        config.port = self.port;
        config.connect_timeout = Duration::from_secs(2);
        config.timeout = Duration::from_secs(20);
        config.data.active_ports = Some(ACTIVE.0..=ACTIVE.1);
        self.lab.client.run(move || action(config))
    }

    fn serve(&self, action: impl FnOnce(&Server) + Send + 'static) {
        let running = self.running.clone();
        self.lab.server.run(move || action(running.lock().as_ref().unwrap()));
    }

    /// No connection of the client's gets to the server but those to its control port.
    fn drop_passive(&self, how: &str) {
        for (from, to) in [(1, self.port - 1), (self.port + 1, u16::MAX - 1)] {
            let ports = format!("sport {}-{} dport {from}-{to}", OWN.0, OWN.1);
            self.lab.router.ip(&format!("rule add iif toclient ipproto tcp {ports} {how}")).unwrap();
        }
    }

    /// The client's ports for active connections cannot be reached.
    fn drop_active(&self) {
        let (from, to) = ACTIVE;
        self.lab
            .router
            .ip(&format!("rule add iif toserver ipproto tcp dport {from}-{to} blackhole"))
            .unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Its end is a connection to itself, which only works over there.
        let running = self.running.clone();
        self.lab.server.run(move || drop(running.lock().take()));
    }
}

/// The client's ports: of its own connections, and of those that it waits for.
const OWN: (u16, u16) = (33_000, 48_000);
const ACTIVE: (u16, u16) = (50_000, 50_100);
/// Of the whole search for a way: EPSV, PASV and active, 2 s each here (8, 8 and 15 s by default).
const BOUND: Duration = Duration::from_secs(15);
