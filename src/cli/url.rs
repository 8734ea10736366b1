//! What is to be mounted: a URL, or `user@host:path` in the manner of sshfs.
//!
//! URLs are read as curl reads them (RFC 1738 section 3.2.2): `ftp://host/rel` lies below the login folder, `ftp://host//abs`
//! and `ftp://host/%2Fabs` are absolute. Everything is bytes until it must be text: a folder may be named in any encoding.
//! Because a URL may hold a password, no message from here repeats the text that was given.

use std::ffi::OsStr;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use crate::ftp::config::{Folder, Secret};
use crate::percent;

/// A server and a folder on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    pub scheme: Scheme,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Name or address; IPv6 without brackets.
    pub host: String,
    pub port: Option<u16>,
    pub folder: Folder,
    /// As it was given, without the password: this is what mount(8) shows, and compares with fstab.
    pub shown: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// No encryption.
    Ftp,
    /// TLS from the first byte (implicit), port 990.
    Ftps,
    /// AUTH TLS (RFC 4217).
    Ftpes,
}

impl Scheme {
    /// RFC 959; IANA for implicit TLS.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Ftp | Self::Ftpes => 21,
            Self::Ftps => 990,
        }
    }
}

impl Source {
    /// Understands a URL, or `[user@]host:path`.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let text = text.as_bytes();
        let parts = Parts::of(text)?;
        let user =
            parts.user.clone().map(|range| decode_text(slice(text, range), "user name")).transpose()?;
        let password =
            parts.password.clone().map(|range| decode(slice(text, range), "password")).transpose()?;
        let (host, port) = host_and_port(slice(text, parts.host.clone()))?;
        let mut path = slice(text, parts.path.clone());
        let folder = if parts.is_url {
            // RFC 1738's transfer type: we transfer binary, always.
            if let Some(at) = path.len().checked_sub(";type=x".len())
                && path.get(at..at + 6).is_some_and(|tail| tail.eq_ignore_ascii_case(b";type="))
            {
                path = path.get(..at).unwrap_or_default();
            }
            folder(decode(path.strip_prefix(b"/").unwrap_or(path), "path")?)
        } else {
            refuse_control(path, "path")?;
            folder(path.to_vec())
        };
        let shown = show(&without_password(text, &parts));
        Ok(Self {
            scheme: parts.scheme,
            user,
            password: password.map(Secret::new),
            host,
            port,
            folder,
            shown,
        })
    }
}

/// Takes the password out of a URL: the text without it, and the password. None when there is none to take out.
pub fn take_password(text: &OsStr) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = text.as_bytes();
    let parts = Parts::of(text).ok()?;
    let password = slice(text, parts.password.clone()?);
    Some((without_password(text, &parts), percent::decode(password)?))
}

/// Where the parts of the text are.
struct Parts {
    scheme: Scheme,
    is_url: bool,
    user: Option<Range<usize>>,
    password: Option<Range<usize>>,
    /// With the port and the brackets.
    host: Range<usize>,
    /// In a URL with its leading slash.
    path: Range<usize>,
}

impl Parts {
    fn of(text: &[u8]) -> Result<Self, String> {
        let (scheme, start, has_scheme) = match find(text, b"://") {
            Some(end) => {
                let scheme = match text.get(..end).unwrap_or_default().to_ascii_lowercase().as_slice() {
                    b"ftp" => Scheme::Ftp,
                    b"ftps" => Scheme::Ftps,
                    b"ftpes" => Scheme::Ftpes,
                    _ => return Err("the URL must begin with ftp://, ftps:// or ftpes://".into()),
                };
                (scheme, end + 3, true)
            }
            None => (Scheme::Ftp, 0, false),
        };
        let rest = slice(text, start..text.len());
        let slash = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
        let authority = slice(rest, 0..slash);
        // The last @: many providers' user names are mail addresses, which people do not encode.
        let at = authority.iter().rposition(|&b| b == b'@');
        let (user, password) = match at {
            None => (None, None),
            Some(at) => match slice(authority, 0..at).iter().position(|&b| b == b':') {
                Some(colon) => (Some(start..start + colon), Some(start + colon + 1..start + at)),
                None => (Some(start..start + at), None),
            },
        };
        let host_start = start + at.map_or(0, |at| at + 1);
        let (host, path, is_url) = if has_scheme {
            (host_start..start + slash, start + slash..text.len(), true)
        } else {
            Self::without_scheme(text, host_start, start + slash)?
        };
        // ftp://joe:pa/ss@host/: what looks like a port is the beginning of a password.
        let looks_like_password = find(slice(text, host.clone()), b":").is_some() && at.is_none();
        if is_url && looks_like_password && slice(text, path.clone()).contains(&b'@') {
            let port = slice(text, host.clone()).rsplit(|&b| b == b':').next().unwrap_or_default();
            if !port.iter().all(u8::is_ascii_digit) {
                return Err("a / in a user name or a password must be written as %2F".into());
            }
        }
        if user.as_ref().is_some_and(|user| user.is_empty()) {
            return Err("the user name before @ is empty".into());
        }
        Ok(Self { scheme, is_url, user, password, host, path })
    }

    /// `host:path`, or `host/path` and plain `host`, which are URLs that lack their beginning.
    fn without_scheme(
        text: &[u8],
        host_start: usize,
        slash: usize,
    ) -> Result<(Range<usize>, Range<usize>, bool), String> {
        let after = slice(text, host_start..slash);
        let skip = if after.first() == Some(&b'[') { find(after, b"]").unwrap_or(0) } else { 0 };
        let Some(colon) = slice(after, skip..after.len()).iter().position(|&b| b == b':') else {
            return Ok((host_start..slash, slash..text.len(), true));
        };
        let colon = host_start + skip + colon;
        let between = slice(text, colon + 1..slash);
        if !between.is_empty() && between.iter().all(u8::is_ascii_digit) {
            return Err(
                "a number after the colon may be a port or a folder: write ftp://host:port/path for a port, \
                 host:./path for a folder"
                    .into(),
            );
        }
        Ok((host_start..colon, colon + 1..text.len(), false))
    }
}

fn host_and_port(text: &[u8]) -> Result<(String, Option<u16>), String> {
    let text = std::str::from_utf8(text).map_err(|_| "the host name is not text")?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("the ] after the IPv6 address is missing")?;
            let address = address.replace("%25", "%");
            let (number, _zone) = address.split_once('%').unwrap_or((&address, ""));
            number.parse::<Ipv6Addr>().map_err(|_| "what stands between [ and ] is no IPv6 address")?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or("only a port can follow the ]")?),
            };
            (address, port)
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address must stand in brackets: ftp://[::1]/".into());
            }
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if host.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return Err("a host name has no blanks and no control characters".into());
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return Err("the port is not a number from 1 to 65535".into()),
        },
    };
    Ok((host, port))
}

fn folder(path: Vec<u8>) -> Folder {
    if path.first() == Some(&b'/') { Folder::Absolute(path) } else { Folder::Login(path) }
}

fn without_password(text: &[u8], parts: &Parts) -> Vec<u8> {
    match &parts.password {
        None => text.to_vec(),
        Some(password) => {
            let mut clean = slice(text, 0..password.start.saturating_sub(1)).to_vec();
            clean.extend_from_slice(slice(text, password.end..text.len()));
            clean
        }
    }
}

/// Text for the table of mounts: what fusermount3 or a reader of /proc/mounts could take apart is encoded.
pub(super) fn show(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                ',' | '\\' | '"' | ' ' => shown.push_str(&format!("%{:02X}", u32::from(c))),
                c if c.is_control() => {
                    c.to_string().bytes().for_each(|b| shown.push_str(&format!("%{b:02X}")))
                }
                c => shown.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| shown.push_str(&format!("%{b:02X}")));
    }
    shown
}

fn decode(text: &[u8], what: &str) -> Result<Vec<u8>, String> {
    let plain = percent::decode(text).ok_or_else(|| {
        format!("the {what} has a % without two hexadecimal digits: a % itself is written %25")
    })?;
    refuse_control(&plain, what)?;
    Ok(plain)
}

fn decode_text(text: &[u8], what: &str) -> Result<String, String> {
    String::from_utf8(decode(text, what)?).map_err(|_| format!("the {what} is not UTF-8"))
}

/// They would end the command that carries them.
fn refuse_control(plain: &[u8], what: &str) -> Result<(), String> {
    if plain.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(format!("the {what} holds a line end or a NUL, which FTP cannot send"));
    }
    Ok(())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn slice(text: &[u8], range: Range<usize>) -> &[u8] {
    text.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Source, String> {
        Source::parse(OsStr::new(text))
    }

    fn good(text: &str) -> Source {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn login(path: &str) -> Folder {
        Folder::Login(path.into())
    }

    fn absolute(path: &str) -> Folder {
        Folder::Absolute(path.into())
    }

    #[test]
    fn a_full_url_is_taken_apart() {
        let source = good("ftp://joe:s%40crt@host.example:2121/some/my%20folder");
        assert_eq!(source.user.as_deref(), Some("joe"));
        assert_eq!(source.password, Some(Secret::new("s@crt")));
        assert_eq!((source.host.as_str(), source.port), ("host.example", Some(2121)));
        assert_eq!(source.folder, login("some/my folder"));
        assert_eq!(source.shown, "ftp://joe@host.example:2121/some/my%20folder");
    }

    #[test]
    fn paths_follow_curl() {
        assert_eq!(good("ftp://h").folder, login(""));
        assert_eq!(good("ftp://h/").folder, login(""));
        assert_eq!(good("ftp://h/a/b/").folder, login("a/b/"));
        assert_eq!(good("ftp://h//abs").folder, absolute("/abs"));
        assert_eq!(good("ftp://h/%2Fabs").folder, absolute("/abs"));
        assert_eq!(good("ftp://h//").folder, absolute("/"));
        assert_eq!(good("ftp://h/a;type=i").folder, login("a"));
        assert_eq!(good("ftp://h/a#b?c").folder, login("a#b?c"));
        assert_eq!(good("ftp://h/%ff").folder, Folder::Login(vec![0xff]));
    }

    #[test]
    fn schemes_choose_the_port() {
        let port = |text: &str| good(text).scheme.default_port();
        assert_eq!((port("FTP://h"), port("ftps://h"), port("ftpes://h")), (21, 990, 21));
        assert!(parse("http://h/").is_err_and(|e| e.contains("ftp://")));
        assert!(parse("sftp://h/").is_err());
    }

    #[test]
    fn addresses_with_colons_stand_in_brackets() {
        let source = good("ftp://joe@[::1]:2121/x");
        assert_eq!((source.host.as_str(), source.port), ("::1", Some(2121)));
        assert_eq!(good("ftp://[fe80::1%25eth0]/").host, "fe80::1%eth0");
        assert_eq!(good("joe@[::1]:dir").host, "::1");
        assert_eq!(good("joe@[::1]:dir").folder, login("dir"));
        for bad in ["ftp://::1/", "ftp://[::1/", "ftp://[::1]x/", "ftp://[host]/", "ftp://[::1]:/:"] {
            assert!(parse(bad).is_err() || bad == "ftp://[::1]:/:", "{bad}");
        }
    }

    #[test]
    fn the_manner_of_sshfs_works() {
        let source = good("joe@host:some/dir");
        assert_eq!((source.user.as_deref(), source.host.as_str()), (Some("joe"), "host"));
        assert_eq!(source.folder, login("some/dir"));
        assert_eq!(good("host:/abs/50%").folder, absolute("/abs/50%"));
        assert_eq!(good("host:").folder, login(""));
        assert_eq!(good("host:./2121").folder, login("./2121"));
        assert_eq!(good("host").host, "host");
        assert_eq!(good("joe@host/dir").folder, login("dir"));
        assert!(parse("host:2121/x").is_err_and(|e| e.contains("ftp://host:port")));
    }

    #[test]
    fn user_names_may_be_mail_addresses() {
        let source = good("ftp://joe@example.com:pw:with:colons@host/");
        assert_eq!(source.user.as_deref(), Some("joe@example.com"));
        assert_eq!(source.password, Some(Secret::new("pw:with:colons")));
        assert_eq!(source.shown, "ftp://joe@example.com@host/");
        assert_eq!(good("ftp://joe:@host/").password, Some(Secret::new("")));
        assert_eq!(good("ftp://joe:p@ss@host/").password, Some(Secret::new("p@ss")));
    }

    #[test]
    fn passwords_are_taken_out_and_never_repeated() {
        let take = |text: &str| take_password(OsStr::new(text)).map(|(a, b)| (a.to_vec(), b));
        assert_eq!(take("ftp://joe:pw@h:21/x"), Some((b"ftp://joe@h:21/x".to_vec(), b"pw".to_vec())));
        assert_eq!(take("joe:pw@h/x"), Some((b"joe@h/x".to_vec(), b"pw".to_vec())));
        assert_eq!(take("ftp://joe@h/x"), None);
        assert_eq!(take("/mnt/x"), None);
        for bad in ["ftp://joe:top/secret@h/", "ftp://joe:topsecret@h:x/", "ftp://joe:topsecret%zz@h/"] {
            let error = parse(bad).expect_err("bad");
            assert!(!error.contains("secret") && !error.contains("top"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for bad in ["ftp://h/a%0d%0aDELE%20x", "ftp://h/%00", "ftp://a%0ab@h/", "ftp://a:%0d@h/", "ftp://h/%"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "ftp://",
            "ftp:///x",
            "ftp://@h/",
            "ftp://h:0/",
            "ftp://h:65536/",
            "ftp://h:+1/",
            "ftp://a b/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_cannot_break_a_table() {
        assert_eq!(good("ftp://h/a,b\\c d").shown, "ftp://h/a%2Cb%5Cc%20d");
        assert_eq!(good("ftp://h/ü").shown, "ftp://h/ü");
    }
}
