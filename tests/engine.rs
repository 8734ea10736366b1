//! The FTP engine itself, without a mount: what cannot be seen through files. Sessions that stay usable after a cut, round
//! trips by count, TLS as each server demands it, every way of making data connections.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::sync::Arc;

use ftpfs::ftp::config::{DataMode, PasvAddress, Secret, TlsMode};
use ftpfs::ftp::{After, Config, Error, Features, How, Session};
use harness::patience::eventually;
use harness::servers::{Kind, Options, Server, Tls};
use harness::session::{path, read};
use harness::{Target, fetch};

#[test]
fn a_transfer_on_a_ready_connection_is_one_batch_of_commands() {
    for_each(&Options::default(), |server| {
        let features = Features::new();
        let mut session = Session::open(&config(server), &features).unwrap();
        assert_eq!(features.counters().read().batches, 1, "a login is one batch");
        session.store(&path("/f"), How::Replace, &mut &b"0123456789"[..], &After::default()).unwrap();
        for offset in [0, 7] {
            session.make_ready().unwrap();
            let before = features.counters().read();
            assert_eq!(read(&mut session, &path("/f"), offset).unwrap(), b"0123456789"[offset as usize..]);
            let after = features.counters().read();
            // vsftpd is asked for the next port when the data has ended: then it need not be asked later.
            let behind = u64::from(server.kind() == Kind::Vsftpd);
            assert_eq!(after.batches - before.batches, 1 + behind);
            assert_eq!(after.data_connections - before.data_connections, behind);
            session.make_ready().unwrap();
            let ready = features.counters().read();
            assert_eq!(ready.batches - before.batches, 2, "the transfer, and the next port");
            assert_eq!(ready.data_connections - before.data_connections, 1);
        }
        session.make_ready().unwrap();
        let before = features.counters().read();
        let stored = session.store(&path("/g"), How::Replace, &mut &b"abc"[..], &After::default()).unwrap();
        assert_eq!((stored.sent, stored.size), (3, Some(3)));
        let batches = features.counters().read().batches - before.batches;
        let allowed = if matches!(server.kind(), Kind::Vsftpd | Kind::Proftpd) { 1 } else { 2 };
        assert_eq!(batches, allowed);
    });
}

#[test]
fn a_cut_download_leaves_the_session_usable_in_the_clear_and_inside_tls() {
    for tls in [Tls::Plain, Tls::Explicit] {
        for_each(&Options { tls, ..Options::default() }, |server| {
            let content = vec![7; 20_000_000];
            server.put("big", &content);
            let features = Features::new();
            let mut session =
                Session::open(&config_with(server, |config| protect(config, tls)), &features).unwrap();
            for offset in [0, 1_000_000] {
                let mut download = session.retrieve(&path("/big"), offset).unwrap();
                assert!(download.read(&mut [0; 1000]).unwrap() > 0);
                download.abandon();
                assert!(session.is_alive(), "{tls:?}");
                assert_eq!(read(&mut session, &path("/big"), 19_999_990).unwrap(), [7; 10]);
            }
            assert_eq!(features.counters().read().sessions, 1);
        });
    }
}

#[test]
fn tls_carries_every_byte_both_ways_on_one_session() {
    for tls in [Tls::Explicit, Tls::Implicit] {
        for_each(&Options { tls, ..Options::default() }, |server| {
            // Each resumes the control connection's session each time.
            let features = Features::new();
            let mut session =
                Session::open(&config_with(server, |config| protect(config, tls)), &features).unwrap();
            let content: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
            for length in [content.len(), 0, 1, 5000, 100_000, content.len()] {
                let body = &content[..length];
                let stored =
                    session.store(&path("/f"), How::Replace, &mut &*body, &After::default()).unwrap();
                assert_eq!(stored.size, Some(length as u64));
                assert!(server.read("f") == body);
                assert!(read(&mut session, &path("/f"), 0).unwrap() == body);
                assert!(
                    session
                        .list(&path("/"))
                        .unwrap()
                        .entries
                        .iter()
                        .any(|entry| entry.name.as_bytes() == b"f")
                );
            }
            assert!(matches!(read(&mut session, &path("/none"), 0), Err(Error::Refused { .. })));
            assert_eq!(features.counters().read().sessions, 1);
        });
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_its_digest_told() {
    let Some(server) =
        Server::start_with(Kind::Vsftpd, &Options { tls: Tls::Explicit, ..Options::default() })
    else {
        return;
    };
    let explicit = |change: fn(&mut Config)| {
        let config = config_with(&server, |config| {
            config.tls.mode = TlsMode::Explicit;
            change(config);
        });
        open_where_one_may_be_counted(&config)
    };
    let Err(Error::Tls { text }) = explicit(|_| {}) else { panic!("a self-signed certificate was trusted") };
    let digest = text.rsplit(' ').next().unwrap();
    assert_eq!(digest.len(), 64, "{text}");
    assert!(matches!(explicit(|config| config.tls.pin = Some([1; 32])), Err(Error::Tls { .. })));
    assert!(explicit(|config| config.tls.verify = false).is_ok());
    let pin: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap()).collect();
    let config = config_with(&server, |config| {
        config.tls.mode = TlsMode::Explicit;
        config.tls.pin = Some(pin.try_into().unwrap());
    });
    assert!(open_where_one_may_be_counted(&config).is_ok());
    let wrong_name = config_with(&server, |config| {
        protect(config, Tls::Explicit);
        config.tls.name = Some("elsewhere.invalid".to_owned());
    });
    assert!(matches!(open_where_one_may_be_counted(&wrong_name), Err(Error::Tls { .. })));
}

#[test]
fn data_connections_are_made_in_every_way() {
    for_each(&Options::default(), |server| {
        for (mode, address) in [
            (DataMode::Active, PasvAddress::Control),
            (DataMode::Passive, PasvAddress::Reply),
            (DataMode::Passive, PasvAddress::Control),
        ] {
            let config = config_with(server, |config| {
                config.data.mode = mode;
                config.data.pasv_address = address;
            });
            let mut session = open_when_there_is_room(&config);
            for _ in 0..3 {
                session.store(&path("/f"), How::Replace, &mut &b"0123456789"[..], &After::default()).unwrap();
                assert_eq!(read(&mut session, &path("/f"), 4).unwrap(), b"456789", "{mode:?}");
            }
        }
    });
}

#[test]
fn a_wrong_password_is_told_from_a_full_server() {
    for_each(&Options { max_sessions: Some(1), ..Options::default() }, |server| {
        let wrong = config_with(server, |config| config.password = Secret::new("wrong"));
        assert!(matches!(Session::open(&wrong, &Features::new()), Err(Error::Login { .. })));
        let first = open_when_there_is_room(&config(server));
        let result = Session::open(&config(server), &Features::new());
        assert!(matches!(result, Err(Error::TooManySessions { .. })), "{:?}", result.err());
        drop(first);
    });
}

fn open_when_there_is_room(config: &Arc<Config>) -> Session {
    open_where_one_may_be_counted(config).unwrap_or_else(|error| panic!("{error}"))
}

/// The server may still be counting a session that has just ended: what it says of the next one when it does not.
fn open_where_one_may_be_counted(config: &Arc<Config>) -> Result<Session, Error> {
    let mut outcome = None;
    eventually("a place", || {
        let opened = Session::open(config, &Features::new());
        let is_full = matches!(opened, Err(Error::TooManySessions { .. }));
        outcome = Some(opened);
        !is_full
    });
    outcome.expect("there was a place")
}

fn for_each(options: &Options, check: impl Fn(&Server)) {
    for kind in Kind::MAIN {
        match Server::try_start(kind, options) {
            Ok(server) => {
                eprintln!("{kind:?}");
                check(&server);
            }
            // Debian's has none.
            Err(why) if (kind, options.tls) == (Kind::PureFtpd, Tls::Implicit) => {
                eprintln!("{kind:?} without: {why}");
            }
            Err(why) => kind.cannot_be_started(&why),
        }
    }
}

fn config(server: &Server) -> Arc<Config> {
    config_with(server, |_| {})
}

fn config_with(server: &Server, change: impl FnOnce(&mut Config)) -> Arc<Config> {
    let mut config = Config::new("127.0.0.1", server.user(), Secret::new(server.password()));
    config.port = server.port();
    change(&mut config);
    Arc::new(config)
}

fn protect(config: &mut Config, tls: Tls) {
    config.tls.mode = match tls {
        Tls::Plain => TlsMode::Off,
        Tls::Explicit => TlsMode::Explicit,
        Tls::Implicit => TlsMode::Implicit,
    };
    config.tls.ca = fetch::certificate().ok().map(|(certificate, _)| certificate);
}
