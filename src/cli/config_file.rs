//! `/etc/ftpfs.toml` and `~/.config/ftpfs/config.toml`: servers with names, and options per host.
//!
//! ```toml
//! [defaults]                    # for every mount
//! timeout = 20
//!
//! [host."ftp.example.org"]      # for every mount of that host
//! pin = "0f3a..."
//!
//! [server.work]                 # ftpfs work: /mnt    ftpfs work:folder /mnt
//! source = "ftpes://joe@ftp.example.org/projects"
//! allow_other = true
//! ```
//!
//! The keys are the names of `-o` options, so there is one table of them ([`super::options`]) and one meaning. What is more
//! special counts more: `[defaults]`, then `[host]`, then `[server]`, and what stands in the command (or in fstab) last; within
//! each, the user's file after the system's. `false` takes back a flag that a less special place has set.
//!
//! A file with a password must be readable by its owner only, and any file must belong to the reader or to root: errors
//! name the file and the line, never a value. Called by `cli` before anything else is decided.

mod reader;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::failure::{Exit, Failure};
use super::options::{self, Settings};
use super::url::Source;
use super::{credentials, home};
use crate::ftp::config::Folder;

/// The files that there are, the system's first.
#[derive(Default)]
pub struct ConfigFiles {
    files: Vec<ConfigFile>,
    /// A file that is there and cannot be read by this user, and why.
    unreadable: Option<String>,
}

/// What a SOURCE means with these files. Without `Debug`, as all here: passwords are among the values.
pub struct Meaning<'a> {
    pub source: Source,
    /// From the least special to the most special.
    entries: Vec<&'a Entry>,
    /// Whether it was the name of a server.
    pub is_named: bool,
}

#[derive(Default)]
struct ConfigFile {
    defaults: Vec<Entry>,
    hosts: Vec<(String, Vec<Entry>)>,
    servers: Vec<Server>,
}

struct Server {
    name: String,
    /// `/etc/ftpfs.toml:12`.
    place: String,
    source: OsString,
    entries: Vec<Entry>,
}

/// One key.
struct Entry {
    place: String,
    name: String,
    value: Value,
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    /// A flag that is set.
    On,
    /// A flag that is taken back.
    Off,
}

impl ConfigFiles {
    /// Reads the usual files, or the one that `config=` names (which must then exist).
    pub fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let mut found = Self::default();
        let usual = || {
            let own = home().map(|home| home.join(".config/ftpfs/config.toml"));
            [Some(PathBuf::from(SYSTEM)), own].into_iter().flatten().collect()
        };
        for path in named.map_or_else(usual, |path| vec![path.to_owned()]) {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if named.is_some() => return Err(wrong(format!("{}: {error}", path.display()))),
                Err(error) => {
                    if error.kind() == std::io::ErrorKind::PermissionDenied {
                        found.unreadable = Some(format!("{}: {error}", path.display()));
                    }
                    continue;
                }
            };
            let parsed = ConfigFile::read(&file, &path.display().to_string()).map_err(wrong)?;
            found.files.push(parsed);
        }
        Ok(found)
    }

    /// Understands a SOURCE: `work:`, `work:folder` when there is a server of that name, a URL or `host:path` otherwise.
    pub fn meaning(&self, text: &OsStr) -> Result<Meaning<'_>, Failure> {
        let named = name_in(text).and_then(|(name, below)| {
            // The user's file is the later one.
            let servers = self.files.iter().rev().flat_map(|file| &file.servers);
            servers.into_iter().find(|server| server.name == name).map(|server| (server, below))
        });
        let (source, own) = match named {
            Some((server, below)) => {
                let mut source = Source::parse(&server.source)
                    .map_err(|why| wrong(format!("{}: source: {why}", server.place)))?;
                source.folder = below_folder(source.folder, below);
                // What fstab has, so that mount(8) knows it again.
                source.shown = super::url::show(text.as_bytes());
                (source, server.entries.as_slice())
            }
            None => {
                let source =
                    Source::parse(text).map_err(|why| Failure::new(Exit::Usage, format!("SOURCE: {why}")))?;
                (source, [].as_slice())
            }
        };
        let host = source.host.to_ascii_lowercase();
        let defaults = self.files.iter().flat_map(|file| &file.defaults);
        let hosts = self.files.iter().flat_map(|file| &file.hosts).filter(|(name, _)| *name == host);
        let all = defaults.chain(hosts.flat_map(|(_, entries)| entries)).chain(own);
        let mut entries: Vec<&Entry> = Vec::new();
        for entry in all {
            entries.retain(|earlier| !entry.replaces(earlier));
            entries.push(entry);
        }
        Ok(Meaning { source, entries, is_named: named.is_some() })
    }

    /// For somebody whose SOURCE led nowhere: whether it looks like a name that no file has.
    pub fn hint(&self, text: &OsStr) -> Option<String> {
        let (name, _) = name_in(text).filter(|(name, _)| !name.contains('.'))?;
        let unreadable = self.unreadable.as_deref().map(|why| format!("; {why}")).unwrap_or_default();
        Some(format!("no [server.{name}] is in {SYSTEM} or ~/.config/ftpfs/config.toml{unreadable}"))
    }
}

impl Meaning<'_> {
    /// Sets the options; what the command says is to be applied afterwards.
    pub fn apply(&mut self, settings: &mut Settings) -> Result<(), Failure> {
        for entry in &self.entries {
            let value = match &entry.value {
                Value::Off => continue,
                Value::On => None,
                Value::Text(text) => Some(OsStr::new(text)),
            };
            settings.set(&entry.name, value).map_err(|why| wrong(format!("{}: {why}", entry.place)))?;
        }
        let login = &mut settings.login;
        if self.is_named {
            login.usual_user = self.source.user.take();
            login.usual_password = self.source.password.take();
        }
        login.usual_user = login.usual_user.take().or(login.user.take());
        login.usual_password = login.usual_password.take().or(login.password.take());
        Ok(())
    }
}

impl Entry {
    fn replaces(&self, earlier: &Self) -> bool {
        let is_secret = |entry: &Self| PASSWORDS.contains(&entry.name.as_str());
        earlier.name == self.name || (is_secret(self) && is_secret(earlier))
    }
}

impl ConfigFile {
    /// Errors begin with the file and the line.
    fn read(file: &File, shown: &str) -> Result<Self, String> {
        let metadata = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
        if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
            return Err(format!("{shown}: it belongs to another user"));
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(format!("{shown}: everybody can change it: chmod o-w"));
        }
        let mut text = String::new();
        let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
        read.map_err(|error| format!("{shown}: {error}"))?;
        if text.len() as u64 > MAX_FILE {
            return Err(format!("{shown}: it is far too long"));
        }
        let (parsed, secret_at) = reader::parse(&text, shown)?;
        if let Some(place) = secret_at {
            credentials::refuse_if_open_to_others(file)
                .map_err(|why| format!("{place}: a password stands here, and of this file holds: {why}"))?;
        }
        Ok(parsed)
    }
}

/// `work:folder` as name and folder; not URLs, not `user@host:folder`.
fn name_in(text: &OsStr) -> Option<(&str, &[u8])> {
    let text = text.as_bytes();
    let colon = text.iter().position(|&b| b == b':')?;
    let (name, below) = (text.get(..colon)?, text.get(colon + 1..)?);
    if below.starts_with(b"//") || name.iter().any(|b| matches!(b, b'/' | b'@' | b'[')) {
        return None;
    }
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(|name| (name, below))
}

fn below_folder(folder: Folder, below: &[u8]) -> Folder {
    let join = |mut path: Vec<u8>| {
        if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(below);
        path
    };
    match (below.first(), folder) {
        (None, folder) => folder,
        (Some(b'/'), _) => Folder::Absolute(below.to_vec()),
        (_, Folder::Login(path)) => Folder::Login(join(path)),
        (_, Folder::Absolute(path)) => Folder::Absolute(join(path)),
    }
}

fn wrong(message: String) -> Failure {
    Failure::new(Exit::Usage, message)
}

const SYSTEM: &str = "/etc/ftpfs.toml";

/// Options that say where the password is: the most special one counts.
const PASSWORDS: [&str; 3] = [options::PASSWORD, "credentials", "password_stdin"];

/// More than any such file has.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::config::Secret;

    fn files(texts: &[&str]) -> ConfigFiles {
        let parse = |text: &&str| reader::parse(text, "f").unwrap_or_else(|error| panic!("{error}")).0;
        ConfigFiles { files: texts.iter().map(parse).collect(), unreadable: None }
    }

    fn error(text: &str) -> String {
        reader::parse(text, "f").err().unwrap_or_else(|| panic!("accepted: {text}"))
    }

    fn settings(files: &ConfigFiles, source: &str) -> (Source, Settings) {
        let mut settings = Settings::new();
        let mut meaning = files.meaning(OsStr::new(source)).expect("understood");
        meaning.apply(&mut settings).expect("applied");
        (meaning.source, settings)
    }

    #[test]
    fn a_name_stands_for_a_server_its_folder_and_its_options() {
        let files = files(&["[server.work]\nsource = \"ftpes://joe:pw@ftp.example.org:2121/projects\"\n\
            max_conns = 3\nfile_mode = 0o640\nro = true\nattr_timeout = 2.5\nuid = \"0\"\n"]);
        let (source, settings) = settings(&files, "work:");
        assert_eq!((source.host.as_str(), source.port), ("ftp.example.org", Some(2121)));
        assert_eq!((source.folder, source.shown.as_str()), (Folder::Login("projects".into()), "work:"));
        assert_eq!(settings.login.usual_user.as_deref(), Some("joe"));
        assert_eq!(settings.login.usual_password, Some(Secret::new("pw")));
        assert_eq!((settings.filesystem.max_conns, settings.filesystem.file_mode), (3, Some(0o640)));
        assert!(settings.filesystem.read_only);
        let folder = |text: &str| super::tests::settings(&files, text).0.folder;
        assert_eq!(folder("work:a/b"), Folder::Login("projects/a/b".into()));
        assert_eq!(folder("work:/abs"), Folder::Absolute("/abs".into()));
    }

    #[test]
    fn what_is_no_name_stays_what_it_was() {
        let files = files(&["[server.work]\nsource = \"ftp://h/\"\n"]);
        for (text, host) in [("ftp://work/", "work"), ("joe@work:x", "work"), ("other:x", "other")] {
            assert_eq!(files.meaning(OsStr::new(text)).expect("good").source.host, host);
        }
        assert!(files.hint(OsStr::new("wrok:")).is_some_and(|hint| hint.contains("[server.wrok]")));
        assert!(files.hint(OsStr::new("ftp.example.org:x")).is_none());
    }

    #[test]
    fn what_is_more_special_counts_more() {
        let system = "[defaults]\ntimeout = 11\nmax_conns = 1\nro = true\nnoexec = true\n\
            [host.\"H.example\"]\nmax_conns = 2\n[server.a]\nsource = \"ftp://other/\"\n";
        let own = "[defaults]\ntimeout = 12\n[host.h.example]\ncache_size = \"1M\"\n\
            [server.a]\nsource = \"ftp://h.example/\"\nro = false\n";
        let files = files(&[system, own]);
        let (_, named) = settings(&files, "a:");
        assert_eq!(named.filesystem.timeout.as_secs(), 12);
        assert_eq!((named.filesystem.max_conns, named.filesystem.cache_size), (2, 1 << 20));
        assert!(!named.filesystem.read_only && named.no_exec);
        let (_, by_url) = settings(&files, "ftp://h.example/");
        assert!(by_url.filesystem.read_only);
        assert_eq!(settings(&files, "ftp://x/").1.filesystem.max_conns, 1);
    }

    #[test]
    fn the_last_line_of_a_section_counts() {
        let files = files(&["[defaults]\ncache_timeout = 1\nattr_timeout = 9\n"]);
        let settings = settings(&files, "ftp://h/").1;
        assert_eq!(settings.filesystem.attr_timeout.as_secs(), 9);
        assert_eq!(settings.filesystem.dir_timeout.as_secs(), 1);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line, words) in [
            ("[server.a]\nsource = \"ftp://h/\"\nmax_con = 3\n", 3, "did you mean max_conns"),
            ("\n[server.a]\nro = true\n", 2, "no source"),
            ("[server.a]\nsource = \"http://h/\"\n", 2, "ftp://"),
            ("[servers.a]\n", 1, "there is no section [servers]"),
            ("timeout = 3\n", 1, "outside"),
            ("[defaults]\npassword = \"x\"\n", 2, "every server"),
            ("[defaults]\ntimeout = [1]\n", 2, "must be"),
            ("[defaults]\n\ntimeout = = 1\n", 3, ""),
            ("[host]\nro = true\n", 2, "which host"),
            ("[server.\"a:b\"]\nsource = \"ftp://h/\"\n", 1, "name"),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("f:{line}: ")) && error.contains(words), "{text}: {error}");
        }
        let files = files(&["[defaults]\ntimeout = -1\n"]);
        let mut settings = Settings::new();
        let refused = files.meaning(OsStr::new("ftp://h/")).expect("good").apply(&mut settings);
        assert!(refused.is_err_and(|failure| failure.message.starts_with("f:2: option timeout:")));
    }

    #[test]
    fn it_is_known_where_a_password_stands_and_no_message_repeats_it() {
        let place = |text: &str| reader::parse(text, "f").expect("good").1;
        assert_eq!(
            place("[server.a]\nsource = \"ftp://h/\"\npassword = \"hunter2\"\n").as_deref(),
            Some("f:3")
        );
        assert_eq!(place("[server.a]\nsource = \"ftp://joe:hunter2@h/\"\n").as_deref(), Some("f:2"));
        assert_eq!(place("[server.a]\nsource = \"ftp://joe@h/\"\ncredentials = \"/x\"\n"), None);
        for bad in [
            "[host.h]\npassword = hunter2\n",
            "[host.h]\npassword = \"hunter2\nx\n",
            "[server.a]\nsource = \"http://x:hunter2@h/\"\n",
        ] {
            assert!(!error(bad).contains("hunter2"), "{}", error(bad));
        }
    }
}
