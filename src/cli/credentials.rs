//! Who logs in, and with which password.
//!
//! The user: from the URL, `-o user=`, the credentials file, systemd's credentials, the configuration files
//! ([`super::config_file`]), `~/.netrc`; without any, anonymous. The password, from the first of: the URL, `-o password=`, the
//! credentials file, standard input (`password_stdin`), `FTPFS_PASSWORD`, systemd's credentials, the configuration files,
//! `~/.netrc`, a question on the terminal, a question by systemd. Happens before ftpfs goes to the background, because
//! only then is there a terminal. No message from here holds a password.

mod netrc;
mod systemd;
mod terminal;

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use super::failure::{Exit, Failure};
use super::options::Login;
use super::secrets::Secrets;
use super::url::Source;
use crate::ftp::config::Secret;

/// What USER, PASS and ACCT will say.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
    pub account: Option<Secret>,
    /// What a proxy is told that asks.
    pub proxy: Option<(String, Secret)>,
}

/// Finds them, and asks for what is missing.
pub fn find(source: &Source, login: &Login, secrets: &Secrets) -> Result<Credentials, Failure> {
    let local = |message| Failure::new(Exit::Local, message);
    let file = match &login.credentials {
        Some(path) => {
            read_file(path).map_err(|why| local(format!("credentials file {}: {why}", path.display())))?
        }
        None => Partial::default(),
    };
    let service = systemd::credentials().map_err(local)?;
    let asked = source.user.clone().or_else(|| login.user.clone()).or(file.user);
    let mut user = asked.clone().or(service.user).or_else(|| login.usual_user.clone());
    let mut account = [&secrets.account, &file.account, &service.account, &login.account]
        .into_iter()
        .find_map(Clone::clone);
    let mut password = [&source.password, &secrets.url, &secrets.option, &login.password]
        .into_iter()
        .find_map(Clone::clone)
        .or(file.password);
    if password.is_none() && login.password_stdin {
        password =
            Some(first_line_of_stdin().map_err(|why| local(format!("password on standard input: {why}")))?);
    }
    password = password.or_else(|| secrets.environment.clone()).or(service.password);
    // Joe's password is not for somebody else who is named now.
    if asked.is_none() || login.usual_user.is_none() || asked == login.usual_user {
        password = password.or_else(|| login.usual_password.clone());
    }
    if password.is_none() {
        let found = from_netrc(login.netrc.as_deref(), &source.host, user.as_deref()).map_err(local)?;
        if let Some(found) = found {
            user = user.or(found.user);
            password = found.password;
            account = account.or(found.account);
        }
    }
    let user = user.unwrap_or_else(|| ANONYMOUS.to_owned());
    let password = match password {
        Some(password) => password,
        None if is_anonymous(&user) => Secret::new(ANONYMOUS_PASSWORD),
        None if login.never_ask => return Err(no_password(&user, "asking is forbidden by no_prompt")),
        None => ask(&user, &source.host)?,
    };
    if password.reveal().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(Failure::new(Exit::Usage, "a password that holds a line end or a NUL cannot be sent"));
    }
    let proxy = file.proxy_user.map(|name| (name, file.proxy_password.unwrap_or_else(|| Secret::new(""))));
    Ok(Credentials { user, password, account, proxy })
}

/// What one place knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Partial {
    user: Option<String>,
    password: Option<Secret>,
    account: Option<Secret>,
    proxy_user: Option<String>,
    proxy_password: Option<Secret>,
}

/// mount.cifs's form: lines `username=`, `password=`, here also `account=`, `proxy_username=` and `proxy_password=`; `#` begins a comment line.
fn parse_file(content: &[u8]) -> Result<Partial, String> {
    let mut found = Partial::default();
    for (index, line) in content.split(|&b| b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let wrong = || format!("line {}: username=, password= or account= is needed", index + 1);
        let equals = line.iter().position(|&b| b == b'=').ok_or_else(wrong)?;
        let name = line.get(..equals).unwrap_or_default().trim_ascii();
        // The value as it stands: a password may begin or end with a blank.
        let value = line.get(equals + 1..).unwrap_or_default();
        match name.to_ascii_lowercase().as_slice() {
            b"username" | b"user" => {
                let text = String::from_utf8(value.to_vec()).map_err(|_| "the user name is not UTF-8")?;
                found.user = Some(text).filter(|text| !text.is_empty());
            }
            b"password" | b"pass" => found.password = Some(Secret::new(value)),
            b"account" => found.account = Some(Secret::new(value)),
            b"proxy_username" => {
                let text =
                    String::from_utf8(value.to_vec()).map_err(|_| "the proxy's user name is not UTF-8")?;
                found.proxy_user = Some(text).filter(|text| !text.is_empty());
            }
            b"proxy_password" => found.proxy_password = Some(Secret::new(value)),
            // For mount.cifs.
            b"domain" => {}
            _ => return Err(wrong()),
        }
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Partial, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    refuse_if_open_to_others(&file)?;
    parse_file(&read_bounded(&file)?)
}

/// A file with passwords belongs to its reader (or root), who alone can read it.
pub(super) fn refuse_if_open_to_others(file: &File) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.mode() & 0o077 != 0 {
        return Err("other users can read it: chmod 600 it, and change the password".into());
    }
    if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
        return Err("it belongs to another user".into());
    }
    Ok(())
}

fn read_bounded(file: &File) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 > MAX_FILE {
        return Err("it is far too long".into());
    }
    Ok(content)
}

/// `~/.netrc`, or the file that was named (which must then exist).
fn from_netrc(named: Option<&Path>, host: &str, user: Option<&str>) -> Result<Option<Partial>, String> {
    let path = match (named, super::home()) {
        (Some(path), _) => path.to_owned(),
        (None, Some(home)) => home.join(".netrc"),
        (None, None) => return Ok(None),
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(_) if named.is_none() => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let found = read_bounded(&file).map(|content| netrc::lookup(&content, host, user));
    let found = found.map_err(|why| format!("{}: {why}", path.display()))?;
    match found {
        Some(found) if found.password.is_some() => {
            // As inetutils' ftp: an entry without a password may be public, one with a password not.
            refuse_if_open_to_others(&file).map_err(|why| format!("{}: {why}", path.display()))?;
            Ok(Some(found))
        }
        found => Ok(found),
    }
}

fn first_line_of_stdin() -> Result<Secret, String> {
    let mut line = Vec::new();
    let stdin = io::stdin().lock();
    stdin.take(MAX_LINE).read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if line.is_empty() {
        return Err("there is none".into());
    }
    let password =
        Secret::new(line.strip_suffix(b"\n").map_or(&*line, |l| l.strip_suffix(b"\r").unwrap_or(l)));
    line.fill(0);
    Ok(password)
}

fn ask(user: &str, host: &str) -> Result<Secret, Failure> {
    let question = format!("Password of {user} on {host}: ");
    let error = match terminal::ask(&question) {
        Ok(password) => return Ok(password),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            return Err(Failure::new(Exit::Login, "cancelled"));
        }
        Err(error) => error,
    };
    match systemd::ask(&question, host) {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(no_password(user, &format!("no terminal to ask on ({error})"))),
        Err(why) => Err(no_password(user, &format!("no terminal to ask on, and by systemd {why}"))),
    }
}

fn no_password(user: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Login,
        format!(
            "there is no password for {user}, and {why}: give it with credentials=FILE, ~/.netrc, FTPFS_PASSWORD or \
             password_stdin"
        ),
    )
}

fn is_anonymous(user: &str) -> bool {
    user.eq_ignore_ascii_case(ANONYMOUS) || user.eq_ignore_ascii_case("ftp")
}

/// RFC 1635.
const ANONYMOUS: &str = "anonymous";

/// RFC 1635 asks for a mail address; servers that check want an `@`, and nobody is helped by a real one.
const ANONYMOUS_PASSWORD: &str = "anonymous@";

/// More than any such file has.
const MAX_FILE: u64 = 256 * 1024;

/// An FTP command line is rarely allowed to be longer.
const MAX_LINE: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(OsStr::new(text)).expect("a good URL")
    }

    fn scratch(name: &str, content: &str, mode: u32) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("ftpfs-credentials-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        path
    }

    #[test]
    fn the_form_of_mount_cifs_is_read() {
        let found = parse_file(b"# mine\r\nusername=joe\r\n  password= s=ec,ret \r\ndomain=X\n\naccount=a")
            .expect("good");
        assert_eq!(found.user.as_deref(), Some("joe"));
        assert_eq!(found.password, Some(Secret::new(" s=ec,ret ")));
        assert_eq!(found.account, Some(Secret::new("a")));
        let error = parse_file(b"username=joe\nhunter2\n").expect_err("bad");
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let path = scratch("open", "password=x\n", 0o640);
        let error = read_file(&path).expect_err("refused");
        std::fs::remove_file(path).expect("remove");
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn the_url_counts_more_than_the_file() {
        let path = scratch("order", "username=jim\npassword=file\n", 0o600);
        let login = Login { credentials: Some(path.clone()), ..Login::default() };
        let from_url = find(&source("ftp://joe:url@h/"), &login, &Secrets::default()).expect("found");
        let from_file = find(&source("ftp://h/"), &login, &Secrets::default()).expect("found");
        std::fs::remove_file(path).expect("remove");
        assert_eq!((from_url.user.as_str(), from_url.password), ("joe", Secret::new("url")));
        assert_eq!((from_file.user.as_str(), from_file.password), ("jim", Secret::new("file")));
    }

    #[test]
    fn without_a_user_it_is_anonymous() {
        let login = Login { netrc: Some("/dev/null".into()), ..Login::default() };
        let found = find(&source("ftp://h/"), &login, &Secrets::default()).expect("found");
        assert_eq!((found.user.as_str(), found.password), ("anonymous", Secret::new("anonymous@")));
    }

    #[test]
    fn netrc_gives_user_and_password_unless_others_can_read_it() {
        let content = "machine h login joe password top\nmachine p login x\n";
        let path = scratch("netrc", content, 0o600);
        let login = Login { netrc: Some(path.clone()), ..Login::default() };
        let found = find(&source("ftp://h/"), &login, &Secrets::default()).expect("found");
        assert_eq!((found.user.as_str(), found.password), ("joe", Secret::new("top")));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let refused = find(&source("ftp://h/"), &login, &Secrets::default()).expect_err("refused");
        std::fs::remove_file(path).expect("remove");
        assert!(refused.message.contains("chmod 600") && !refused.message.contains("top"), "{refused}");
    }

    #[test]
    fn the_environment_counts_more_than_netrc_and_less_than_the_options() {
        let login = Login { netrc: Some("/dev/null".into()), ..Login::default() };
        let mut secrets = Secrets { environment: Some(Secret::new("env")), ..Secrets::default() };
        assert_eq!(
            find(&source("ftp://joe@h/"), &login, &secrets).expect("found").password,
            Secret::new("env")
        );
        secrets.option = Some(Secret::new("opt"));
        assert_eq!(
            find(&source("ftp://joe@h/"), &login, &secrets).expect("found").password,
            Secret::new("opt")
        );
    }

    #[test]
    fn what_the_configuration_says_counts_less_than_the_command_and_is_for_its_user_only() {
        let configured = || Login {
            usual_user: Some("joe".into()),
            usual_password: Some(Secret::new("usual")),
            netrc: Some("/dev/null".into()),
            never_ask: true,
            ..Login::default()
        };
        let found = find(&source("ftp://h/"), &configured(), &Secrets::default()).expect("found");
        assert_eq!((found.user.as_str(), found.password), ("joe", Secret::new("usual")));
        let secrets = Secrets { environment: Some(Secret::new("env")), ..Secrets::default() };
        let found = find(&source("ftp://h/"), &configured(), &secrets).expect("found");
        assert_eq!(found.password, Secret::new("env"));
        let other = find(&source("ftp://jim@h/"), &configured(), &Secrets::default()).expect_err("refused");
        assert!(other.message.contains("no password for jim"), "{other}");
    }
}
