//! Any bytes, cut anywhere, read as replies of the control connection: no panic, the same replies however they are cut, bounded,
//! and whatever is taken out of their texts (ports, paths, sizes, times) is sound.

use ftpfs::ftp::RemotePath;
use ftpfs::ftp::codepage::Codepage;
use ftpfs::ftp::listing::parse_time;
use ftpfs::ftp::refusal;
use ftpfs::ftp::reply::{self, Parser, Reply};

/// One input.
pub fn run(data: &[u8]) {
    let Some((&chunk, bytes)) = data.split_first() else { return };
    let whole = replies(bytes, usize::MAX);
    assert_eq!(whole, replies(bytes, usize::from(chunk) + 1));
    let (whole, _) = whole;
    let path = RemotePath::parse(b"/folder/name").unwrap_or_else(|_| RemotePath::root());
    for reply in &whole {
        assert!(reply.code <= 999);
        assert!(reply.lines.iter().all(|line| !line.contains(&b'\n')));
        let _ = (reply.to_string(), reply.words(), reply.is_unknown_command());
        let first = reply.first();
        let _ = (reply::size(reply), parse_time(first));
        let _ = (refusal::meaning(reply, &[&path]), refusal::says_too_many(reply), refusal::wants_tls(reply));
        assert!(reply::extended_port(first) != Some(0));
        assert!(reply::passive_address(first).is_none_or(|(_, port)| port != 0));
        if let Some(quoted) = reply::quoted_path(first)
            && let Ok(path) = RemotePath::parse(&quoted)
        {
            assert!(path.as_bytes().starts_with(b"/"));
            assert!(!path.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
        }
        for codepage in ["gbk", "shift_jis", "cp1251"].iter().filter_map(|name| Codepage::named(name)) {
            let Some(decoded) = codepage.decode_path(first) else { continue };
            assert_eq!(codepage.encode(&decoded).as_deref(), Ok(first));
        }
    }
}

/// The replies up to the first that is malformed.
fn replies(bytes: &[u8], chunk: usize) -> (Vec<Reply>, bool) {
    let mut parser = Parser::default();
    let mut replies = Vec::new();
    for piece in bytes.chunks(chunk) {
        parser.push(piece);
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}
