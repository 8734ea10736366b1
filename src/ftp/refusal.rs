//! What a refusal means: from the code and the words of a reply to [`Refusal`]. Pure.
//!
//! FTP has one code, 550, for "no such file", "no permission", "exists" and "not empty"; only the words differ, and each
//! server has its own. The table here is measured on thirteen servers. The path that a server repeats in its text is
//! taken out first: a file may be called `Permission denied`. When the words say nothing (vsftpd's `550 Failed to open
//! file.`) the answer is [`Refusal::Unclear`], and whoever asked must look at a listing.

use super::error::{Error, Refusal};
use super::path::RemotePath;
use super::reply::Reply;

/// The error for a 4xx or 5xx reply to `command`, which was about `paths`.
pub fn refused(command: &'static str, reply: Reply, paths: &[&RemotePath]) -> Error {
    let meaning = meaning(&reply, paths);
    match reply.code {
        421 => Error::Lost { during: command, text: reply.to_string() },
        // vsftpd's last words before it dies.
        500 if reply.words().contains("oops:") => Error::Lost { during: command, text: reply.to_string() },
        500 | 502 | 504 if meaning == Refusal::Unclear => Error::Unsupported { command },
        code if code >= 400 => Error::Refused { command, meaning, reply },
        _ => Error::Protocol { text: format!("{command} was answered with {reply}") },
    }
}

/// What the words of a reply mean once the paths are out of them.
pub fn meaning(reply: &Reply, paths: &[&RemotePath]) -> Refusal {
    let text = without_paths(reply, paths);
    if let Some((_, meaning)) = WORDS.iter().find(|(words, _)| words.iter().any(|w| text.contains(w))) {
        return *meaning;
    }
    match reply.code {
        452 => Refusal::NoSpace,
        552 => Refusal::Quota,
        _ => Refusal::Unclear,
    }
}

/// Whether a reply to connecting or logging in says that there are too many sessions, not that the login is wrong, or was so too
/// often: the password must not be sent again then.
pub fn says_too_many(reply: &Reply) -> bool {
    let text = reply.words();
    TOO_MANY.iter().any(|words| text.contains(words)) && !TOO_OFTEN.iter().any(|words| text.contains(words))
}

/// Whether a reply says that this server wants TLS first (its texts: ProFTPD, pyftpdlib, Pure-FTPd, libunftp, vsftpd).
pub fn wants_tls(reply: &Reply) -> bool {
    let text = reply.words();
    reply.code == 534 || WANTS_TLS.iter().any(|words| text.contains(words))
}

fn without_paths(reply: &Reply, paths: &[&RemotePath]) -> String {
    let mut text = reply.words();
    let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
    // Longest first, so that taking out a folder does not leave half of its file behind.
    let mut echoes: Vec<String> = Vec::new();
    for path in paths {
        let whole = lower(path.as_bytes());
        echoes.push(whole.trim_start_matches('/').to_owned());
        echoes.push(whole);
        echoes.extend(path.name().map(|name| lower(name.as_bytes())));
    }
    echoes.sort_by_key(|echo| std::cmp::Reverse(echo.len()));
    for echo in echoes {
        // What is that short cannot hold words of the table.
        if echo.len() <= 2 {
            continue;
        }
        let misleads = WORDS.iter().any(|(words, _)| words.iter().any(|w| echo.contains(w)));
        text = if echo.contains('/') || misleads {
            text.replace(&echo, " ")
        } else {
            // `file` is a name, too: it must not be taken out of the words themselves.
            without_name(&text, &echo)
        };
    }
    text
}

/// The text without a name, where it can be nothing else: in quotes, behind a slash, or in front of everything and a colon.
fn without_name(text: &str, name: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(name) {
        kept.push_str(before);
        let is_first = kept.is_empty() && after.starts_with(':');
        let is_name = is_first || kept.ends_with(['/', '\'', '"', '`', '<']);
        kept.push_str(if is_name { " " } else { name });
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// In this order: the first that matches counts, so the more telling words stand above the more general ones.
const WORDS: &[(&[&str], Refusal)] = &[
    // ftp-srv puts the errno's name in front.
    (&["enoent"], Refusal::NotFound),
    (&["eacces"], Refusal::Denied),
    (&["eperm"], Refusal::NotPermitted),
    (&["enotempty"], Refusal::NotEmpty),
    (&["eexist"], Refusal::Exists),
    (&["eisdir"], Refusal::IsDirectory),
    (&["enotdir"], Refusal::NotDirectory),
    (&["enospc"], Refusal::NoSpace),
    (&["edquot"], Refusal::Quota),
    (&["enametoolong"], Refusal::NameTooLong),
    (&["exdev"], Refusal::CrossDevice),
    (&["eloop"], Refusal::Loop),
    (&["ebusy"], Refusal::Busy),
    (&["not empty"], Refusal::NotEmpty),
    (&["not a directory"], Refusal::NotDirectory),
    (
        &[
            "is a directory",
            "not a plain file",
            "not a regular file",
            "only retrieve regular files",
            "not a file",
        ],
        Refusal::IsDirectory,
    ),
    (&["no space", "insufficient storage", "disk full", "not enough space"], Refusal::NoSpace),
    (&["quota"], Refusal::Quota),
    (
        &["name too long", "name is too long", "path too long", "line too long", "command too long"],
        Refusal::NameTooLong,
    ),
    (&["cross-device"], Refusal::CrossDevice),
    (&["too many levels"], Refusal::Loop),
    (&["busy", "being used by another process"], Refusal::Busy),
    (
        &[
            "no such file",
            "not found",
            "cannot find the",
            "does not exist",
            "doesn't exist",
            "does not exists",
            "no such directory",
            "no such path",
            "non-existing",
            "nonexistent",
            "missing",
        ],
        Refusal::NotFound,
    ),
    (&["operation not permitted"], Refusal::NotPermitted),
    (
        &[
            "permission denied",
            "no permission",
            "access is denied",
            "access denied",
            "forbidden",
            "prohibited",
            "insufficient privileges",
            "not enough privileges",
            "read-only",
        ],
        Refusal::Denied,
    ),
    (&["exists"], Refusal::Exists),
];

/// vsftpd, ProFTPD, Pure-FTPd, FileZilla, pyftpdlib, aioftp, Apache and others, at connect or after PASS.
const TOO_OFTEN: &[&str] = &["attempt", "fail", "incorrect", "wrong", "invalid", "authentication"];

const TOO_MANY: &[&str] = &[
    "too many",
    "maximum number",
    "maximum login limit",
    "the maximum)",
    "can't accept more than",
    "connection limit",
    "session limit",
    "no more connections",
    "limit reached",
    "limit exceeded",
    "already connected",
    "user limit",
    "server is full",
];

/// How a server says it on USER, PASS or a transfer.
const WANTS_TLS: &[&str] = &[
    "cleartext",
    "clear text",
    "must use encryption",
    "ssl/tls required",
    "tls required",
    "requires tls",
    "must use tls",
    "use explicit ftp over tls",
    "secure connection",
    "must be encrypted",
    "insecure",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply { code, lines: vec![text.as_bytes().to_vec()] }
    }

    #[test]
    fn the_words_of_real_servers_are_understood() {
        let path = RemotePath::parse(b"/lst/nosuch").unwrap();
        for (code, text, expected) in [
            (550, "/lst/nosuch: No such file or directory", Refusal::NotFound),
            (550, "Can't check for file existence", Refusal::Unclear),
            (550, "Failed to open file.", Refusal::Unclear),
            (451, "ENOENT: no such file or directory, stat '/lst/nosuch'", Refusal::NotFound),
            (501, "No such directory.", Refusal::NotFound),
            (550, "I can only retrieve regular files", Refusal::IsDirectory),
            (550, "/lst/nosuch: not a plain file.", Refusal::IsDirectory),
            (550, "p: Directory not empty", Refusal::NotEmpty),
            (550, "path already exists", Refusal::Exists),
            (550, "path does not exists", Refusal::NotFound),
            (451, "Rename: Invalid cross-device link", Refusal::CrossDevice),
            (452, "Error writing file.", Refusal::NoSpace),
            (552, "won't be saved", Refusal::Quota),
            (550, "Operation not permitted", Refusal::NotPermitted),
            (553, "Prohibited file name: a\\b", Refusal::Denied),
        ] {
            assert_eq!(meaning(&reply(code, text), &[&path]), expected, "{text}");
        }
    }

    #[test]
    fn a_file_name_is_not_taken_for_the_reason() {
        let path = RemotePath::parse(b"/d/Permission denied").unwrap();
        let said = reply(550, "/d/Permission denied: No such file or directory");
        assert_eq!(meaning(&said, &[&path]), Refusal::NotFound);
        assert_eq!(meaning(&reply(550, "Could not open Permission denied"), &[&path]), Refusal::Unclear);
    }

    #[test]
    fn a_file_name_is_not_taken_out_of_the_reason() {
        for (name, text, expected) in [
            ("/d/file", "/d/file: No such file or directory", Refusal::NotFound),
            ("/file", "file: No such file or directory", Refusal::NotFound),
            ("/d/such", "Could not delete \"such\": no such file", Refusal::NotFound),
            ("/d/directory", "d/directory: Not a directory", Refusal::NotDirectory),
            ("/a/directory", "'directory': Directory not empty", Refusal::NotEmpty),
            ("/denied", "Permission denied", Refusal::Denied),
            ("/d/space", "space: No space left on device", Refusal::NoSpace),
            ("/d/not found", "Cannot open not found", Refusal::Unclear),
        ] {
            let path = RemotePath::parse(name.as_bytes()).unwrap();
            assert_eq!(meaning(&reply(550, text), &[&path]), expected, "{name}: {text}");
        }
    }

    #[test]
    fn unknown_commands_and_ends_of_sessions_are_no_refusals() {
        assert!(matches!(refused("MLSD", reply(500, "Unknown command."), &[]), Error::Unsupported { .. }));
        assert!(matches!(refused("SIZE", reply(421, "Timeout."), &[]), Error::Lost { .. }));
        assert!(matches!(refused("LIST", reply(500, "OOPS: child died"), &[]), Error::Lost { .. }));
        let long = refused("RETR", reply(500, "Command line too long"), &[]);
        assert_eq!(long.refusal(), Some(Refusal::NameTooLong));
    }

    #[test]
    fn a_full_server_is_not_a_wrong_password() {
        assert!(says_too_many(&reply(
            530,
            "Sorry, the maximum number of clients (2) from your host are already connected."
        )));
        assert!(says_too_many(&reply(421, "2 users (the maximum) are already logged in, sorry")));
        assert!(!says_too_many(&reply(530, "Login incorrect.")));
        assert!(!says_too_many(&reply(530, "Too many login failures, account locked.")));
    }
}
