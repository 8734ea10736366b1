//! What systemd knows: a service's credentials, and people who can be asked.
//!
//! A unit with `LoadCredential=ftpfs.password:/etc/ftpfs/nas.password` (or `LoadCredentialEncrypted=`, `SetCredential=`) gets
//! a folder in `$CREDENTIALS_DIRECTORY` that only it can read. We look for `ftpfs.credentials` (the form of `credentials=`),
//! `ftpfs.user`, `ftpfs.password` and `ftpfs.account` there.
//!
//! Where there is no terminal but a running systemd (a mount at boot), `systemd-ask-password` asks on the console, or whatever
//! agent there is; for a limited time, because at boot nobody may be there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::{Partial, parse_file, read_bounded};
use crate::ftp::config::Secret;

/// This service's credentials; empty ones when it is no service or has none. The manager has made the files, with access
/// control lists that look like permissions for a group: so these are not judged.
pub(super) fn credentials() -> Result<Partial, String> {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) if Path::new(&folder).is_absolute() => from_folder(Path::new(&folder)),
        _ => Ok(Partial::default()),
    }
}

/// Asks. None where that cannot be done here; the error says how it ended without a password.
pub(super) fn ask(question: &str, host: &str) -> Result<Option<Secret>, String> {
    let program = PROGRAMS.into_iter().find(|path| Path::new(path).exists());
    // Only root's questions reach the agents.
    let (Some(program), true, true) = (program, Path::new(RUNS).exists(), geteuid().is_root()) else {
        return Ok(None);
    };
    let mut child = Command::new(program)
        .args(["--no-tty", "--icon=network-server", &format!("--id=ftpfs:{host}")])
        .arg(format!("--timeout={}", PATIENCE.as_secs()))
        .args(["--", question.trim_end_matches([' ', ':'])])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("nobody can be asked ({error})"))?;
    let answer = child.stdout.take();
    let until = Instant::now() + PATIENCE + GRACE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_ROUND),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    // What is longer than a pipe holds is no password: the program would not have ended.
    let mut line = Vec::new();
    if let (Some(answer), Some(true)) = (answer, status.map(|status| status.success())) {
        answer.take(super::MAX_LINE).read_to_end(&mut line).map_err(|error| error.to_string())?;
    }
    let password = line.strip_suffix(b"\n").map(Secret::new);
    line.fill(0);
    std::hint::black_box(&line);
    password.map(Some).ok_or_else(|| format!("nobody has answered within {} s", PATIENCE.as_secs()))
}

fn from_folder(folder: &Path) -> Result<Partial, String> {
    let read = |name: &str| -> Result<Option<Vec<u8>>, String> {
        let path = folder.join(name);
        let trouble = |why: String| format!("credential {}: {why}", path.display());
        match File::open(&path) {
            Ok(file) => read_bounded(&file).map(Some).map_err(trouble),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble(error.to_string())),
        }
    };
    // An editor ends the last line.
    let line = |mut content: Vec<u8>| {
        let end = content.strip_suffix(b"\n").map_or(content.len(), <[u8]>::len);
        content.truncate(end);
        content
    };
    let mut found = match read("ftpfs.credentials")? {
        Some(content) => {
            parse_file(&content).map_err(|why| format!("credential ftpfs.credentials: {why}"))?
        }
        None => Partial::default(),
    };
    if let Some(user) = read("ftpfs.user")? {
        found.user =
            Some(String::from_utf8(line(user)).map_err(|_| "credential ftpfs.user is not UTF-8".to_owned())?);
    }
    if let Some(password) = read("ftpfs.password")? {
        found.password = Some(Secret::new(line(password)));
    }
    if let Some(account) = read("ftpfs.account")? {
        found.account = Some(Secret::new(line(account)));
    }
    Ok(found)
}

const PROGRAMS: [&str; 2] = ["/usr/bin/systemd-ask-password", "/bin/systemd-ask-password"];

/// sd_booted(3).
const RUNS: &str = "/run/systemd/system";

/// Somebody who sits there answers within a minute; nobody else shall hold up the boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// Should the program not keep its own limit.
const GRACE: Duration = Duration::from_secs(5);

const LOOK_ROUND: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_a_service_are_read_by_their_names() {
        let folder = std::env::temp_dir().join(format!("ftpfs-systemd-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("create");
        let put = |name: &str, content: &str| std::fs::write(folder.join(name), content).expect("write");
        assert_eq!(from_folder(&folder), Ok(Partial::default()));
        put("ftpfs.credentials", "username=joe\npassword=one\n");
        let whole = from_folder(&folder).expect("good");
        put("ftpfs.password", " two \n");
        let single = from_folder(&folder).expect("good");
        put("ftpfs.credentials", "hunter2");
        let wrong = from_folder(&folder).expect_err("bad");
        std::fs::remove_dir_all(&folder).expect("remove");
        assert_eq!((whole.user.as_deref(), whole.password), (Some("joe"), Some(Secret::new("one"))));
        assert_eq!((single.user.as_deref(), single.password), (Some("joe"), Some(Secret::new(" two "))));
        assert!(wrong.contains("line 1") && !wrong.contains("hunter2"), "{wrong}");
    }
}
