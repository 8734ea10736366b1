//! Names on servers that do not speak UTF-8: one encoding for the whole server, converted where names meet the wire.
//!
//! Inside ftpfs, and in the mount, names are UTF-8. With `codepage=` they are encoded when a command is rendered
//! ([`Codepage::encode`], called by `command` only) and decoded when a listing or a reply to PWD is read ([`Codepage::decode`]);
//! nothing in between knows of it. What is listed must be what can be opened, so a name is decoded only if encoding it
//! again gives the same bytes. One that does not (it is in another encoding, or broken) keeps its raw bytes, which are sent
//! back raw: those are never UTF-8, so neither kind is taken for the other. A raw name that happens to be UTF-8 could not be
//! told apart and is left out of the listing. What the encoding has no letter for is refused, never replaced. Pure: no I/O.

use std::borrow::Cow;

use encoding_rs::{BIG5, EUC_KR, Encoding, GBK, SHIFT_JIS};

use super::path::BadName;

/// The encoding of a server's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codepage(&'static Encoding);

impl Codepage {
    /// By its name, as the web (WHATWG), iconv or Windows have it. None when it is not known, or cannot stand in a command:
    /// UTF-16 holds NULs, and in ISO-2022-JP a byte of a letter may be a slash.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        let encoding = match name.as_str() {
            "cp932" | "932" => SHIFT_JIS,
            "cp936" | "936" => GBK,
            "cp949" | "949" | "uhc" => EUC_KR,
            "cp950" | "950" => BIG5,
            name => {
                let windows = name.strip_prefix("cp").unwrap_or(name);
                let windows = windows.parse::<u16>().ok().map(|number| format!("windows-{number}"));
                let known = Encoding::for_label_no_replacement(name.as_bytes());
                known.or_else(|| Encoding::for_label_no_replacement(windows?.as_bytes()))?
            }
        };
        encoding.is_ascii_compatible().then_some(Self(encoding))
    }

    /// A path or name as the server wants it. Errors: a letter that this encoding does not have.
    pub fn encode(self, path: &[u8]) -> Result<Vec<u8>, BadName> {
        let mut encoded = Vec::with_capacity(path.len());
        for (index, name) in path.split(|&b| b == b'/').enumerate() {
            if index > 0 {
                encoded.push(b'/');
            }
            encoded.extend_from_slice(&self.encode_name(name)?);
        }
        Ok(encoded)
    }

    /// A name from a listing as the mount shows it; none when it could not be sent back.
    pub fn decode(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        let text = self.0.decode_without_bom_handling_and_without_replacement(name);
        if let Some(text) = text
            && self.encode_name(text.as_bytes()).is_ok_and(|again| *again == *name)
        {
            return Some(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        std::str::from_utf8(name).is_err().then_some(Cow::Borrowed(name))
    }

    /// A path, name by name; none when one of them could not be sent back.
    pub fn decode_path(self, path: &[u8]) -> Option<Vec<u8>> {
        // Every byte of a slash is a slash: no encoding taken here uses it in another letter.
        let names: Option<Vec<_>> = path.split(|&b| b == b'/').map(|name| self.decode(name)).collect();
        Some(names?.join(&b'/'))
    }

    fn encode_name(self, name: &[u8]) -> Result<Cow<'_, [u8]>, BadName> {
        let Ok(text) = std::str::from_utf8(name) else { return Ok(Cow::Borrowed(name)) };
        let (encoded, _, is_lossy) = self.0.encode(text);
        if is_lossy {
            return Err(BadName::NotEncodable);
        }
        let has_slash = encoded.contains(&b'/') != name.contains(&b'/');
        match encoded {
            _ if has_slash => Err(BadName::Forbidden),
            Cow::Borrowed(bytes) => Ok(Cow::Owned(bytes.to_vec())),
            Cow::Owned(bytes) => Ok(Cow::Owned(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went() {
        for (codepage, text, wire) in [
            ("gbk", "中文.txt", &b"\xd6\xd0\xce\xc4.txt"[..]),
            ("cp936", "中", b"\xd6\xd0"),
            ("shift_jis", "表.txt", b"\x95\x5c.txt"),
            ("cp949", "한글", b"\xc7\xd1\xb1\xdb"),
            ("cp1251", "файл", b"\xf4\xe0\xe9\xeb"),
            ("windows-1251", "ф", b"\xf4"),
            ("1251", "ф", b"\xf4"),
            ("iso-8859-1", "ümläut", b"\xfcml\xe4ut"),
            ("latin1", "a b", b"a b"),
            ("big5", "中", b"\xa4\xa4"),
            ("koi8-r", "ф", b"\xc6"),
        ] {
            let codepage = Codepage::named(codepage).unwrap();
            assert_eq!(codepage.encode(text.as_bytes()).unwrap(), wire, "{text}");
            assert_eq!(codepage.decode(wire).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_has_no_letter_is_refused_and_what_cannot_be_decoded_stays_raw() {
        let gbk = Codepage::named("gbk").unwrap();
        assert_eq!(gbk.encode("/中/🙂".as_bytes()), Err(BadName::NotEncodable));
        for raw in [&b"\xff"[..], b"a\xd6", b"\x81\x20"] {
            assert_eq!(gbk.decode(raw).as_deref(), Some(raw));
            assert_eq!(gbk.encode(raw).unwrap(), raw);
        }
        // Beside a name in UTF-8 a raw one is still sent raw.
        assert_eq!(gbk.encode(b"/\xe4\xb8\xad/\xff").unwrap(), b"/\xd6\xd0/\xff");
        assert_eq!(gbk.decode_path(b"/\xd6\xd0/b").unwrap(), "/中/b".as_bytes());
    }

    #[test]
    fn whatever_is_decoded_is_encoded_to_the_same_bytes() {
        for name in
            ["gbk", "gb18030", "shift_jis", "cp949", "big5", "euc-jp", "cp1251", "iso-8859-1", "koi8-u"]
        {
            let codepage = Codepage::named(name).unwrap();
            for pair in 0..=u16::MAX {
                let bytes = pair.to_be_bytes();
                if let Some(decoded) = codepage.decode(&bytes)
                    && !bytes.contains(&b'/')
                {
                    assert_eq!(codepage.encode(&decoded).unwrap(), bytes, "{name} {bytes:x?} {decoded:x?}");
                }
            }
        }
    }

    #[test]
    fn encodings_that_cannot_stand_in_a_command_are_not_taken() {
        for name in ["utf-16", "utf-16le", "iso-2022-jp", "replacement", "nonsense", "cp99", ""] {
            assert_eq!(Codepage::named(name), None, "{name}");
        }
    }
}
