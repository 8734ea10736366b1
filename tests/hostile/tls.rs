//! TLS: words smuggled in before it, a handshake that stands still, a certificate that is suddenly another.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::LONGEST;
use crate::harness::files::{names, store};
use crate::harness::mounted::IMPATIENT;
use crate::harness::patience::{at_once, eventually, within};
use crate::harness::scratch::Scratch;
use crate::harness::scripted::{Fault, Options, Rule, Server, Then};
use crate::harness::{Mount, Scripted, Target, fetch, shell};

#[test]
fn what_is_said_in_the_clear_before_tls_is_not_taken_for_what_is_said_inside() {
    for smuggled in ["230 You are in.\r\n", "220 Hello.\r\n331 Go on.\r\n230 In.\r\n", "\0", "2"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let passwords = Arc::new(AtomicUsize::new(0));
        let seen = passwords.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = clear_then_tls(&stream, smuggled, &seen);
            }
        });
        let target = Raw(format!("ftpes://guest@127.0.0.1:{port}/"));
        // Whoever sits in between could not say so if the certificate were not taken: it is, here.
        let certificate = format!("cacert={}", fetch::certificate().unwrap().0.display());
        let refused = within(LONGEST, || Mount::attempt(&target, &["timeout=5", &certificate])).err();
        let refused = refused.expect("it must not mount");
        assert!(refused.log.contains("in the clear before TLS"), "{smuggled:?}: {}", refused.log);
        assert_eq!(passwords.load(Ordering::SeqCst), 0, "{smuggled:?}");
    }
}

fn clear_then_tls(stream: &TcpStream, smuggled: &str, passwords: &AtomicUsize) -> io::Result<()> {
    let mut to = stream;
    to.write_all(b"220 Hello.\r\n")?;
    for line in BufReader::new(stream).lines() {
        match line?.as_str() {
            // One segment: what follows the 234 is in the client's buffer before TLS begins.
            "AUTH TLS" => to.write_all(format!("234 Go ahead.\r\n{smuggled}").as_bytes())?,
            line if line.starts_with("PASS") => {
                passwords.fetch_add(1, Ordering::SeqCst);
            }
            _ => to.write_all(b"500 What?\r\n")?,
        }
    }
    Ok(())
}

#[test]
fn a_tls_handshake_that_does_not_go_on_fails_in_time() {
    for (scheme, first) in
        [("ftps", ""), ("ftpes", "220 Hello.\r\n"), ("ftpes", "220 Hello.\r\n234 Go ahead.\r\n")]
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut parts = first.split_inclusive('\n');
                    let _ = (&stream).write_all(parts.next().unwrap_or_default().as_bytes());
                    let mut block = [0; 1024];
                    while (&stream).read(&mut block).is_ok_and(|n| n > 0) {
                        let _ = (&stream).write_all(parts.next().unwrap_or_default().as_bytes());
                    }
                });
            }
        });
        let target = Raw(format!("{scheme}://guest@127.0.0.1:{port}/"));
        let refused = within(LONGEST, || Mount::attempt(&target, &["timeout=2", "connect_timeout=2"])).err();
        assert!(refused.expect("it must not mount").status.is_some(), "{scheme}");
    }
}

#[test]
fn a_handshake_on_a_data_connection_that_does_not_go_on_is_an_error_in_time() {
    let (certificate, key) = fetch::certificate().unwrap();
    let authority = format!("cacert={}", certificate.display());
    at_once(3, vec!["RETR", "MLSD", "STOR"], |verb| {
        let options = Options { tls: Some((certificate.clone(), key.clone())), ..Options::default() };
        let at = Scripted::limited_with(options, &[&IMPATIENT[..], &[&authority]].concat());
        at.put("folder/file", b"text");
        assert_eq!(names(at.mount.path()).unwrap(), ["folder"]);
        // 150, and a connection that the kernel has accepted: nobody reads the ClientHello.
        at.server.faults().add(Rule::on(verb).act(Fault::NoData(Then::Silent)));
        let before = at.server.counters().of(verb);
        let outcome = within(LONGEST, || match *verb {
            "STOR" => store(&at.path("new"), b"new"),
            "MLSD" => names(&at.path("folder")).map(drop),
            _ => fs::read(at.path("folder/file")).map(drop),
        });
        assert!(outcome.is_err(), "{verb}");
        assert!(at.server.counters().of(verb) > before, "{verb} was never asked for");
        at.is_well_again(verb);
        assert_eq!(names(&at.path("folder")).unwrap(), ["file"], "{verb}");
        assert_eq!(fs::read(at.path("folder/file")).unwrap(), b"text", "{verb}");
    });
}

#[test]
fn a_certificate_that_changes_ends_the_trust() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("seen"), "text").unwrap();
    fs::write(scratch.path().join("unseen"), "secret").unwrap();
    let server = Arc::new(Server::start(scratch.path()).unwrap());
    let (certificate, _) = fetch::certificate().unwrap();
    let front = TlsFront::new(server.clone());
    let target = Raw(format!("ftpes://guest@127.0.0.1:{}/", front.port));
    // Commands inside TLS, data in the clear: enough to see who is trusted. One session: a further one that is just being made
    // may have seen the right certificate, and still has to send its password.
    let options = [
        "ssl_control",
        "max_conns=1",
        "timeout=3",
        "shutdown_timeout=2",
        "attr_timeout=0",
        &format!("cacert={}", certificate.display()),
    ];
    let mount = Mount::new(&target, &options);
    assert_eq!(fs::read(mount.path().join("seen")).unwrap(), b"text");
    let passwords = server.counters().of("PASS");
    front.is_somebody_else.store(true, Ordering::SeqCst);
    server.drop_sessions();
    assert!(within(LONGEST, || fs::read(mount.path().join("unseen"))).is_err());
    assert!(within(LONGEST, || store(&mount.path().join("new"), b"secret")).is_err());
    assert_eq!(server.counters().of("PASS"), passwords, "a password went to somebody else");
    assert!(mount.log().contains("certificate"), "the log says why");
    front.is_somebody_else.store(false, Ordering::SeqCst);
    eventually("trust", || fs::read(mount.path().join("unseen")).is_ok_and(|bytes| bytes == b"secret"));
}

/// TLS in front of the scripted server's control connections. It shows one certificate, or another.
struct TlsFront {
    port: u16,
    is_somebody_else: Arc<AtomicBool>,
}

impl TlsFront {
    fn new(server: Arc<Server>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_somebody_else = Arc::new(AtomicBool::new(false));
        let (own, others) = (acceptor(&fetch::certificate().unwrap()), acceptor(&another_certificate()));
        let other = is_somebody_else.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let acceptor = if other.load(Ordering::SeqCst) { others.clone() } else { own.clone() };
                let port = server.port();
                std::thread::spawn(move || front(&client, &acceptor, port));
            }
        });
        Self { port, is_somebody_else }
    }
}

fn front(client: &TcpStream, acceptor: &openssl::ssl::SslAcceptor, port: u16) -> Option<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut greeting = String::new();
    BufReader::new(server.try_clone().ok()?).read_line(&mut greeting).ok()?;
    let mut to = client;
    to.write_all(greeting.as_bytes()).ok()?;
    let mut line = [0; 10];
    to.read_exact(&mut line).ok()?;
    to.write_all(b"234 Go ahead.\r\n").ok()?;
    let mut inside = acceptor.accept(client.try_clone().ok()?).ok()?;
    // One thread for both directions: it looks at each side for a moment.
    client.set_read_timeout(Some(Duration::from_millis(2))).ok()?;
    server.set_read_timeout(Some(Duration::from_millis(2))).ok()?;
    let would_block = |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    loop {
        let mut block = [0; 4096];
        match inside.read(&mut block) {
            Ok(0) => return None,
            Ok(n) => (&server).write_all(&block[..n]).ok()?,
            Err(e) if would_block(&e) => {}
            Err(_) => return None,
        }
        match (&server).read(&mut block) {
            Ok(0) => return None,
            Ok(n) => inside.write_all(&block[..n]).ok()?,
            Err(e) if would_block(&e) => {}
            Err(_) => return None,
        }
    }
}

fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> openssl::ssl::SslAcceptor {
    use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
    let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    builder.set_certificate_file(certificate, SslFiletype::PEM).unwrap();
    builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
    builder.build()
}

/// As good as the first, but for the key.
fn another_certificate() -> (PathBuf, PathBuf) {
    let folder = Scratch::new("certificate");
    shell::ok(
        folder.path(),
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
         -keyout key.pem -out cert.pem 2>/dev/null",
    );
    let paths = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    // Read when it is used, moments from now; the folder goes with the test run.
    std::mem::forget(folder);
    paths
}

/// A server that is only an address.
struct Raw(String);

impl Target for Raw {
    fn url(&self) -> String {
        self.0.clone()
    }
    fn password(&self) -> String {
        "guest".into()
    }
}
