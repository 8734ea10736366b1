//! Commands as bytes (RFC 959 section 4.1): the only place that turns a path into something a server reads. Pure: no I/O.
//!
//! Several commands that go out together are a [`Batch`]: one write, one TCP segment (a command split over two segments
//! confuses ProFTPD and ftp-srv, and a batch beyond a segment is split by the network). Paths come as [`RemotePath`],
//! which holds no CR, LF or NUL; what comes from the user (name, password) is checked here. 0xFF is Telnet's IAC and is
//! doubled for the servers that read it so (RFC 854); the others would take it as two bytes of a name.

use std::time::{SystemTime, UNIX_EPOCH};

use super::codepage::Codepage;
use super::config::Secret;
use super::path::{BadName, RemotePath};

/// One command with its argument.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    User(&'a str),
    Pass(&'a Secret),
    Acct(&'a Secret),
    /// RFC 2389.
    Feat,
    /// Exactly `OPTS UTF8 ON`: libunftp hangs up on other forms.
    OptsUtf8,
    /// The facts that MLSD is to tell, where the default leaves out the mode (RFC 3659 section 7.9).
    OptsMlst,
    TypeImage,
    Pwd,
    Syst,
    Noop,
    Quit,
    Abor,
    /// RFC 2428.
    Epsv,
    Pasv,
    /// RFC 2428: the argument as it stands, `|1|132.235.1.2|6275|`.
    Eprt(&'a str),
    /// `h1,h2,h3,h4,p1,p2`.
    Port(&'a str),
    /// RFC 4217.
    AuthTls,
    Pbsz,
    Prot(Protection),
    Cwd(&'a RemotePath),
    Rest(u64),
    Retr(&'a RemotePath),
    Stor(&'a RemotePath),
    Appe(&'a RemotePath),
    /// LIST of the working folder, with options (`-a`) or without. Never with a path: servers glob it, or cut it at blanks.
    List(&'a str),
    /// RFC 959: a listing on the control connection, for when no data connection can be had.
    Stat(&'a RemotePath),
    /// Names without anything else: for servers whose LIST says nothing more.
    Nlst,
    /// RFC 3659 section 7.
    Mlsd(&'a RemotePath),
    Mlst(&'a RemotePath),
    Size(&'a RemotePath),
    Mdtm(&'a RemotePath),
    /// draft-somers-ftp-mfxx.
    Mfmt(SystemTime, &'a RemotePath),
    /// vsftpd's way of setting a time: MDTM with the time before the path.
    MdtmSet(SystemTime, &'a RemotePath),
    SiteUtime(SystemTime, &'a RemotePath),
    /// Octal only: letters make vsftpd and Pure-FTPd set 0000.
    SiteChmod(u32, &'a RemotePath),
    Rnfr(&'a RemotePath),
    Rnto(&'a RemotePath),
    Dele(&'a RemotePath),
    Mkd(&'a RemotePath),
    Rmd(&'a RemotePath),
    /// draft-peterson-streamlined-ftp-command-extensions: bytes that can still be stored there.
    Avbl(&'a RemotePath),
    /// ProFTPD's mod_quotatab.
    SiteQuota,
}

/// Whether data connections are protected (RFC 4217 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    Clear,
    Private,
}

impl Command<'_> {
    /// The command's name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::User(_) => "USER",
            Self::Pass(_) => "PASS",
            Self::Acct(_) => "ACCT",
            Self::Feat => "FEAT",
            Self::OptsUtf8 => "OPTS UTF8",
            Self::OptsMlst => "OPTS MLST",
            Self::TypeImage => "TYPE",
            Self::Pwd => "PWD",
            Self::Syst => "SYST",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Abor => "ABOR",
            Self::Epsv => "EPSV",
            Self::Pasv => "PASV",
            Self::Eprt(_) => "EPRT",
            Self::Port(_) => "PORT",
            Self::AuthTls => "AUTH TLS",
            Self::Pbsz => "PBSZ",
            Self::Prot(_) => "PROT",
            Self::Cwd(_) => "CWD",
            Self::Rest(_) => "REST",
            Self::Retr(_) => "RETR",
            Self::Stor(_) => "STOR",
            Self::Appe(_) => "APPE",
            Self::List(_) => "LIST",
            Self::Stat(_) => "STAT",
            Self::Nlst => "NLST",
            Self::Mlsd(_) => "MLSD",
            Self::Mlst(_) => "MLST",
            Self::Size(_) => "SIZE",
            Self::Mdtm(_) | Self::MdtmSet(..) => "MDTM",
            Self::Mfmt(..) => "MFMT",
            Self::SiteUtime(..) => "SITE UTIME",
            Self::SiteChmod(..) => "SITE CHMOD",
            Self::Rnfr(_) => "RNFR",
            Self::Rnto(_) => "RNTO",
            Self::Dele(_) => "DELE",
            Self::Mkd(_) => "MKD",
            Self::Rmd(_) => "RMD",
            Self::Avbl(_) => "AVBL",
            Self::SiteQuota => "SITE QUOTA",
        }
    }

    fn argument(&self, codepage: Option<Codepage>) -> Result<Vec<u8>, BadName> {
        let encoded = |path: &RemotePath| match codepage {
            Some(codepage) => codepage.encode(path.as_bytes()),
            None => Ok(path.as_bytes().to_vec()),
        };
        Ok(match self {
            Self::User(user) => user.as_bytes().to_vec(),
            Self::Pass(secret) | Self::Acct(secret) => secret.reveal().to_vec(),
            Self::OptsUtf8 => b"ON".to_vec(),
            Self::OptsMlst => b"type;size;modify;unix.mode;".to_vec(),
            Self::TypeImage => b"I".to_vec(),
            Self::Pbsz => b"0".to_vec(),
            Self::Prot(Protection::Clear) => b"C".to_vec(),
            Self::Prot(Protection::Private) => b"P".to_vec(),
            Self::Eprt(text) | Self::Port(text) => text.as_bytes().to_vec(),
            Self::Rest(offset) => offset.to_string().into_bytes(),
            Self::List(options) => options.as_bytes().to_vec(),
            Self::Feat
            | Self::SiteQuota
            | Self::Nlst
            | Self::Pwd
            | Self::Syst
            | Self::Noop
            | Self::Quit
            | Self::Abor
            | Self::Epsv
            | Self::Pasv
            | Self::AuthTls => Vec::new(),
            Self::Cwd(path)
            | Self::Retr(path)
            | Self::Stor(path)
            | Self::Appe(path)
            | Self::Mlsd(path)
            | Self::Mlst(path)
            | Self::Stat(path)
            | Self::Size(path)
            | Self::Mdtm(path)
            | Self::Rnfr(path)
            | Self::Rnto(path)
            | Self::Dele(path)
            | Self::Mkd(path)
            | Self::Rmd(path)
            | Self::Avbl(path) => encoded(path)?,
            Self::Mfmt(at, path) | Self::MdtmSet(at, path) | Self::SiteUtime(at, path) => {
                let mut argument = timestamp(*at).into_bytes();
                argument.push(b' ');
                argument.extend_from_slice(&encoded(path)?);
                argument
            }
            Self::SiteChmod(mode, path) => {
                let mut argument = format!("{:03o} ", mode & 0o7777).into_bytes();
                argument.extend_from_slice(&encoded(path)?);
                argument
            }
        })
    }
}

/// How this server wants bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// 0xFF is Telnet's IAC and must be sent twice.
    pub doubles_iac: bool,
    /// The encoding of names; UTF-8 (or whatever they are) when none.
    pub codepage: Option<Codepage>,
}

/// Commands that go out in one write.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    names: Vec<&'static str>,
    /// What a log may show, one line per command.
    shown: Vec<String>,
}

impl Batch {
    /// Adds a command. Errors: the argument cannot be sent (CR, LF or NUL in a user name or password, a letter that the
    /// codepage does not have).
    pub fn push(&mut self, command: &Command<'_>, wire: Wire) -> Result<(), BadName> {
        let argument = command.argument(wire.codepage)?;
        if argument.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(BadName::Forbidden);
        }
        self.bytes.extend_from_slice(command.name().as_bytes());
        if !argument.is_empty() {
            self.bytes.push(b' ');
            for &byte in &argument {
                self.bytes.push(byte);
                if byte == IAC && wire.doubles_iac {
                    self.bytes.push(IAC);
                }
            }
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.names.push(command.name());
        self.shown.push(match command {
            Command::Pass(_) | Command::Acct(_) => format!("{} ***", command.name()),
            _ if argument.is_empty() => command.name().to_owned(),
            _ => format!("{} {}", command.name(), String::from_utf8_lossy(&argument).escape_debug()),
        });
        Ok(())
    }

    /// Whether another command of this size still goes into the same segment.
    pub fn has_room_for(&self, command: &Command<'_>) -> bool {
        // Doubled IACs are counted as if every byte were one; no encoding doubles a name. What cannot be sent needs no room.
        let argument = command.argument(None).map_or(0, |argument| argument.len());
        self.bytes.is_empty() || self.bytes.len() + command.name().len() + 2 * argument + 3 <= MAX_BATCH
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names of the commands, in order: one reply is owed for each.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The commands as a log may show them: without passwords.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // A password may be among the bytes.
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

/// `YYYYMMDDHHMMSS` in UTC (RFC 3659 section 2.3), without a fraction: pyftpdlib refuses one. Clamped to the years 1 to 9999.
pub fn timestamp(at: SystemTime) -> String {
    let seconds = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(LAST_SECOND),
        // A fraction before 1970 belongs to the second below.
        Err(before) => {
            let before = before.duration();
            -i64::try_from(before.as_secs()).unwrap_or(-FIRST_SECOND) - i64::from(before.subsec_nanos() > 0)
        }
    };
    let seconds = seconds.clamp(FIRST_SECOND, LAST_SECOND);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Telnet's "interpret as command".
const IAC: u8 = 0xff;
/// Below the payload of an Ethernet segment (1448), with room for a TLS record around it.
pub const MAX_BATCH: usize = 1400;
/// 0001-01-01 00:00:00.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31 23:59:59.
const LAST_SECOND: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn commands_go_into_one_write_in_order() {
        let path = RemotePath::parse(b"/a b").unwrap();
        let mut batch = Batch::default();
        batch.push(&Command::Rest(10), Wire::default()).unwrap();
        batch.push(&Command::Retr(&path), Wire::default()).unwrap();
        assert_eq!(batch.bytes(), b"REST 10\r\nRETR /a b\r\n");
        assert_eq!(batch.names(), ["REST", "RETR"]);
    }

    #[test]
    fn iac_is_doubled_only_where_the_server_reads_it_so() {
        let path = RemotePath::parse(b"/\xff").unwrap();
        for (double, expected) in [(false, &b"DELE /\xff\r\n"[..]), (true, b"DELE /\xff\xff\r\n")] {
            let mut batch = Batch::default();
            batch.push(&Command::Dele(&path), Wire { doubles_iac: double, codepage: None }).unwrap();
            assert_eq!(batch.bytes(), expected);
        }
    }

    #[test]
    fn names_go_out_in_the_servers_encoding_or_not_at_all() {
        let wire = Wire { doubles_iac: true, codepage: Codepage::named("cp1251") };
        let mut batch = Batch::default();
        let path = RemotePath::parse("/ф я".as_bytes()).unwrap();
        batch.push(&Command::Mfmt(UNIX_EPOCH, &path), wire).unwrap();
        // The last letter of the alphabet is 0xFF there: Telnet's IAC.
        assert_eq!(batch.bytes(), b"MFMT 19700101000000 /\xf4 \xff\xff\r\n");
        let smile = RemotePath::parse("/🙂".as_bytes()).unwrap();
        assert_eq!(batch.push(&Command::Dele(&smile), wire), Err(BadName::NotEncodable));
    }

    #[test]
    fn a_password_is_neither_shown_nor_able_to_carry_a_command() {
        let secret = Secret::new("geheim");
        let mut batch = Batch::default();
        batch.push(&Command::Pass(&secret), Wire::default()).unwrap();
        assert_eq!(batch.shown(), ["PASS ***"]);
        assert_eq!(
            batch.push(&Command::Pass(&Secret::new("a\r\nDELE b")), Wire::default()),
            Err(BadName::Forbidden)
        );
        assert_eq!(batch.push(&Command::User("a\nb"), Wire::default()), Err(BadName::Forbidden));
        assert_eq!(batch.bytes(), b"PASS geheim\r\n");
    }

    #[test]
    fn times_are_utc_to_the_second() {
        assert_eq!(timestamp(UNIX_EPOCH), "19700101000000");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(1_577_934_245_999)), "20200102030405");
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_millis(500)), "19691231235959");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(951_782_400)), "20000229000000");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(u64::MAX >> 2)), "99991231235959");
    }

    #[test]
    fn modes_are_octal() {
        let path = RemotePath::parse(b"/a").unwrap();
        let mut batch = Batch::default();
        batch.push(&Command::SiteChmod(0o100_644, &path), Wire::default()).unwrap();
        batch.push(&Command::SiteChmod(0o4755, &path), Wire::default()).unwrap();
        batch.push(&Command::SiteChmod(0, &path), Wire::default()).unwrap();
        assert_eq!(batch.bytes(), b"SITE CHMOD 644 /a\r\nSITE CHMOD 4755 /a\r\nSITE CHMOD 000 /a\r\n");
    }
}
