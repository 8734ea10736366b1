//! Passwords out of sight: argv and the environment of a process can be read by others for as long as it runs
//! (`ps`, `/proc/PID/cmdline`, `/proc/PID/environ`, crash reports).
//!
//! So the very first thing that ftpfs does is to look for a password in its arguments (a URL, `-o password=`) and in
//! `FTPFS_PASSWORD`. When there is one, it starts itself anew (execve: same process, no child) with arguments and
//! environment that do not hold it; the secrets travel through an anonymous memory file, which is wiped as soon as it
//! has been read. Overwriting argv in place would need writes behind the compiler's back, and would leave the
//! environment as it was.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{options, url};
use crate::ftp::config::Secret;

/// What was found in arguments and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// From the URL.
    pub url: Option<Secret>,
    /// From `-o password=`.
    pub option: Option<Secret>,
    pub account: Option<Secret>,
    /// From `FTPFS_PASSWORD`.
    pub environment: Option<Secret>,
}

impl Secrets {
    /// Takes the secrets out of this process's arguments and environment; `args` become the clean ones.
    ///
    /// When there are any, this starts the program anew and comes back in the new one. Where that is impossible the secrets are
    /// used all the same, and the reason is given.
    pub fn take(args: &mut Vec<OsString>) -> (Self, Option<io::Error>) {
        let (clean, mut found) = Self::from_args(args);
        found.environment = std::env::var_os(VARIABLE).map(|value| Secret::new(value.into_vec()));
        if found == Self::default() {
            return (Self::inherit().unwrap_or_default(), None);
        }
        *args = clean;
        let error = found.start_anew(args);
        (found, Some(error))
    }

    fn from_args(args: &[OsString]) -> (Vec<OsString>, Self) {
        let mut found = Self::default();
        let mut clean: Vec<OsString> = args.iter().take(1).cloned().collect();
        let mut is_option_list = false;
        for arg in args.iter().skip(1) {
            let bytes = arg.as_bytes();
            let prefix = match option_list_at(bytes) {
                _ if is_option_list => Some(0),
                found => found,
            };
            is_option_list = false;
            match prefix {
                // `-o` alone: the list is the next argument.
                Some(at) if at > 0 && at == bytes.len() => {
                    is_option_list = true;
                    clean.push(arg.clone());
                }
                Some(at) => {
                    let (flags, list) = bytes.split_at_checked(at).unwrap_or_default();
                    let (list, taken) = options::take_secrets(OsStr::from_bytes(list));
                    for (name, value) in taken {
                        let place =
                            if name == options::ACCOUNT { &mut found.account } else { &mut found.option };
                        *place = Some(Secret::new(value));
                    }
                    clean.push(OsString::from_vec([flags, list.as_bytes()].concat()));
                }
                None => {
                    let (name, value) = bytes.split_at_checked(value_at(bytes)).unwrap_or_default();
                    match url::take_password(OsStr::from_bytes(value)) {
                        Some((text, password)) => {
                            found.url = Some(Secret::new(password));
                            clean.push(OsString::from_vec([name, text.as_slice()].concat()));
                        }
                        None => clean.push(arg.clone()),
                    }
                }
            }
        }
        (clean, found)
    }

    /// Only comes back when it failed.
    fn start_anew(&self, args: &[OsString]) -> io::Error {
        // Without close-on-exec, and open until exec.
        let mut memory = match memfd_create(NAME, MFdFlags::empty()) {
            Ok(memory) => File::from(memory),
            Err(errno) => return errno.into(),
        };
        if let Err(error) = memory.write_all(&self.write()) {
            return error;
        }
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut command = Command::new(program);
        if let Some((name, rest)) = args.split_first() {
            command.arg0(name).args(rest);
        }
        command.env_remove(VARIABLE).env(DESCRIPTOR, memory.as_raw_fd().to_string()).exec()
    }

    /// What the process that started us anew has handed over.
    fn inherit() -> Option<Self> {
        let number: i32 = std::env::var(DESCRIPTOR).ok()?.parse().ok()?;
        let path = format!("/proc/self/fd/{number}");
        // Somebody's own variable of that name must not make us empty some file of theirs.
        if !std::fs::read_link(&path).ok()?.as_os_str().as_bytes().starts_with(b"/memfd:ftpfs-secrets") {
            return None;
        }
        let mut file = File::options().read(true).write(true).open(path).ok()?;
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(MAX_CONTENT).read_to_end(&mut content).ok()?;
        let zeros = vec![0; content.len()];
        let _ = file.rewind().and_then(|()| file.write_all(&zeros)).and_then(|()| file.set_len(0));
        let _ = nix::unistd::close(number);
        let found = Self::read(&content);
        content.fill(0);
        std::hint::black_box(&content);
        Some(found)
    }

    /// A letter, the value, NUL; neither an argument nor a variable can hold a NUL.
    fn write(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let all = [(b'u', &self.url), (b'o', &self.option), (b'a', &self.account), (b'e', &self.environment)];
        for (letter, secret) in all {
            if let Some(secret) = secret {
                content.push(letter);
                content.extend(secret.reveal().iter().filter(|&&b| b != 0));
                content.push(0);
            }
        }
        content
    }

    fn read(content: &[u8]) -> Self {
        let mut found = Self::default();
        for field in content.split(|&b| b == 0) {
            let Some((letter, value)) = field.split_first() else { continue };
            let place = match letter {
                b'u' => &mut found.url,
                b'o' => &mut found.option,
                b'a' => &mut found.account,
                b'e' => &mut found.environment,
                _ => continue,
            };
            *place = Some(Secret::new(value));
        }
        found
    }
}

/// Where the list begins in an argument such as `-oLIST`, `-fo` or `-sfo=LIST`; none when it is no option list.
fn option_list_at(arg: &[u8]) -> Option<usize> {
    let flags = arg.strip_prefix(b"-").filter(|flags| !flags.starts_with(b"-"))?;
    // -t takes a value: what follows it are no flags.
    let end =
        flags.iter().position(|&b| b == b'o' || b == b't').filter(|&at| flags.get(at) == Some(&b'o'))?;
    let at = end + 2;
    Some(if arg.get(at) == Some(&b'=') { at + 1 } else { at })
}

/// Where the value begins in `--NAME=VALUE`; 0 for any other argument.
fn value_at(arg: &[u8]) -> usize {
    let equals = arg.iter().position(|&b| b == b'=').filter(|_| arg.starts_with(b"--"));
    equals.map_or(0, |at| at + 1)
}

/// Documented in `--help`.
const VARIABLE: &str = "FTPFS_PASSWORD";

/// Tells the new program which descriptor to read.
const DESCRIPTOR: &str = "FTPFS_SECRETS_DESCRIPTOR";

const NAME: &str = "ftpfs-secrets";

/// Arguments are limited to 128 KiB each.
const MAX_CONTENT: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(args: &[&str]) -> (Vec<String>, Secrets) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let (clean, found) = Secrets::from_args(&args);
        (clean.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect(), found)
    }

    #[test]
    fn passwords_leave_the_arguments_wherever_they_stand() {
        let secret = |text: &str| Some(Secret::new(text));
        let (args, found) = clean(&["ftpfs", "ftp://joe:pw@h/", "/mnt", "-f"]);
        assert_eq!(
            (args, found.url),
            (["ftpfs", "ftp://joe@h/", "/mnt", "-f"].map(str::to_owned).to_vec(), secret("pw"))
        );
        let (args, found) = clean(&["ftpfs", "recover", "push", "--all", "--server=ftp://joe:pw@h/"]);
        assert_eq!((args[4].as_str(), found.url), ("--server=ftp://joe@h/", secret("pw")));
        for spelled in [
            &["-o", "ro,password=pw"][..],
            &["-oro,password=pw"],
            &["-fo", "password=pw,ro"],
            &["-sfo=password=pw"],
        ] {
            let args = [&["ftpfs", "ftp://h/", "/mnt"], spelled].concat();
            let (args, found) = clean(&args);
            assert_eq!(found.option, secret("pw"), "{spelled:?}");
            assert!(!args.concat().contains("pw"), "{args:?}");
        }
        let (args, found) = clean(&["ftpfs", "-t", "ftpfs", "ftp://h/", "/o", "-ttopo"]);
        assert_eq!((args.len(), found), (6, Secrets::default()));
    }

    #[test]
    fn secrets_survive_the_way_through_the_memory_file() {
        let secrets = Secrets {
            url: Some(Secret::new("")),
            option: None,
            account: Some(Secret::new("x=\n")),
            environment: Some(Secret::new(vec![0xff])),
        };
        assert_eq!(Secrets::read(&secrets.write()), secrets);
    }
}
