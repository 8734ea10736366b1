//! Replies of the control connection (RFC 959 section 4.2): bytes in, [`Reply`] out. Pure: no I/O.
//!
//! Servers disagree about nearly everything but the first digit, so little is demanded: a reply begins with three
//! digits; `ddd-` opens a reply of several lines that ends with a line `ddd ` (or a bare `ddd`); what stands between is
//! free text, which may begin with blanks, with other digits, or with nothing. Lines end with LF, with or without CR.
//! What is hostile is bounded: a line by [`MAX_LINE`], a whole reply by [`MAX_REPLY`].

use std::fmt;

/// One complete reply: its code and its lines without the code, CR and LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// 1xx: the transfer has begun, another reply follows.
    pub fn is_preliminary(&self) -> bool {
        self.code / 100 == 1
    }

    /// 2xx: done.
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: the server waits for the next command of a sequence (PASS, RETR after REST, RNTO).
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 500, 502, 504: this server does not know the command. Never test for one of them alone.
    pub fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500 | 502 | 504)
    }

    /// The first line: where 227, 229, 257 and 213 carry their value. Empty when there is none.
    pub fn first(&self) -> &[u8] {
        self.lines.first().map_or(&[], Vec::as_slice)
    }

    /// All lines in lower case, joined by blanks: for looking at words.
    pub fn words(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&String::from_utf8_lossy(line).to_lowercase());
            text.push(' ');
        }
        text
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for (index, line) in self.lines.iter().enumerate() {
            let separator = if index == 0 { " " } else { " | " };
            write!(f, "{separator}{}", printable(line))?;
        }
        Ok(())
    }
}

/// Turns the stream of the control connection into replies, in whatever pieces it arrives.
#[derive(Default)]
pub struct Parser {
    buffer: Vec<u8>,
    /// How much of `buffer` has been taken.
    taken: usize,
    /// The reply of several lines that is still open.
    open: Option<Reply>,
    /// Bytes of the open reply so far.
    size: usize,
    /// What stands between the first and the last line of a reply is not kept with it, but here (a listing by STAT).
    text: Option<Vec<u8>>,
}

impl Parser {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// From now on (or no longer) the lines between the first and the last of a reply go to [`Parser::take_text`], with an LF
    /// behind each: they may be many more than a reply may have.
    pub fn set_text_apart(&mut self, apart: bool) {
        self.text = apart.then(Vec::new);
    }

    /// The text between first and last line that has come since the last call.
    pub fn take_text(&mut self) -> Vec<u8> {
        self.text.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The next complete reply, if there is one.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, Malformed> {
        loop {
            let Some(rest) = self.buffer.get(self.taken..) else { return Ok(None) };
            let Some(end) = rest.iter().position(|&b| b == b'\n') else {
                return if rest.len() > MAX_LINE { Err(Malformed::TooLong) } else { Ok(None) };
            };
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            let before = self.size;
            self.taken += end + 1;
            self.size += end + 1;
            if line.len() > MAX_LINE || self.size > MAX_REPLY {
                return Err(Malformed::TooLong);
            }
            match self.take_line(line)? {
                Taken::Reply(reply) => {
                    self.size = 0;
                    return Ok(Some(reply));
                }
                Taken::Line => {}
                // Whoever takes it bounds it.
                Taken::Apart => self.size = before,
            }
        }
    }

    /// Whether more may be pushed before replies are taken out.
    pub fn has_room(&self) -> bool {
        self.buffer.len() - self.taken < MAX_REPLY
    }

    /// Whether bytes are waiting that do not belong to a reply already handed out.
    pub fn has_leftovers(&self) -> bool {
        self.open.is_some() || self.taken < self.buffer.len()
    }

    fn take_line(&mut self, line: Vec<u8>) -> Result<Taken, Malformed> {
        let head = head(&line);
        let text = || line.get(4..).unwrap_or_default().to_vec();
        let Some(open) = &mut self.open else {
            return match head {
                // Some servers put an empty line before or between replies.
                None if line.is_empty() => Ok(Taken::Line),
                None => Err(Malformed::NoCode(line)),
                Some((code, true)) => {
                    self.open = Some(Reply { code, lines: vec![text()] });
                    Ok(Taken::Line)
                }
                Some((code, false)) => Ok(Taken::Reply(Reply { code, lines: vec![text()] })),
            };
        };
        match head {
            Some((code, false)) if code == open.code => {
                open.lines.push(text());
                Ok(self.open.take().map_or(Taken::Line, Taken::Reply))
            }
            Some((code, true)) if code == open.code => {
                open.lines.push(text());
                Ok(Taken::Line)
            }
            _ => match &mut self.text {
                Some(text) => {
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                    Ok(Taken::Apart)
                }
                None => {
                    open.lines.push(line);
                    Ok(Taken::Line)
                }
            },
        }
    }
}

/// What became of a line.
enum Taken {
    /// The last one of this reply.
    Reply(Reply),
    /// It is kept until the reply is complete.
    Line,
    /// It is kept apart from the reply.
    Apart,
}

/// Why the stream cannot be replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line without a code where a reply should begin.
    NoCode(Vec<u8>),
    /// A line or a reply beyond all measure.
    TooLong,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode(line) => write!(f, "not a reply: {}", printable(line.get(..80).unwrap_or(line))),
            Self::TooLong => f.write_str("a reply without end"),
        }
    }
}

/// The path in a 257 reply (PWD, MKD): between quotes, with inner quotes doubled by some servers and not by others.
pub fn quoted_path(line: &[u8]) -> Option<Vec<u8>> {
    let start = line.iter().position(|&b| b == b'"')? + 1;
    let mut path = Vec::new();
    let mut rest = line.get(start..)?;
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail.first()) {
            (b'"', Some(b'"')) => {
                path.push(b'"');
                rest = tail.get(1..).unwrap_or_default();
            }
            (b'"', None | Some(b' ' | b'.')) => return Some(path),
            _ => {
                path.push(byte);
                rest = tail;
            }
        }
    }
    None
}

/// The port in a 229 reply (RFC 2428 section 3): `(|||port|)`, whatever the delimiter.
pub fn extended_port(line: &[u8]) -> Option<u16> {
    let open = line.iter().position(|&b| b == b'(')? + 1;
    let inner = line.get(open..)?;
    let inner = inner.get(..inner.iter().position(|&b| b == b')')?)?;
    let delimiter = *inner.first()?;
    let mut fields = inner.split(|&b| b == delimiter).skip(3);
    u16::try_from(number(fields.next()?)?).ok().filter(|&port| may_carry_data(port))
}

/// Whether a server may mean this port for data. Those of a system's own services (SSH, SMTP, ...) are none: whoever names one wants
/// what we send to go there. 20 is FTP's own.
fn may_carry_data(port: u16) -> bool {
    port == FTP_DATA || port >= FIRST_FREE_PORT
}

/// Address and port in a 227 reply: six numbers separated by commas, wherever they stand in the line.
pub fn passive_address(line: &[u8]) -> Option<([u8; 4], u16)> {
    let mut numbers: Vec<u8> = Vec::new();
    for field in line
        .split(|b| !b.is_ascii_digit() && *b != b',')
        .find(|f| f.iter().filter(|&&b| b == b',').count() == 5)?
        .split(|&b| b == b',')
    {
        numbers.push(u8::try_from(number(field)?).ok()?);
    }
    match *numbers.as_slice() {
        [a, b, c, d, high, low] => {
            let port = u16::from_be_bytes([high, low]);
            may_carry_data(port).then_some(([a, b, c, d], port))
        }
        _ => None,
    }
}

/// The value of a 213 reply to SIZE (RFC 3659 section 4).
pub fn size(reply: &Reply) -> Option<u64> {
    if reply.code == 213 { number(reply.first().trim_ascii()) } else { None }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The code at the start of a line, and whether it says that more lines follow.
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let (&[a, b, c], rest) = line.split_first_chunk::<3>()?;
    let more = match rest.first() {
        None | Some(b' ') => false,
        Some(b'-') => true,
        _ => return None,
    };
    if !(b'1'..=b'6').contains(&a) || !b.is_ascii_digit() || !c.is_ascii_digit() {
        return None;
    }
    Some((u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'), more))
}

/// A line as it may go to a log or a terminal: no control characters.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Longest line: a path of 4096 bytes, quotes doubled, and words around it.
const MAX_LINE: usize = 16 * 1024;
/// Longest reply: banners and FEAT stay far below; of a listing by STAT only the first and the last line count.
const MAX_REPLY: usize = 256 * 1024;

const FTP_DATA: u16 = 20;
/// Below are the ports that only a system's own services may take.
const FIRST_FREE_PORT: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Reply> {
        let mut parser = Parser::default();
        let mut replies = Vec::new();
        for byte in bytes {
            parser.push(&[*byte]);
            while let Some(reply) = parser.next_reply().unwrap() {
                replies.push(reply);
            }
        }
        assert!(!parser.has_leftovers());
        replies
    }

    #[test]
    fn replies_of_one_line_come_in_any_pieces() {
        let replies = all(b"220 hello\r\n331 user\n230\r\n");
        assert_eq!(replies.iter().map(|r| r.code).collect::<Vec<_>>(), [220, 331, 230]);
        assert_eq!(replies[0].first(), b"hello");
        assert_eq!(replies[2].to_string(), "230 ");
    }

    #[test]
    fn a_reply_of_several_lines_ends_with_its_own_code_and_a_blank() {
        let replies = all(b"211-Features:\r\n SIZE\r\n212 no end\r\n211-more\r\n\r\n211 End\r\n200 ok\r\n");
        assert_eq!(replies.len(), 2);
        assert_eq!(replies[0].lines, [&b"Features:"[..], b" SIZE", b"212 no end", b"more", b"", b"End"]);
    }

    #[test]
    fn the_text_of_a_listing_is_kept_apart_and_may_be_long() {
        let mut parser = Parser::default();
        parser.set_text_apart(true);
        parser.push(b"213-Status follows:\r\n");
        parser.push(&b"-rw-r--r-- x\r\n".repeat(MAX_REPLY / 8));
        assert_eq!(parser.next_reply(), Ok(None));
        assert_eq!(parser.take_text(), b"-rw-r--r-- x\n".repeat(MAX_REPLY / 8));
        parser.push(b"213 End\r\n350 ok\r\n");
        let reply = parser.next_reply().unwrap().unwrap();
        assert_eq!(reply.lines, [&b"Status follows:"[..], b"End"]);
        assert!(parser.take_text().is_empty());
        assert_eq!(parser.next_reply().unwrap().unwrap().code, 350);
    }

    #[test]
    fn text_without_a_code_and_endless_text_are_refused() {
        let mut parser = Parser::default();
        parser.push(b"SSH-2.0-OpenSSH\r\n");
        assert!(matches!(parser.next_reply(), Err(Malformed::NoCode(_))));
        let mut parser = Parser::default();
        parser.push(&vec![b'2'; MAX_LINE + 1]);
        assert_eq!(parser.next_reply(), Err(Malformed::TooLong));
        let mut parser = Parser::default();
        parser.push(b"220-\r\n");
        parser.push(&b"x\r\n".repeat(MAX_REPLY));
        assert_eq!(parser.next_reply(), Err(Malformed::TooLong));
    }

    #[test]
    fn text_that_is_kept_apart_hides_no_reply_without_end() {
        let mut parser = Parser::default();
        parser.set_text_apart(true);
        let piece = b"213-more\r\n a line of a listing\r\n".repeat(100);
        let refused = (0..MAX_REPLY / 100).find_map(|_| {
            parser.push(&piece);
            let outcome = parser.next_reply();
            parser.take_text();
            outcome.err()
        });
        assert_eq!(refused, Some(Malformed::TooLong));
        // The listing itself may be as long as it likes.
        let mut parser = Parser::default();
        parser.set_text_apart(true);
        parser.push(b"213-Status\r\n");
        for _ in 0..100 {
            parser.push(&b" a line of a listing\r\n".repeat(MAX_REPLY / 1000));
            assert_eq!(parser.next_reply(), Ok(None));
        }
        parser.push(b"213 End\r\n");
        assert_eq!(parser.next_reply().unwrap().unwrap().lines, [b"Status".to_vec(), b"End".to_vec()]);
    }

    #[test]
    fn a_quoted_path_is_read_with_and_without_doubled_quotes() {
        assert_eq!(quoted_path(b"\"/a\" is the current directory").unwrap(), b"/a");
        assert_eq!(quoted_path(b"\"/names/q\"\"d\" is").unwrap(), b"/names/q\"d");
        assert_eq!(quoted_path(b"\"/names/q\"d\" is").unwrap(), b"/names/q\"d");
        assert_eq!(quoted_path(b"\"/\"").unwrap(), b"/");
        assert_eq!(quoted_path(b"created"), None);
        assert_eq!(quoted_path(b"\"/open"), None);
    }

    #[test]
    fn only_sound_ports_are_taken_from_passive_replies() {
        assert_eq!(extended_port(b"Entering Extended Passive Mode (|||22037|)"), Some(22037));
        assert_eq!(extended_port(b"ok (!!!20!)"), Some(20));
        for bad in [&b"(|||0|)"[..], b"(|||25|)", b"(|||65536|)", b"(|||)", b"()", b"", b"(|||-1|)", b"(|||1"]
        {
            assert_eq!(extended_port(bad), None, "{bad:?}");
        }
        assert_eq!(
            passive_address(b"Entering Passive Mode (127,0,0,1,85,252)."),
            Some(([127, 0, 0, 1], 22012))
        );
        assert_eq!(passive_address(b"ok 10,0,0,1,4,0"), Some(([10, 0, 0, 1], 1024)));
        for bad in [
            &b"(127,0,0,1,256,1)"[..],
            b"(127,0,0,1,0,0)",
            b"(127,0,0,1,0,22)",
            b"(1,2,3,4,5)",
            b"(1,2,3,4,5,6,7)",
            b"x",
            b"(,,,,,)",
        ] {
            assert_eq!(passive_address(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_size_is_a_213_with_a_plain_number() {
        let reply = |code, text: &[u8]| Reply { code, lines: vec![text.to_vec()] };
        assert_eq!(size(&reply(213, b"10 ")), Some(10));
        assert_eq!(size(&reply(213, b"18446744073709551615")), Some(u64::MAX));
        assert_eq!(size(&reply(213, b"18446744073709551616")), None);
        assert_eq!(size(&reply(213, b"-1")), None);
        assert_eq!(size(&reply(550, b"10")), None);
    }
}
