//! `-o opt,opt=value`: what mount(8), sshfs, curlftpfs, davfs2 and NFS users write there.
//!
//! One table (in [`table`]) drives parsing and help. Every name in it is set, or accepted quietly because what it asks for is
//! the case anyway or means nothing here (said at debug level), or refused with the reason. A name that is not in the
//! table is an error: an option that silently does nothing is how data gets lost.

mod help;
#[cfg(test)]
mod known_names;
mod table;
mod values;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

pub use self::help::{explained, full_help, help};
use self::table::TABLE;
use crate::ftp::codepage::Codepage;
use crate::ftp::config::{DataPolicy, ListPolicy, Secret, Tls};
use crate::ftp::proxy::Proxy;
use crate::{fs, mount};

/// Everything that the options and flags decided.
pub struct Settings {
    pub filesystem: fs::Options,
    pub access: mount::Access,
    pub no_exec: bool,
    /// Instead of the URL, in the table of mounts.
    pub fsname: Option<String>,
    pub login: Login,
    pub tls: Tls,
    pub data: DataPolicy,
    pub proxy: Option<Proxy>,
    pub codepage: Option<Codepage>,
    pub list: ListPolicy,
    pub port: Option<u16>,
    pub connect_timeout: Duration,
    /// How long the end may wait for uploads.
    pub shutdown_timeout: Duration,
    pub log_file: Option<PathBuf>,
    /// Log in at first use.
    pub delay_connect: bool,
    pub debug: bool,
    /// Where the user chose a spool folder.
    pub spool_dir: Option<PathBuf>,
    /// Where file contents are kept over the mount.
    pub cache_dir: Option<PathBuf>,
    /// Bytes.
    pub cache_disk_size: u64,
    /// Instead of the usual configuration files.
    pub config: Option<PathBuf>,
    /// Names accepted without effect, and why; logged once logging is there.
    pub quiet: Vec<(String, &'static str)>,
}

/// Where user name and password come from.
#[derive(Default)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub account: Option<Secret>,
    pub credentials: Option<PathBuf>,
    pub password_stdin: bool,
    pub netrc: Option<PathBuf>,
    /// From the configuration files: count less than what this very command says.
    pub usual_user: Option<String>,
    pub usual_password: Option<Secret>,
    /// Fail rather than ask.
    pub never_ask: bool,
}

impl Settings {
    pub fn new() -> Self {
        Self {
            filesystem: fs::Options::new(),
            access: mount::Access::Owner,
            no_exec: false,
            fsname: None,
            login: Login::default(),
            tls: Tls::default(),
            data: DataPolicy::default(),
            proxy: None,
            codepage: None,
            list: ListPolicy::default(),
            port: None,
            connect_timeout: CONNECT_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            log_file: None,
            delay_connect: false,
            debug: false,
            spool_dir: None,
            cache_dir: None,
            cache_disk_size: CACHE_DISK_SIZE,
            config: None,
            quiet: Vec::new(),
        }
    }

    /// Applies one `-o` list; of contradicting options the last counts.
    pub fn apply(&mut self, list: &OsStr) -> Result<(), String> {
        for piece in split(list.as_bytes()) {
            if piece.is_empty() {
                continue;
            }
            let piece = unescape(&piece);
            let equals = piece.iter().position(|&b| b == b'=');
            let (name, value) = match equals {
                Some(at) => (piece.get(..at), piece.get(at + 1..)),
                None => (Some(piece.as_ref()), None),
            };
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            self.set(&name, value.map(OsStr::from_bytes))?;
        }
        Ok(())
    }

    /// Applies one option.
    pub fn set(&mut self, name: &str, value: Option<&OsStr>) -> Result<(), String> {
        if is_for_mount(name) {
            self.quiet.push((name.to_owned(), "for mount(8) and systemd"));
            return Ok(());
        }
        let spec = TABLE
            .iter()
            .find(|spec| spec.name == name && spec.value.fits(value))
            .or_else(|| TABLE.iter().find(|spec| spec.name == name))
            .ok_or_else(|| unknown(name))?;
        match (spec.act, value) {
            (Act::Refuse(reason), _) => Err(format!("option {name}: {reason}")),
            (Act::Quiet(reason), _) => {
                self.quiet.push((name.to_owned(), reason));
                Ok(())
            }
            (Act::Set(_), None) if spec.value.is_needed() => {
                Err(format!("option {name} needs a value: {name}={}", spec.value.placeholder()))
            }
            (Act::Set(_), Some(_)) if matches!(spec.value, Value::None) => {
                Err(format!("option {name} takes no value"))
            }
            (Act::Set(set), value) => {
                set(self, value.unwrap_or_default()).map_err(|why| format!("option {name}: {why}"))
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// One line of the table.
pub struct Spec {
    pub name: &'static str,
    pub value: Value,
    pub act: Act,
    pub group: Group,
    /// Shown by `-o help`.
    pub help: &'static str,
    /// Whether `--help` names it.
    pub common: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    None,
    /// What stands for it in the help.
    Needed(&'static str),
    Maybe(&'static str),
}

impl Value {
    fn is_needed(self) -> bool {
        matches!(self, Self::Needed(_))
    }

    fn fits(self, value: Option<&OsStr>) -> bool {
        match self {
            Self::None => value.is_none(),
            Self::Needed(_) => value.is_some(),
            Self::Maybe(_) => true,
        }
    }

    fn placeholder(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Needed(text) | Self::Maybe(text) => text,
        }
    }
}

#[derive(Clone, Copy)]
pub enum Act {
    Set(fn(&mut Settings, &OsStr) -> Result<(), String>),
    /// Accepted without effect; why.
    Quiet(&'static str),
    /// Refused; why, and what to do.
    Refuse(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Login,
    Ownership,
    Cache,
    Connection,
    Protocol,
    Tls,
    Files,
    Mount,
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Login => "Login",
            Self::Ownership => "Ownership",
            Self::Cache => "Cache",
            Self::Connection => "Connection",
            Self::Protocol => "FTP",
            Self::Tls => "TLS",
            Self::Files => "Files",
            Self::Mount => "Mount",
        }
    }
}

/// Whether an option is one that is there or not, without a value; what [`Settings::set`] would say of a name that it does not know.
pub fn is_flag(name: &str) -> Result<bool, String> {
    let mut specs = TABLE.iter().filter(|spec| spec.name == name).peekable();
    if specs.peek().is_none() {
        return if is_for_mount(name) { Ok(true) } else { Err(unknown(name)) };
    }
    Ok(specs.any(|spec| spec.value.fits(None)))
}

fn is_for_mount(name: &str) -> bool {
    QUIET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Removes options that hold a secret: the list without them, and what was taken, as (name, value).
pub fn take_secrets(list: &OsStr) -> (OsString, Vec<(&'static str, Vec<u8>)>) {
    let mut kept: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut taken = Vec::new();
    for piece in split(list.as_bytes()) {
        let plain = unescape(&piece);
        let secret = SECRETS
            .iter()
            .find_map(|name| Some((*name, plain.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?)));
        // curlftpfs's user=joe:password.
        let login = ["user=", "username="].iter().find_map(|name| {
            let value = plain.strip_prefix(name.as_bytes())?;
            Some((plain.len() - value.len(), value.iter().position(|&b| b == b':')?))
        });
        match (secret, login) {
            (Some((name, value)), _) => taken.push((name, value.to_vec())),
            (None, Some((start, colon))) => {
                taken.push((PASSWORD, plain.get(start + colon + 1..).unwrap_or_default().to_vec()));
                kept.push(Cow::Owned(escape(plain.get(..start + colon).unwrap_or_default())));
            }
            (None, None) => kept.push(piece),
        }
    }
    (OsString::from_vec(kept.join(&b',')), taken)
}

/// Splits at commas that no backslash protects; the pieces keep their backslashes.
fn split(list: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(byte) = list.get(at) {
        match byte {
            b'\\' => at += 1,
            b',' => {
                pieces.push(Cow::Borrowed(list.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    pieces.push(Cow::Borrowed(list.get(start..).unwrap_or_default()));
    pieces
}

/// `\,` is a comma and `\\` a backslash; any other backslash stays (user names of Windows domains hold one).
fn unescape(piece: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(piece.len());
    let mut bytes = piece.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&next @ (b',' | b'\\'))) => {
                plain.push(next);
                bytes.next();
            }
            _ => plain.push(byte),
        }
    }
    plain
}

fn escape(plain: &[u8]) -> Vec<u8> {
    plain.iter().flat_map(|&b| if matches!(b, b',' | b'\\') { vec![b'\\', b] } else { vec![b] }).collect()
}

fn unknown(name: &str) -> String {
    let near = TABLE
        .iter()
        .filter(|spec| !matches!(spec.act, Act::Refuse(_)))
        .map(|spec| (strsim::damerau_levenshtein(spec.name, name), spec.name))
        .min()
        .filter(|&(distance, near)| distance <= 1 + near.len() / 4);
    let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    match near {
        Some((_, near)) => format!("unknown option {name}: did you mean {near}? (`-o help` lists all)"),
        None => format!("unknown option {name} (`-o help` lists all)"),
    }
}

/// The name under which a password is taken, whatever option held it.
pub const PASSWORD: &str = "password";
pub const ACCOUNT: &str = "account";

/// Options whose values never stay in argv.
const SECRETS: [&str; 2] = [PASSWORD, ACCOUNT];

const QUIET_PREFIXES: [&str; 4] = ["x-", "X-", "comment", "mode.systemd"];

/// One address: a server that answers at all answers a SYN well within this, also over a satellite with lost packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Below the 90 s after which systemd kills, so that what is left is said in the log.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(75);

/// A film, or a source tree with its history.
const CACHE_DISK_SIZE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(list: &str) -> Result<Settings, String> {
        let mut settings = Settings::new();
        settings.apply(OsStr::new(list))?;
        Ok(settings)
    }

    fn good(list: &str) -> Settings {
        settings(list).unwrap_or_else(|error| panic!("{list}: {error}"))
    }

    fn refusal(list: &str) -> String {
        settings(list).err().unwrap_or_else(|| panic!("{list}: accepted"))
    }

    #[test]
    fn values_are_understood() {
        let s = good(
            "ro,uid=0,gid=root,umask=077,file_mode=640,cache_size=1M,attr_timeout=2.5,max_conns=3,noexec",
        );
        assert!(s.filesystem.read_only && s.no_exec);
        assert_eq!((s.filesystem.uid, s.filesystem.gid, s.filesystem.umask), (0, 0, Some(0o077)));
        assert_eq!(s.filesystem.file_mode, Some(0o640));
        assert_eq!((s.filesystem.cache_size, s.filesystem.max_conns), (1 << 20, 3));
        assert_eq!(s.filesystem.attr_timeout, Duration::from_millis(2500));
    }

    #[test]
    fn the_last_of_contradicting_options_counts() {
        assert!(!good("ro,rw").filesystem.read_only);
        assert!(good("rw,,ro,").filesystem.read_only);
    }

    #[test]
    fn commas_can_be_escaped() {
        assert_eq!(good("user=a\\,b,port=2121").login.user.as_deref(), Some("a,b"));
        assert_eq!(good("user=DOM\\joe").login.user.as_deref(), Some("DOM\\joe"));
        assert_eq!(good("user=DOM\\\\joe").login.user.as_deref(), Some("DOM\\joe"));
        assert_eq!(good("credentials=/etc/a\\,b").login.credentials, Some("/etc/a,b".into()));
    }

    #[test]
    fn the_user_of_mount_and_the_user_of_a_login_are_told_apart() {
        assert_eq!(good("user,port=21").login.user, None);
        assert_eq!(good("user=joe").login.user.as_deref(), Some("joe"));
    }

    #[test]
    fn no_unknown_option_passes() {
        assert!(refusal("max_con=3").contains("did you mean max_conns"));
        assert!(refusal("frobnicate").contains("unknown option frobnicate"));
        assert!(refusal("=x").contains("unknown"));
    }

    #[test]
    fn bad_values_are_refused_with_the_reason() {
        for bad in
            ["uid=nosuchuser", "port=0", "port=x", "umask=999", "timeout=0", "timeout=-1", "timeout=nan"]
        {
            assert!(refusal(bad).starts_with("option "), "{bad}");
        }
        for bad in
            ["cache_size=1X", "max_conns=0", "cache=maybe", "file_mode=7777777", "pin=00", "active_ports=5-1"]
        {
            assert!(refusal(bad).starts_with("option "), "{bad}");
        }
        assert!(refusal("uid").contains("needs a value"));
        assert!(refusal("ro=1").contains("takes no value"));
    }

    #[test]
    fn secrets_are_taken_out_of_the_list() {
        let (list, taken) = take_secrets(OsStr::new("ro,password=a\\,b,uid=5,account=x"));
        assert_eq!(list, "ro,uid=5");
        assert_eq!(taken, [("password", b"a,b".to_vec()), ("account", b"x".to_vec())]);
        let (list, taken) = take_secrets(OsStr::new("user=joe:pw:x,ro"));
        assert_eq!((list.to_str(), taken), (Some("user=joe,ro"), vec![("password", b"pw:x".to_vec())]));
        let (list, taken) = take_secrets(OsStr::new("credentials=/etc/password=x,a\\,b"));
        assert_eq!((list.to_str(), taken.len()), (Some("credentials=/etc/password=x,a\\,b"), 0));
    }

    #[test]
    fn names_stand_once_for_each_kind_of_value() {
        for (index, spec) in TABLE.iter().enumerate() {
            assert!(
                !TABLE
                    .iter()
                    .skip(index + 1)
                    .any(|other| other.name == spec.name && other.value == spec.value),
                "{}",
                spec.name
            );
            if matches!(spec.act, Act::Set(_)) {
                assert!(!spec.help.is_empty(), "{} has no help", spec.name);
            }
        }
    }
}
