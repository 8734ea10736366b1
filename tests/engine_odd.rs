//! The FTP engine against a server that says no, or something else, at a bad moment: what it then believes, what it keeps for the
//! next transfer, and what it tells. The scripted server, without a mount.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::net::TcpListener;
use std::sync::Arc;

use ftpfs::ftp::config::{Secret, TlsMode};
use ftpfs::ftp::{After, Config, Error, Features, How, Refusal, Session, explain, replace};
use harness::fetch;
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server, Then};
use harness::session::{path, read};

#[test]
fn where_active_mode_is_refused_the_last_resort_is_reached_and_other_ways_are_tried_later() {
    let at = Served::new(Options::default());
    closed_ports(&at.server);
    refuses_active(&at.server);
    let features = Features::new();
    let mut session = Session::open_proven(&at.config(), &features).unwrap();
    assert!(features.data_is_blocked());
    assert_eq!(session.list(&path("/")).unwrap().entries.len(), 1);
    let error = read(&mut session, &path("/file"), 0).unwrap_err();
    assert!(error.to_string().contains("firewall"), "{error}");
}

#[test]
fn a_mount_whose_data_ports_were_closed_for_a_while_finds_back_although_active_mode_is_refused() {
    let at = Served::new(Options::default());
    let features = Features::new();
    let mut session = Session::open_proven(&at.config(), &features).unwrap();
    closed_ports(&at.server);
    refuses_active(&at.server);
    for _ in 0..8 {
        if !session.is_alive() {
            session = Session::open(&at.config(), &features).unwrap();
        }
        let error = read(&mut session, &path("/file"), 0).unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
    at.server.faults().clear();
    refuses_active(&at.server);
    let works = (0..4).any(|_| {
        let mut session = Session::open(&at.config(), &features).unwrap();
        read(&mut session, &path("/file"), 0).is_ok()
    });
    assert!(works);
}

#[test]
fn a_refused_port_says_nothing_about_mlsd() {
    let at = Served::new(Options::default());
    let features = Features::new();
    drop(Session::open_proven(&at.config(), &features).unwrap());
    at.server.faults().add(Rule::on("EPSV").times(2).act(Fault::Reply("502 Not now.".into())));
    let mut session = Session::open(&at.config(), &features).unwrap();
    let _ = session.list(&path("/"));
    assert!(features.has_exact_listing());
}

#[test]
fn a_ready_connection_that_was_reset_is_replaced() {
    let at = Served::greeting("220 (vsFTPd 3.0.3)");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let features = Features::new();
    drop(Session::open_proven(&at.config(), &features).unwrap());
    at.server.faults().add(
        Rule::on("EPSV").once().act(Fault::Reply(format!("229 Entering Extended Passive Mode (|||{port}|)"))),
    );
    let mut session = Session::open(&at.config(), &features).unwrap();
    session.make_ready().unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&accepted, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(accepted);
    assert_eq!(read(&mut session, &path("/file"), 0).unwrap(), b"hello");
}

#[test]
fn what_was_sent_for_a_refused_upload_never_gets_into_the_next_file() {
    for greeting in ["220 Ready", "220 (vsFTPd 3.0.3)"] {
        let at = Served::greeting(greeting);
        at.server.faults().add(Rule::on("APPE").act(Fault::Reply("502 APPE not implemented.".into())));
        let features = Features::new();
        let mut session = Session::open_proven(&at.config(), &features).unwrap();
        let refused = session.store(&path("/file"), How::Append, &mut &b"appended"[..], &After::default());
        assert!(matches!(refused, Err(Error::Unsupported { command: "APPE" })), "{refused:?}");
        if !session.is_alive() {
            session = Session::open(&at.config(), &features).unwrap();
        }
        session.store(&path("/new"), How::Replace, &mut &b"the new file"[..], &After::default()).unwrap();
        assert_eq!(at.read("new"), "the new file", "{greeting}");
        assert_eq!(at.read("file"), "hello");
    }
}

#[test]
fn inside_tls_a_listing_that_is_refused_is_asked_for_in_another_way() {
    let Ok(certificate) = fetch::certificate() else { return eprintln!("SKIPPED: no certificate") };
    let options =
        Options { tls: Some(certificate.clone()), without: vec!["MLSD", "MLST"], ..Options::default() };
    let at = Served::new(options);
    at.server.faults().add(Rule::on("LIST").path("-a").act(Fault::Reply("504 No such parameter.".into())));
    let mut config = (*at.config()).clone();
    config.tls.mode = TlsMode::Explicit;
    config.tls.ca = Some(certificate.0);
    let mut session = Session::open_proven(&Arc::new(config), &Features::new()).unwrap();
    assert_eq!(session.list(&path("/")).unwrap().entries.len(), 1);
}

#[test]
fn the_goodbye_of_an_idle_session_is_no_success() {
    for (verb, change) in [
        ("DELE", (|session| session.delete(&path("/file"))) as fn(&mut Session) -> Result<(), Error>),
        ("RMD", |session| session.remove_directory(&path("/folder"))),
        ("RNTO", |session| session.rename(&path("/file"), &path("/other"))),
        ("SITE", |session| session.set_mode(&path("/file"), 0o600)),
    ] {
        let at = Served::new(Options::default());
        // libunftp's idle time-out.
        let goodbye = "221 Session timed out. Closing control connection";
        at.server.faults().add(Rule::on(verb).act(Fault::Reply(goodbye.into())));
        let mut session = Session::open(&at.config(), &Features::new()).unwrap();
        let outcome = change(&mut session);
        assert!(matches!(outcome, Err(Error::Lost { .. })), "{verb}: {outcome:?}");
        assert!(!session.is_alive(), "{verb}");
    }
}

#[test]
fn a_connection_that_is_lost_while_looking_does_not_make_a_file_missing() {
    for lost in [Fault::Close, Fault::Reply("421 Timeout.".into())] {
        let at = Served::new(Options::default());
        at.server.faults().add(Rule::on("DELE").act(Fault::Reply("550 Failed.".into())));
        let mut session = Session::open_proven(&at.config(), &Features::new()).unwrap();
        at.server.faults().add(Rule::on("MLSD").act(lost));
        let refused = session.delete(&path("/file")).unwrap_err();
        let error = explain::delete(&mut session, &path("/file"), refused);
        assert!(error.is_transient() && error.refusal().is_none(), "{error:?}");
    }
}

#[test]
fn a_listing_with_lines_that_nobody_understands_does_not_prove_that_a_file_is_missing() {
    let at = Served::new(Options::default());
    at.server.faults().add(Rule::on("DELE").act(Fault::Reply("550 Failed.".into())));
    let mut session = Session::open_proven(&at.config(), &Features::new()).unwrap();
    let lines = b"type=file;size=1; other\r\nsomething\r\n".to_vec();
    at.server.faults().add(Rule::on("MLSD").act(Fault::Content(lines)));
    for (name, meaning) in [("/file", Refusal::Denied), ("/none", Refusal::NotFound)] {
        let refused = session.delete(&path(name)).unwrap_err();
        let error = explain::delete(&mut session, &path(name), refused);
        assert_eq!(error.refusal(), Some(meaning), "{name}: {error:?}");
    }
}

#[test]
fn an_empty_answer_to_list_with_an_option_is_not_believed_before_it_has_listed_something() {
    let at = Served::new(Options { without: vec!["MLSD", "MLST"], ..Options::default() });
    // Where `-a` is a name that is not there.
    at.server.faults().add(Rule::on("LIST").path("-a").act(Fault::Content(Vec::new())));
    let features = Features::new();
    let mut session = Session::open_proven(&at.config(), &features).unwrap();
    assert_eq!(session.list(&path("/")).unwrap().entries.len(), 1);
}

#[test]
fn a_listing_by_stat_has_the_entries_on_its_first_and_last_line_too() {
    let at = Served::new(Options::default());
    closed_ports(&at.server);
    refuses_active(&at.server);
    let line = |name: &str| format!("-rw-r--r--    1 22001  22001    6 Nov 21 06:19 {name}\r\n");
    for (first, last) in [(line("a"), line("c")), ("Status follows:\r\n".into(), "End of status\r\n".into())]
    {
        let told = format!("200-{first} {}200 {last}", line("b"));
        at.server.faults().add(Rule::on("STAT").path("folder").times(1).act(Fault::Raw(told.into())));
    }
    std::fs::create_dir(at.server.root().join("folder")).unwrap();
    let mut session = Session::open_proven(&at.config(), &Features::new()).unwrap();
    for names in [&["a", "b", "c"][..], &["b"]] {
        let listing = session.list(&path("/folder")).unwrap();
        let mut found: Vec<_> = listing.entries.iter().map(|entry| entry.name.to_string()).collect();
        found.sort();
        assert_eq!((found, listing.unparsed), (names.iter().map(|n| n.to_string()).collect(), 0));
    }
}

#[test]
fn where_stat_takes_a_path_with_a_blank_for_two_its_answer_is_not_believed() {
    let at = Served::new(Options::default());
    closed_ports(&at.server);
    refuses_active(&at.server);
    at.server.put("a folder/inside", "");
    let other = "213-Status follows:\r\n/bin/ls: cannot access 'folder': No such file or directory\r\n\
                 -rw-r--r--  1 0 0  6 Nov 21 06:19 elsewhere\r\n213 End of status\r\n";
    for answer in [other, "213-Status follows:\r\n213 End of status\r\n"] {
        at.server.faults().add(Rule::on("STAT").path("a folder").once().act(Fault::Raw(answer.into())));
    }
    let mut session = Session::open_proven(&at.config(), &Features::new()).unwrap();
    for _ in 0..2 {
        let error = session.list(&path("/a folder")).unwrap_err();
        assert!(error.to_string().contains("firewall"), "{error}");
    }
    assert_eq!(session.list(&path("/a folder")).unwrap().entries.len(), 1);
}

#[test]
fn the_old_content_is_put_back_when_the_session_ends_while_it_is_replaced() {
    // The server has not renamed it, or it has and the answer is lost.
    for (lost, content) in [(Fault::Close, "hello"), (Fault::Done(Then::Close), "the new one")] {
        let at = Served::new(Options::default());
        at.server.put("new", "the new one");
        let no = Fault::Reply("553 It is there already.".into());
        at.server.faults().add(Rule::on("RNTO").path("file").once().act(no));
        at.server.faults().add(Rule::on("RNTO").path("file").once().act(lost));
        let mut session = Session::open_proven(&at.config(), &Features::new()).unwrap();
        let outcome = replace::rename_over(&mut session, &path("/new"), &path("/file"), &path("/aside"));
        assert!(matches!(outcome, Err(Error::Lost { .. })), "{outcome:?}");
        assert_eq!(at.read("file"), content);
        assert!(!at.server.root().join("aside").exists());
    }
}

/// Passive ports that nothing listens on.
fn closed_ports(server: &Server) {
    let epsv = Fault::Reply("229 Entering Extended Passive Mode (|||1024|).".into());
    let pasv = Fault::Reply("227 Entering Passive Mode (127,0,0,1,4,0).".into());
    server.faults().add(Rule::on("EPSV").act(epsv));
    server.faults().add(Rule::on("PASV").act(pasv));
}

/// vsftpd's words to an address that is not its client's: NAT.
fn refuses_active(server: &Server) {
    server.faults().add(Rule::on("EPRT").act(Fault::Reply("500 Illegal EPRT command.".into())));
    server.faults().add(Rule::on("PORT").act(Fault::Reply("500 Illegal PORT command.".into())));
}

/// A server with one file.
struct Served {
    server: Server,
    _scratch: Scratch,
}

impl Served {
    fn new(options: Options) -> Self {
        let scratch = Scratch::new("served");
        let server = Server::start_with(scratch.path(), options).unwrap();
        server.put("file", "hello");
        Self { server, _scratch: scratch }
    }

    fn greeting(text: &str) -> Self {
        let at = Self::new(Options::default());
        at.server.faults().add(Rule::on("CONNECT").act(Fault::Reply(text.into())));
        at
    }

    fn config(&self) -> Arc<Config> {
        let mut config = Config::new("127.0.0.1", "guest", Secret::new("guest"));
        config.port = self.server.port();
        Arc::new(config)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.server.root().join(name)).unwrap()
    }
}
