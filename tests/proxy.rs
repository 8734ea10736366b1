//! Servers behind a proxy: everything goes through it, the server's name is looked up by it, and what it refuses is told.
//!
//! The proxies here know one host, `files.invalid`, which is 127.0.0.1: a client that looked the name up itself would fail.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::scratch::Scratch;
use harness::{Kind, Mount, Options, Server, Target, Tls, fetch, shell};

#[test]
fn a_days_work_goes_through_a_socks5_proxy() {
    works("socks5", Tls::Plain, &[]);
}

#[test]
fn a_days_work_goes_through_an_http_proxy() {
    works("http", Tls::Plain, &[]);
}

#[test]
fn tls_goes_through_a_proxy_and_verifies_the_server_and_not_the_proxy() {
    let authority = format!("cacert={}", fetch::certificate().unwrap().0.display());
    works("socks5", Tls::Explicit, &[&authority, "tls_name=localhost"]);
}

#[test]
fn a_proxy_that_wants_a_password_gets_the_one_in_the_credentials_file() {
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    for scheme in ["socks5", "http"] {
        let proxy = Proxy::start(Some(("gate", "kee:per")));
        let behind = Behind { server: &server };
        let option = format!("proxy={scheme}://127.0.0.1:{}", proxy.port);
        let refused = Mount::attempt(&behind, &[&option]).err().expect("not without a password");
        assert!(refused.log.contains("the proxy wants a name and a password"), "{refused:?}");
        let scratch = Scratch::new("proxy");
        let file = scratch.path().join("credentials");
        std::fs::write(&file, "proxy_username=gate\nproxy_password=kee:per\n").unwrap();
        shell::ok(scratch.path(), "chmod 600 credentials");
        let mount = Mount::new(&behind, &[&option, &format!("credentials={}", file.display())]);
        shell::ok(mount.path(), "echo through > it && cat it");
        assert!(!mount.log().contains("kee:per"), "{}", mount.log());
    }
}

#[test]
fn what_the_proxy_refuses_is_told_and_nothing_goes_past_it() {
    let Some(server) = Server::start(Kind::Vsftpd) else { return };
    for scheme in ["socks5", "http"] {
        let proxy = Proxy::start(None);
        let option = format!("proxy={scheme}://127.0.0.1:{}", proxy.port);
        // By its address, of which this proxy knows nothing.
        let refused = Mount::attempt(&server, &[&option]).err().expect("the proxy must be asked");
        let told =
            ["refused by the host", "the proxy said 502"].iter().any(|words| refused.log.contains(words));
        assert!(told, "{refused:?}");
    }
    let refused = Mount::attempt(&server, &["active,proxy=socks5://127.0.0.1"]).err().expect("contradictory");
    assert!(refused.log.contains("cannot connect to us through a proxy"), "{refused:?}");
}

fn works(scheme: &str, tls: Tls, options: &[&str]) {
    let server_options = Options { tls, ..Options::default() };
    let Some(server) = Server::start_with(Kind::Vsftpd, &server_options) else { return };
    let proxy = Proxy::start(None);
    let option = format!("proxy={scheme}://127.0.0.1:{}", proxy.port);
    let options = [&[option.as_str()], options].concat();
    let mount = Mount::new(&Behind { server: &server }, &options);
    shell::ok(
        mount.path(),
        "seq 100000 > n && mkdir d && cp n d/m && cmp n d/m && ls -l d | grep -q m && mv d e && cat e/m | tail -n 1",
    );
    shell::ok(server.root(), "cmp n e/m");
    assert!(mount.unmount().success());
    let doctor = format!("doctor -o {} {}", options.join(","), Behind { server: &server }.url());
    let told = shell::ok(
        server.root(),
        &format!("FTPFS_PASSWORD='{}' {} {doctor}", server.password(), env!("CARGO_BIN_EXE_ftpfs")),
    );
    assert!(told.contains("can be mounted") && told.contains(&option[6..]), "{told}");
    assert!(proxy.tunnels.load(Ordering::SeqCst) > 3, "data connections go through the proxy, too");
}

/// The server, under the name that only the proxy knows.
struct Behind<'a> {
    server: &'a Server,
}

impl Target for Behind<'_> {
    fn url(&self) -> String {
        self.server.url().replace("127.0.0.1", NAME)
    }

    fn password(&self) -> String {
        self.server.password()
    }
}

/// A proxy of both kinds: it sees by the first byte which one is wanted.
struct Proxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(login: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tunnels = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tunnels);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let count = Arc::clone(&count);
                // A client that goes away is the usual end.
                std::thread::spawn(move || serve(client, login, &count));
            }
        });
        Self { port, tunnels }
    }
}

fn serve(mut client: TcpStream, login: Option<(&str, &str)>, tunnels: &AtomicUsize) -> io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    let far = if first == [5] { socks(&mut client, login)? } else { http(&mut client, login)? };
    let Some(mut far) = far else { return Ok(()) };
    tunnels.fetch_add(1, Ordering::SeqCst);
    let (mut from_far, mut to_client) = (far.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_far, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    io::copy(&mut client, &mut far)?;
    far.shutdown(Shutdown::Write)
}

fn socks(client: &mut TcpStream, login: Option<(&str, &str)>) -> io::Result<Option<TcpStream>> {
    let methods = counted(client, true)?;
    let wanted = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&wanted) {
        client.write_all(&[5, 0xff])?;
        return Ok(None);
    }
    client.write_all(&[5, wanted])?;
    if let Some((name, password)) = login {
        let is_right =
            counted(client, true)? == name.as_bytes() && counted(client, false)? == password.as_bytes();
        client.write_all(&[1, u8::from(!is_right)])?;
        if !is_right {
            return Ok(None);
        }
    }
    let [_, _, _, kind] = take(client)?;
    let name = match kind {
        3 => counted(client, false)?,
        _ => take::<4>(client)?.to_vec(),
    };
    let port = u16::from_be_bytes(take(client)?);
    let far =
        (name == NAME.as_bytes()).then(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()).flatten();
    // The address it connects from in each of its forms.
    let bound: &[u8] = if port % 2 == 0 { &[1, 127, 0, 0, 1, 0, 0] } else { &[3, 2, b'm', b'e', 0, 0] };
    client.write_all(&[&[5, if far.is_some() { 0 } else { 5 }, 0], bound].concat())?;
    Ok(far)
}

fn http(client: &mut TcpStream, login: Option<(&str, &str)>) -> io::Result<Option<TcpStream>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(take::<1>(client)?);
    }
    let head = String::from_utf8(head).unwrap();
    if let Some((name, password)) = login {
        let basic = openssl::base64::encode_block(format!("{name}:{password}").as_bytes());
        if !head.contains(&format!("\r\nProxy-Authorization: Basic {basic}\r\n")) {
            client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(None);
        }
    }
    let place = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let port =
        place.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':')).and_then(|port| port.parse().ok());
    let far = port.and_then(|port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
    let answer = if far.is_some() { "200 Connection established" } else { "502 Bad Gateway" };
    client.write_all(format!("HTTP/1.1 {answer}\r\nVia: a test\r\n\r\n").as_bytes())?;
    Ok(far)
}

/// A text with its length in front, after a version if there is one.
fn counted(client: &mut TcpStream, has_version: bool) -> io::Result<Vec<u8>> {
    if has_version {
        take::<1>(client)?;
    }
    let [length] = take(client)?;
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text)?;
    Ok(text)
}

fn take<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut taken = [0; N];
    client.read_exact(&mut taken)?;
    Ok(taken)
}

/// Reserved to never exist (RFC 6761).
const NAME: &str = "files.invalid";
