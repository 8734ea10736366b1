//! What is done *about* mounts rather than mounting: `ftpfs doctor URL`, `ftpfs status`, `list`, `umount`, `flush`, `forget`,
//! `recover`.
//!
//! The first word decides: a SOURCE always holds a colon, so none of these words can be one. The helpers' names
//! (`mount.ftpfs`, `umount.fuse.ftpfs`) know no subcommands.

#![allow(rustdoc::broken_intra_doc_links, reason = "in a help text brackets mean that it may be left out")]

mod control;
mod doctor;
mod external;
mod progress;
mod recover;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
pub use recover::{RecoverAction, RecoverArgs};

use super::args::Manner;
use super::complain;
use super::failure::{Exit, Failure};
use super::secrets::Secrets;

/// Look at a server, or at what is mounted.
#[derive(Debug, Parser)]
#[command(name = "ftpfs", version, max_term_width = 100)]
pub struct Line {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Try everything that a mount would need, and say what works, what does not, and what to do
    Doctor(DoctorArgs),
    /// Show what a mount is doing (all of them, when none is named)
    Status(StatusArgs),
    /// List the mounts
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait until everything is uploaded, then unmount
    Umount(UmountArgs),
    /// Wait until the server has confirmed everything that was written
    Flush(FlushArgs),
    /// Forget all that is cached: what is asked for next comes from the server
    Forget {
        #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
        mount_point: PathBuf,
    },
    /// Show what could not be uploaded and is kept on the local disk; upload, copy or delete it
    Recover(RecoverArgs),
}

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// As for mounting: ftp://[user@]host[:port]/folder, ftps:// or ftpes:// for TLS
    #[arg(value_name = "SOURCE")]
    pub source: OsString,

    /// Options, as for mounting
    #[arg(short = 'o', value_name = "OPT,OPT=VALUE", allow_hyphen_values = true)]
    pub options: Vec<OsString>,

    /// As JSON
    #[arg(long)]
    pub json: bool,

    /// Make, change and remove a small file in this folder of the server (nothing is written otherwise)
    #[arg(long, value_name = "DIR")]
    pub write_test: Option<OsString>,

    /// Show the dialogue with the server
    #[arg(short = 'd')]
    pub debug: bool,
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    pub mount_point: Option<PathBuf>,

    /// As JSON, one line for each mount
    #[arg(long, conflicts_with = "metrics")]
    pub json: bool,

    /// In the text format of Prometheus
    #[arg(long)]
    pub metrics: bool,

    /// Again every second, until interrupted
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, clap::Args)]
pub struct UmountArgs {
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    pub mount_point: PathBuf,

    /// Seconds to wait for uploads; then it stays mounted
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub struct FlushArgs {
    #[arg(value_name = "MOUNTPOINT", value_hint = clap::ValueHint::DirPath)]
    pub mount_point: PathBuf,

    /// Seconds to wait
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,
}

/// Whether this first argument is one of the words.
pub fn is_one(word: &OsStr) -> bool {
    WORDS.iter().any(|known| word == *known)
}

/// As umount(8)'s helper; gives the exit code.
pub fn umount_helper(args: &[OsString]) -> u8 {
    let args = match external::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return Exit::Usage.code(Manner::UmountHelper);
        }
    };
    match external::umount(&args) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.to_string());
            failure.exit.code(Manner::UmountHelper)
        }
    }
}

/// Runs one; gives the exit code.
pub fn main(args: &[OsString], secrets: &Secrets) -> u8 {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage as u8 } else { 0 };
        }
    };
    let outcome = match line.action {
        Action::Doctor(args) => doctor::run(&args, secrets),
        Action::Status(args) => control::status(&args),
        Action::List { json } => control::list(json),
        Action::Umount(args) => control::umount(&args.mount_point, args.timeout),
        Action::Flush(args) => control::flush(&args.mount_point, args.timeout),
        Action::Forget { mount_point } => control::forget(&mount_point),
        Action::Recover(args) => recover::run(&args, secrets),
    };
    match outcome {
        Ok(()) => 0,
        Err(Failure { exit, message }) if message.is_empty() => exit as u8,
        Err(failure) => {
            complain(&failure.to_string());
            failure.exit as u8
        }
    }
}

const WORDS: [&str; 7] = ["doctor", "status", "list", "umount", "flush", "forget", "recover"];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_word_is_a_subcommand_and_every_subcommand_a_word() {
        let command = Line::command();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, WORDS);
        Line::command().debug_assert();
    }

    #[test]
    fn a_source_is_never_a_word() {
        for source in ["ftp://status/", "status:", "joe@list:/x"] {
            assert!(!is_one(OsStr::new(source)));
        }
    }
}
