//! The way through a proxy: SOCKS5 (RFC 1928, passwords RFC 1929) or HTTP CONNECT (RFC 9110 section 9.3.6).
//!
//! Control and data connections both go through it, passive ones only: no proxy of these kinds lets a server come back to
//! us reliably. The server's name is looked up by the proxy, which often is the only one that can. Written here because
//! the crates that speak these protocols bring an async runtime along, for what are two messages of a few bytes each. A
//! proxy is as little trusted as a server: its answers are bounded in size and time. Used by `control`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::config::Secret;
use super::stream;

/// Where the proxy is and how to speak with it. Read from `socks5://host[:port]` or `http://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    /// Name and password, for proxies that ask.
    pub login: Option<(String, Secret)>,
}

/// What the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Socks5,
    Http,
}

/// The far end of a connection through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// An address if the text is one, else a name.
    pub fn new(text: &'a str) -> Self {
        text.parse().map_or(Self::Name(text), Self::Address)
    }
}

impl Proxy {
    /// Has the proxy, to which `tcp` leads, connect to `port` of `host`. What comes next on the connection is the far end's.
    pub fn tunnel(&self, tcp: &TcpStream, host: Host<'_>, port: u16, deadline: Instant) -> io::Result<()> {
        let mut line = Line { tcp, deadline };
        match self.kind {
            Kind::Socks5 => self.socks(&mut line, host, port),
            Kind::Http => self.http(&mut line, host, port),
        }
    }

    fn socks(&self, line: &mut Line<'_>, host: Host<'_>, port: u16) -> io::Result<()> {
        let methods: &[u8] = if self.login.is_some() { &[NO_LOGIN, PASSWORD] } else { &[NO_LOGIN] };
        line.send(&[&[VERSION, methods.len() as u8], methods].concat())?;
        match (line.take::<2>()?, &self.login) {
            ([VERSION, NO_LOGIN], _) => {}
            ([VERSION, PASSWORD], Some((name, password))) => {
                line.send(&[&[1][..], &counted(name.as_bytes())?, &counted(password.reveal())?].concat())?;
                if line.take::<2>()? != [1, 0] {
                    return Err(refused("the proxy does not accept this name and password"));
                }
            }
            ([VERSION, PASSWORD | NOTHING], _) => {
                return Err(refused(WANTS_LOGIN));
            }
            _ => return Err(refused("this is no SOCKS5 proxy")),
        }
        let far = match host {
            Host::Address(IpAddr::V4(ip)) => [&[1][..], &ip.octets()].concat(),
            Host::Address(IpAddr::V6(ip)) => [&[4][..], &ip.octets()].concat(),
            Host::Name(name) => [&[3][..], &counted(name.as_bytes())?].concat(),
        };
        line.send(&[&[VERSION, 1, 0][..], &far, &port.to_be_bytes()].concat())?;
        let [version, outcome, _, kind] = line.take()?;
        if version != VERSION {
            return Err(refused("this is no SOCKS5 proxy"));
        }
        if outcome != 0 {
            return Err(refused(match outcome {
                2 => "the proxy's rules forbid it",
                3 => "the proxy cannot reach the network",
                4 => "the proxy cannot reach the host",
                5 => "refused by the host",
                6 => "the proxy waited in vain",
                _ => "the proxy failed",
            }));
        }
        // The address that the proxy connects from: of no use, but in the way.
        match kind {
            1 => line.skip(4 + 2),
            4 => line.skip(16 + 2),
            3 => {
                let [length] = line.take()?;
                line.skip(usize::from(length) + 2)
            }
            _ => Err(refused("this is no SOCKS5 proxy")),
        }
    }

    fn http(&self, line: &mut Line<'_>, host: Host<'_>, port: u16) -> io::Result<()> {
        let far = match host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::Address(ip) => SocketAddr::new(ip, port).to_string(),
        };
        let mut request = format!("CONNECT {far} HTTP/1.1\r\nHost: {far}\r\n").into_bytes();
        if let Some((name, password)) = &self.login {
            let login = openssl::base64::encode_block(&[name.as_bytes(), b":", password.reveal()].concat());
            request.extend_from_slice(format!("Proxy-Authorization: Basic {login}\r\n").as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        line.send(&request)?;
        // Byte by byte: what follows the empty line is the server's greeting.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == LONGEST_HEAD {
                return Err(refused("the proxy's answer has no end"));
            }
            head.extend(line.take::<1>()?);
        }
        let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        match status {
            Some([b'2', ..]) => Ok(()),
            Some(b"407") => Err(refused(WANTS_LOGIN)),
            Some(code) => Err(refused(&format!("the proxy said {}", String::from_utf8_lossy(code)))),
            None => Err(refused("this is no HTTP proxy")),
        }
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (kind, usual_port) = match scheme {
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            "http" => (Kind::Http, 3128),
            _ => {
                return Err(format!(
                    "{scheme} is not known: socks5://HOST:PORT or http://HOST:PORT is needed"
                ));
            }
        };
        if rest.contains('@') {
            return Err("name and password of a proxy belong into the credentials file (proxy_username=, proxy_password=)".to_owned());
        }
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.bytes().any(|b| b.is_ascii_control() || matches!(b, b' ' | b'/')) {
            return Err("the proxy's host is missing".to_owned());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port > 0).ok_or("the proxy's port is no port")?,
            None => usual_port,
        };
        Ok(Self { kind, host: host.to_owned(), port, login: None })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// The connection while it is still the proxy's.
struct Line<'a> {
    tcp: &'a TcpStream,
    deadline: Instant,
}

impl Line<'_> {
    fn send(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.tcp.write(rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) => self.wait(&error, PollFlags::POLLOUT)?,
            }
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut taken = [0; N];
        let mut rest = taken.as_mut_slice();
        while !rest.is_empty() {
            match self.tcp.read(rest) {
                Ok(0) => return Err(refused("the proxy closed the connection")),
                Ok(n) => rest = rest.get_mut(n..).unwrap_or_default(),
                Err(error) => self.wait(&error, PollFlags::POLLIN)?,
            }
        }
        Ok(taken)
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        for _ in 0..bytes {
            self.take::<1>()?;
        }
        Ok(())
    }

    fn wait(&self, error: &io::Error, flags: PollFlags) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                stream::wait(&mut [PollFd::new(self.tcp.as_fd(), flags)], self.deadline)
            }
            io::ErrorKind::Interrupted => Ok(()),
            kind => Err(io::Error::new(kind, error.to_string())),
        }
    }
}

/// A text with its length in front, as SOCKS5 wants it.
fn counted(text: &[u8]) -> io::Result<Vec<u8>> {
    let length = u8::try_from(text.len()).map_err(|_| refused("too long for a SOCKS5 proxy"))?;
    Ok([&[length], text].concat())
}

fn refused(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}

/// RFC 1928 section 3.
const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NOTHING: u8 = 0xff;
const WANTS_LOGIN: &str =
    "the proxy wants a name and a password: proxy_username= and proxy_password= in the credentials file";
/// Headers that proxies add are a few hundred bytes.
const LONGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_written_as_with_curl() {
        let proxy: Proxy = "socks5h://gate.example:9050/".parse().unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (Kind::Socks5, "gate.example", 9050));
        assert_eq!(proxy.to_string(), "socks5://gate.example:9050");
        let proxy: Proxy = "[::1]".parse().unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (Kind::Http, "::1", 3128));
        for wrong in
            ["", "socks4://x", "http://", "http://x:0", "http://x:y", "socks5://a b", "http://me:secret@x"]
        {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
    }
}
