//! FTP as a plain client speaks it: one command, one answer. What the numbers are compared with.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::clients::Place;

/// One logged-in session that does one thing after the other.
pub struct Session {
    control: BufReader<TcpStream>,
    host: String,
}

impl Session {
    pub fn open(place: &Place) -> io::Result<Self> {
        let control = TcpStream::connect((place.host.as_str(), place.port))?;
        control.set_nodelay(true)?;
        let mut session = Self { control: BufReader::new(control), host: place.host.clone() };
        session.reply()?;
        session.command(&format!("USER {}", place.user))?;
        session.command(&format!("PASS {}", place.password))?;
        session.command("TYPE I")?;
        Ok(session)
    }

    /// A whole file or listing, or its first `most` bytes.
    pub fn fetch(&mut self, command: &str, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut data = self.transfer(command, offset)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut data).take(most as u64).read_to_end(&mut bytes)?;
        drop(data);
        self.reply()?;
        Ok(bytes)
    }

    pub fn store(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.transfer(&format!("STOR {path}"), 0)?;
        data.write_all(bytes)?;
        drop(data);
        self.reply().map(drop)
    }

    pub fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.transfer(&format!("APPE {path}"), 0)?;
        data.write_all(bytes)?;
        drop(data);
        self.reply().map(drop)
    }

    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.control.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    fn transfer(&mut self, command: &str, offset: u64) -> io::Result<TcpStream> {
        let reply = self.command("EPSV")?;
        let port = reply.split('|').nth(3).and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or_else(|| io::Error::other(reply.clone()))?;
        let data = TcpStream::connect((self.host.as_str(), port))?;
        if offset > 0 {
            self.command(&format!("REST {offset}"))?;
        }
        let reply = self.command(command)?;
        if reply.starts_with('1') { Ok(data) } else { Err(io::Error::other(reply)) }
    }

    fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.control.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(line);
            }
        }
    }
}
