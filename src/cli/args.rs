//! The command line: `ftpfs SOURCE MOUNTPOINT [-fdsrv] [-o OPT,OPT=VALUE]`, as sshfs and mount(8) know it.
//!
//! mount(8) runs `/sbin/mount.ftpfs SOURCE MOUNTPOINT [-sfnv] -o OPTIONS`; there `-f` means "fake". umount(8) runs
//! `/sbin/umount.fuse.ftpfs MOUNTPOINT [-flnrv]`, see `subcommand::external`. Which manner is meant is decided by the name that the
//! program was called by.

#![allow(rustdoc::broken_intra_doc_links, reason = "in a help text brackets mean that it may be left out")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{CommandFactory, FromArgMatches, Parser};

use super::options;

/// By which name we were called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Command,
    /// As `mount.ftpfs` or `mount.fuse.ftpfs`, by mount(8).
    Helper,
    /// As `umount.fuse.ftpfs`, by umount(8).
    UmountHelper,
}

impl Manner {
    /// Decides by `argv[0]`.
    pub fn of(program: &OsStr) -> Self {
        match Path::new(program).file_name().unwrap_or_default().as_encoded_bytes() {
            name if name.starts_with(b"mount.") => Self::Helper,
            name if name.starts_with(b"umount.") => Self::UmountHelper,
            _ => Self::Command,
        }
    }
}

/// Mount an FTP or FTPS server as a local folder.
#[derive(Debug, Parser)]
#[command(name = "ftpfs", version, disable_help_flag = true, max_term_width = 100)]
pub struct Args {
    /// ftp://[user@]host[:port]/folder (//folder: absolute), ftps:// or ftpes:// for TLS, [user@]host:folder, or NAME: of the
    /// configuration
    #[arg(value_name = "SOURCE")]
    pub source: Option<OsString>,

    /// An existing folder
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    pub mount_point: Option<PathBuf>,

    /// Options, as below; `-o help` lists them all
    #[arg(short = 'o', value_name = "OPT,OPT=VALUE", allow_hyphen_values = true)]
    pub options: Vec<OsString>,

    /// Stay in the foreground
    #[arg(short = 'f')]
    pub foreground: bool,

    /// Stay in the foreground and show the dialogue with the server
    #[arg(short = 'd')]
    pub debug: bool,

    /// Mount read-only
    #[arg(short = 'r')]
    pub read_only: bool,

    /// Say more (twice: much more)
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Ignored: sshfs's single thread, mount(8)'s no mtab, type and read-write
    #[arg(short = 's', hide = true)]
    pub single_thread: bool,
    #[arg(short = 'n', hide = true)]
    pub no_mtab: bool,
    #[arg(short = 't', hide = true)]
    pub fstype: Option<OsString>,
    #[arg(short = 'w', hide = true)]
    pub read_write: bool,

    /// Show this help
    #[arg(short = 'h', long = "help", action = clap::ArgAction::HelpShort)]
    pub help: Option<bool>,
}

impl Args {
    /// Understands the command line; the error is clap's, which also carries help and version.
    pub fn read(args: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::with_help().try_get_matches_from(args)?;
        Self::from_arg_matches(&matches)
    }

    /// The command with the options' help, for `--help`, the manual page and shell completions.
    pub fn with_help() -> clap::Command {
        Self::command().after_help(StyledStr::from(format!("{}\n{FOOT}", options::help())))
    }
}

/// The end of `--help`; the manual page has it too.
pub const FOOT: &str = "\
Password:  asked for, or from the URL (wiped from ps), credentials=FILE,
           FTPFS_PASSWORD, password_stdin, the configuration, ~/.netrc
Names:     [server.work] in /etc/ftpfs.toml or ~/.config/ftpfs/config.toml: ftpfs work: /mnt
Also:      ftpfs doctor SOURCE (why does it not work?), status, list, flush, forget,
           umount (waits for uploads); each with --help
Unmount:   ftpfs umount MOUNTPOINT, or umount(8), as a user fusermount3 -u
fstab:     ftp://joe@host/ /mnt fuse.ftpfs _netdev,nofail,credentials=FILE 0 0
Exit:      0 mounted, 1 usage, 2 login refused, 3 cannot reach, 4 cannot mount,
           5 TLS, 6 local trouble, 7 ended with uploads not confirmed
           (as mount.ftpfs: mount(8)'s 1, 2 and 32)";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Args, clap::Error> {
        Args::read(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_manners_of_sshfs_and_mount_are_understood() {
        let args = read(&["ftpfs", "-f", "ftp://h/", "/mnt", "-o", "ro,uid=5", "-onoexec"]).expect("good");
        assert_eq!((args.foreground, args.options.len()), (true, 2));
        let args = read(&["mount.ftpfs", "ftp://h/", "/mnt", "-sfnv", "-o", "rw,_netdev"]).expect("good");
        assert!(args.foreground && args.no_mtab && args.verbose == 1);
        assert!(read(&["ftpfs", "--nonsense"]).is_err());
    }

    #[test]
    fn the_name_decides_the_manner() {
        let of = |name: &str| Manner::of(OsStr::new(name));
        assert_eq!(of("/usr/bin/ftpfs"), Manner::Command);
        assert_eq!(of("/sbin/mount.ftpfs"), Manner::Helper);
        assert_eq!(of("mount.fuse.ftpfs"), Manner::Helper);
        assert_eq!(of("/sbin/umount.fuse.ftpfs"), Manner::UmountHelper);
    }

    #[test]
    fn the_help_fits_one_screen() {
        let help = Args::with_help().term_width(80).render_help().to_string();
        assert!(help.lines().count() <= 50, "{} lines", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
