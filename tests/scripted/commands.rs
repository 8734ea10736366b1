//! What each command does. RFC 959 unless its comment says otherwise.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use super::data::{Content, Data, Lines};
use super::faults::Fault;
use super::session::{Flow, Session};
use super::{jail, listing, time};

impl Session<'_> {
    pub fn execute(&mut self, verb: &str, argument: &[u8]) -> io::Result<Flow> {
        if verb == "CONNECT" {
            self.reply("220 A small server at your service.")?;
            return Ok(Flow::Next);
        }
        if verb == "QUIT" {
            self.reply("221 Goodbye.")?;
            return Ok(Flow::End);
        }
        if !self.shared.knows(verb) {
            self.reply("500 Unknown command.")?;
            return Ok(Flow::Next);
        }
        if !self.logged_in
            && !matches!(verb, "USER" | "PASS" | "FEAT" | "SYST" | "NOOP" | "OPTS" | "AUTH" | "PBSZ" | "PROT")
        {
            self.reply("530 Please login with USER and PASS.")?;
            return Ok(Flow::Next);
        }
        let rename_from = self.rename_from.take();
        match verb {
            "USER" => self.user(argument),
            "PASS" => self.pass(argument),
            "FEAT" => self.feat(),
            "SYST" => self.reply("215 UNIX Type: L8"),
            "NOOP" => self.reply("200 Zzz."),
            "OPTS" => self.opts(argument),
            // RFC 4217. Without a certificate of our own: for whoever puts TLS in front of the control connection.
            "AUTH" if argument == b"TLS" => self.secure(),
            "PBSZ" => self.reply("200 PBSZ=0"),
            "PROT" if argument == b"C" => {
                self.protects = false;
                self.reply("200 In the clear.")
            }
            "PROT" if argument == b"P" && self.wire.get_ref().is_tls() => {
                self.protects = true;
                self.reply("200 Protected.")
            }
            "TYPE" => self.set_type(argument),
            "MODE" | "STRU" | "ALLO" => self.reply("200 As always."),
            "PWD" | "XPWD" => self.pwd(),
            "CWD" => self.cwd(argument),
            "CDUP" => self.cwd(b".."),
            "EPSV" => self.epsv(),
            "PASV" => self.pasv(),
            "EPRT" => self.eprt(argument),
            "PORT" => self.port(argument),
            "REST" => self.rest(argument),
            "LIST" => self.list(argument),
            "NLST" => self.nlst(argument),
            "STAT" if !argument.is_empty() => self.stat(argument),
            "MLSD" => self.mlsd(argument),
            "MLST" => self.mlst(argument),
            "SIZE" => self.size(argument),
            "MDTM" => self.mdtm(argument),
            "MFMT" => self.mfmt(argument),
            "RETR" => self.retr(argument),
            "STOR" => self.stor(argument),
            "APPE" => self.appe(argument),
            "DELE" => self.change(argument, "250 Deleted.", fs::remove_file),
            "MKD" => self.mkd(argument),
            "RMD" => self.change(argument, "250 Removed.", fs::remove_dir),
            "RNFR" => self.rnfr(argument),
            "RNTO" => match rename_from {
                Some(from) => self.change(argument, "250 Renamed.", |to| fs::rename(&from, to)),
                None => self.reply("503 RNFR required first."),
            },
            "SITE" => self.site(argument),
            // Commands wait while a transfer runs: when this one is read there is none.
            "ABOR" => self.reply("226 No transfer to abort."),
            _ => self.reply("500 Unknown command."),
        }?;
        Ok(Flow::Next)
    }

    fn user(&mut self, argument: &[u8]) -> io::Result<()> {
        if self.shared.acceptor.is_some() && !self.wire.get_ref().is_tls() {
            return self.reply("530 Use AUTH TLS first.");
        }
        self.user = String::from_utf8_lossy(argument).into_owned();
        self.logged_in = false;
        self.reply("331 Please specify the password.")
    }

    fn pass(&mut self, argument: &[u8]) -> io::Result<()> {
        let options = &self.shared.options;
        if self.user == options.user && argument == options.password.as_bytes() {
            self.logged_in = true;
            return self.reply("230 Login successful.");
        }
        self.reply("530 Login incorrect.")
    }

    /// RFC 2389, section 3.
    fn feat(&mut self) -> io::Result<()> {
        let mut text = "211-Features:\r\n".to_string();
        for (verb, line) in FEATURES {
            if self.shared.knows(verb) {
                text += &format!(" {line}\r\n");
            }
        }
        if self.shared.acceptor.is_some() {
            text += " AUTH TLS\r\n PBSZ\r\n PROT\r\n";
        }
        self.reply(&(text + "211 End"))
    }

    fn opts(&mut self, argument: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(argument).to_uppercase();
        match text.split_whitespace().next() {
            Some("UTF8") => self.reply("200 Always in UTF8 mode."),
            Some("MLST") => self.reply("200 MLST OPTS type;size;modify;UNIX.mode;unique;"),
            _ => self.reply("501 Option not understood."),
        }
    }

    fn set_type(&mut self, argument: &[u8]) -> io::Result<()> {
        // Bytes are never converted: a client that reads text in TYPE A gets what is there.
        match argument.first().map(u8::to_ascii_uppercase) {
            Some(b'I' | b'A' | b'L') => self.reply("200 Switching mode."),
            _ => self.reply("504 Unknown type."),
        }
    }

    fn pwd(&mut self) -> io::Result<()> {
        let text = [b"257 ".as_slice(), &quoted(&self.cwd)].concat();
        self.reply_bytes(&text)
    }

    fn cwd(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.target(&path).and_then(fs::metadata) {
            Ok(found) if found.is_dir() => {
                self.cwd = path;
                self.reply("250 Directory successfully changed.")
            }
            Ok(_) => self.refuse(argument, &io::Error::from(io::ErrorKind::NotADirectory)),
            Err(e) => self.refuse(argument, &e),
        }
    }

    /// RFC 2428, section 3.
    fn epsv(&mut self) -> io::Result<()> {
        let port = self.listen()?;
        self.reply(&format!("229 Entering Extended Passive Mode (|||{port}|)."))
    }

    fn pasv(&mut self) -> io::Result<()> {
        let [a, b, c, d] = match self.fault.take() {
            Some(Fault::Address(address)) => address,
            _ => self.shared.options.address.octets(),
        };
        let port = self.listen()?;
        self.reply(&format!("227 Entering Passive Mode ({a},{b},{c},{d},{},{}).", port >> 8, port & 0xff))
    }

    /// RFC 2428, section 2. From loopback to loopback only.
    fn eprt(&mut self, argument: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(argument).into_owned();
        let mut fields = text.split('|').skip(2);
        let address: Option<IpAddr> = fields.next().and_then(|host| host.parse().ok());
        let port: Option<u16> = fields.next().and_then(|port| port.parse().ok());
        self.active(address.zip(port).map(SocketAddr::from))
    }

    fn port(&mut self, argument: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(argument).into_owned();
        let numbers: Vec<u8> = text.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        self.active(match numbers.as_slice() {
            &[a, b, c, d, high, low] => {
                Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
            }
            _ => None,
        })
    }

    fn active(&mut self, address: Option<SocketAddr>) -> io::Result<()> {
        match address {
            Some(address) if address.ip().is_loopback() == self.shared.options.address.is_loopback() => {
                self.data = Data::Active(address);
                self.reply("200 Command successful.")
            }
            _ => self.reply("501 Illegal address."),
        }
    }

    /// RFC 3659, section 5.
    fn rest(&mut self, argument: &[u8]) -> io::Result<()> {
        match String::from_utf8_lossy(argument).trim().parse() {
            Ok(offset) => {
                self.rest = offset;
                self.reply(&format!("350 Restart position accepted ({offset})."))
            }
            Err(_) => self.reply("501 Not a number."),
        }
    }

    fn list(&mut self, argument: &[u8]) -> io::Result<()> {
        let mut hidden = false;
        let mut rest = argument;
        while rest.first() == Some(&b'-') {
            let end = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
            hidden |= rest[..end].contains(&b'a');
            rest = rest[end..].strip_prefix(b" ").unwrap_or(&rest[end..]);
        }
        let path = jail::resolve(&self.cwd, rest);
        let made = self.shared.jail.target(&path).and_then(|at| listing::list(&at, hidden));
        self.send_listing(rest, made)
    }

    fn nlst(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        let made = self.shared.jail.target(&path).and_then(|at| listing::nlst(&at));
        self.send_listing(argument, made)
    }

    /// RFC 959: a listing on the control connection.
    fn stat(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.target(&path).and_then(|at| listing::list(&at, true)) {
            Ok(lines) => self
                .reply_bytes(&[b"213-Status follows:\r\n", lines.as_slice(), b"213 End of status"].concat()),
            Err(e) => self.refuse(argument, &e),
        }
    }

    /// RFC 3659, section 7.
    fn mlsd(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        let made = self.shared.jail.target(&path).and_then(|at| listing::mlsd(&at));
        self.send_listing(argument, made)
    }

    fn send_listing(&mut self, argument: &[u8], made: io::Result<Vec<u8>>) -> io::Result<()> {
        if let Some(content) = self.scripted_content() {
            return self.transfer(content);
        }
        match made {
            Ok(bytes) => self.transfer(Content::Bytes(bytes)),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn scripted_content(&mut self) -> Option<Content> {
        match self.fault.take()? {
            Fault::Content(bytes) => Some(Content::Bytes(bytes)),
            Fault::Lines { line, bytes } => Some(Content::Lines(Lines::new(line, bytes))),
            other => {
                self.fault = Some(other);
                None
            }
        }
    }

    fn mlst(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.entry(&path).and_then(|at| listing::mlst(&at)) {
            Ok(facts) => {
                let text = [b"250-Listing\r\n ", facts.as_bytes(), b" ", &path, b"\r\n250 End"].concat();
                self.reply_bytes(&text)
            }
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn size(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.target(&path).and_then(fs::metadata) {
            Ok(found) if found.is_file() => self.reply(&format!("213 {}", found.len())),
            Ok(_) => self.reply("550 Not a regular file."),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn mdtm(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.target(&path).and_then(fs::metadata).and_then(|found| found.modified()) {
            Ok(modified) => self.reply(&format!("213 {}", time::stamp(modified))),
            Err(e) => self.refuse(argument, &e),
        }
    }

    /// draft-somers-ftp-mfxx-04, section 3.
    fn mfmt(&mut self, argument: &[u8]) -> io::Result<()> {
        let at = argument.iter().position(|&b| b == b' ').unwrap_or(argument.len());
        let (stamp, name) = (String::from_utf8_lossy(&argument[..at]).into_owned(), argument[at..].get(1..));
        let (Some(time), Some(name)) = (time::parse(&stamp), name) else {
            return self.reply("501 Not a time and a path.");
        };
        let path = jail::resolve(&self.cwd, name);
        let set = |at| File::open(at).and_then(|file| file.set_modified(time));
        match self.shared.jail.target(&path).and_then(set) {
            Ok(()) => self.reply_bytes(&[b"213 Modify=", stamp.as_bytes(), b"; ", name].concat()),
            Err(e) => self.refuse(name, &e),
        }
    }

    fn retr(&mut self, argument: &[u8]) -> io::Result<()> {
        let offset = self.rest;
        match self.scripted_content() {
            Some(Content::Bytes(mut bytes)) => {
                bytes.drain(..bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX)));
                return self.transfer(Content::Bytes(bytes));
            }
            Some(content) => return self.transfer(content),
            None => {}
        }
        let path = jail::resolve(&self.cwd, argument);
        let open = |at: std::path::PathBuf| {
            if !fs::metadata(&at)?.is_file() {
                return Err(io::Error::other("not a plain file"));
            }
            let mut file = File::open(at)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        match self.shared.jail.target(&path).and_then(open) {
            Ok(file) => self.transfer(Content::File(file)),
            Err(e) => self.refuse(argument, &e),
        }
    }

    /// After REST, what follows the new bytes stays.
    fn stor(&mut self, argument: &[u8]) -> io::Result<()> {
        let offset = self.rest;
        let path = jail::resolve(&self.cwd, argument);
        let open = |at| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(offset == 0).open(at)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        match self.shared.jail.target(&path).and_then(open) {
            Ok(file) => self.transfer(Content::Store(file)),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn appe(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        let open = |at| {
            let mut file = OpenOptions::new().append(true).create(true).open(at)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        match self.shared.jail.target(&path).and_then(open) {
            Ok(file) => self.transfer(Content::Store(file)),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn mkd(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.entry(&path).and_then(fs::create_dir) {
            Ok(()) => self.reply_bytes(&[b"257 ".as_slice(), &quoted(&path), b" created"].concat()),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn rnfr(&mut self, argument: &[u8]) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.entry(&path).and_then(|at| fs::symlink_metadata(&at).map(|_| at)) {
            Ok(at) => {
                self.rename_from = Some(at);
                self.reply("350 Ready for RNTO.")
            }
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn change(
        &mut self,
        argument: &[u8],
        done: &str,
        action: impl FnOnce(std::path::PathBuf) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = jail::resolve(&self.cwd, argument);
        match self.shared.jail.entry(&path).and_then(action) {
            Ok(()) => self.reply(done),
            Err(e) => self.refuse(argument, &e),
        }
    }

    fn site(&mut self, argument: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(argument).to_uppercase();
        if !text.starts_with("CHMOD ") || !self.shared.knows("SITE CHMOD") {
            return self.reply("500 Unknown SITE command.");
        }
        let rest = &argument["CHMOD ".len()..];
        let at = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
        let mode = u32::from_str_radix(&String::from_utf8_lossy(&rest[..at]), 8);
        let (Ok(mode), Some(name)) = (mode, rest[at..].get(1..)) else {
            return self.reply("501 Not a mode and a path.");
        };
        let path = jail::resolve(&self.cwd, name);
        let set = |at| fs::set_permissions(at, fs::Permissions::from_mode(mode & 0o7777));
        match self.shared.jail.target(&path).and_then(set) {
            Ok(()) => self.reply("200 SITE CHMOD command ok."),
            Err(e) => self.refuse(name, &e),
        }
    }

    fn refuse(&mut self, name: &[u8], why: &io::Error) -> io::Result<()> {
        let reason = match why.kind() {
            io::ErrorKind::NotFound => "No such file or directory",
            io::ErrorKind::PermissionDenied => "Permission denied",
            io::ErrorKind::AlreadyExists => "File exists",
            io::ErrorKind::DirectoryNotEmpty => "Directory not empty",
            io::ErrorKind::IsADirectory => "Is a directory",
            io::ErrorKind::NotADirectory => "Not a directory",
            io::ErrorKind::StorageFull => "No space left on device",
            _ => &why.to_string(),
        };
        self.reply_bytes(&[b"550 ", name, b": ", reason.as_bytes()].concat())
    }
}

/// RFC 959, appendix II: quotes inside are doubled.
fn quoted(path: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in path {
        out.push(byte);
        if byte == b'"' {
            out.push(byte);
        }
    }
    out.push(b'"');
    out
}

/// Commands and the lines in FEAT that tell of them.
const FEATURES: [(&str, &str); 9] = [
    ("EPRT", "EPRT"),
    ("EPSV", "EPSV"),
    ("MDTM", "MDTM"),
    ("MFMT", "MFMT"),
    ("MLSD", "MLST type*;size*;modify*;UNIX.mode*;unique*;"),
    ("PASV", "PASV"),
    ("REST", "REST STREAM"),
    ("SIZE", "SIZE"),
    ("OPTS", "UTF8"),
];
