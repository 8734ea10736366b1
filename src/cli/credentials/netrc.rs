//! `~/.netrc`, as ftp(1) and curl read it: `machine HOST login USER password WORD account WORD`, `default`, `macdef`.

use super::Partial;
use crate::ftp::config::Secret;

/// The first entry for this host; when the user is known, the first for this host and user (or for any user).
pub(super) fn lookup(content: &[u8], host: &str, user: Option<&str>) -> Option<Partial> {
    let fits = |found: &Partial| match (user, &found.user) {
        (Some(wanted), Some(login)) => wanted == login,
        _ => true,
    };
    let mut words = Words { rest: content };
    // The entry being read, when it is for this host.
    let mut entry: Option<Partial> = None;
    while let Some(word) = words.next() {
        match word.as_slice() {
            b"machine" | b"default" => {
                if let Some(found) = entry.take().filter(fits) {
                    return Some(found);
                }
                let matches = word == b"default"
                    || words.next().is_some_and(|name| name.eq_ignore_ascii_case(host.as_bytes()));
                entry = matches.then(Partial::default);
            }
            b"macdef" => words.skip_macro(),
            b"login" | b"user" => {
                let value = words.next().and_then(|name| String::from_utf8(name).ok());
                if let Some(entry) = &mut entry {
                    entry.user = value;
                }
            }
            b"password" | b"passwd" => {
                let value = words.next().map(Secret::new);
                if let Some(entry) = &mut entry {
                    entry.password = value;
                }
            }
            b"account" => {
                let value = words.next().map(Secret::new);
                if let Some(entry) = &mut entry {
                    entry.account = value;
                }
            }
            _ => {}
        }
    }
    entry.filter(fits)
}

/// Words between blanks; `"quoted words"` may hold blanks and escapes; `#` at the start of a word begins a comment.
struct Words<'a> {
    rest: &'a [u8],
}

impl Words<'_> {
    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        let end = self.rest.windows(2).position(|pair| pair == b"\n\n");
        self.rest = end.and_then(|at| self.rest.get(at + 2..)).unwrap_or_default();
    }

    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }
}

impl Iterator for Words<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first()? != &b'#' {
                break;
            }
            let end = self.rest.iter().position(|&b| b == b'\n').unwrap_or(self.rest.len());
            self.rest = self.rest.get(end..).unwrap_or_default();
        }
        let mut word = Vec::new();
        let quoted = self.rest.first() == Some(&b'"');
        if quoted {
            self.take();
        }
        while let Some(byte) = self.take() {
            match byte {
                b'"' if quoted => break,
                b'\\' if quoted => word.push(match self.take()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                }),
                blank if !quoted && blank.is_ascii_whitespace() => break,
                byte => word.push(byte),
            }
        }
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(content: &str, host: &str, user: Option<&str>) -> Option<(String, String)> {
        lookup(content.as_bytes(), host, user).map(|entry| {
            let password =
                entry.password.map_or("-".into(), |p| String::from_utf8_lossy(p.reveal()).into_owned());
            (entry.user.unwrap_or_else(|| "-".into()), password)
        })
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.into(), password.into()))
    }

    const SAMPLE: &str = "# comment with machine h login no\n\
        machine one.example\n\tlogin joe password p1\n\
        macdef init\nmachine h password no\n\nmachine h login a password pa machine h login b password pb\n\
        machine q login x password \"with \\\"blank #\" account acc\ndefault login anonymous password me@";

    #[test]
    fn entries_are_found_by_host_and_user() {
        assert_eq!(found(SAMPLE, "ONE.example", None), pair("joe", "p1"));
        assert_eq!(found(SAMPLE, "h", None), pair("a", "pa"));
        assert_eq!(found(SAMPLE, "h", Some("b")), pair("b", "pb"));
        assert_eq!(found(SAMPLE, "q", None), pair("x", "with \"blank #"));
    }

    #[test]
    fn the_default_serves_everybody_it_fits() {
        assert_eq!(found(SAMPLE, "other", None), pair("anonymous", "me@"));
        assert_eq!(found(SAMPLE, "other", Some("joe")), None);
        assert_eq!(found("machine h password x", "h", Some("joe")), pair("-", "x"));
    }

    #[test]
    fn broken_files_do_no_harm() {
        for text in ["", "machine", "machine h login", "machine h password \"open", "macdef x", "\"\\", "#"] {
            let _ = found(text, "h", None);
        }
    }
}
