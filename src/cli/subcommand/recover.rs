//! `ftpfs recover`: what the server does not have is on the local disk; this shows it, and brings it where it belongs.
//!
//! Without more words it lists ([`listing`]). `push` uploads: through the mount of that server, when one is there, else
//! ([`push`]) in a session of its own, with the SOURCE as for mounting. Either way it is an upload as any other: beside,
//! checked, renamed, and if the server's file has changed since, both are kept. `save` copies the bytes to a file here, `drop` deletes them.
//!
//! What a mount is bringing over by itself is shown, and not touched. A lock keeps two of these off each other.

#![allow(rustdoc::broken_intra_doc_links, reason = "in a help text brackets mean that it may be left out")]

mod listing;
mod push;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use nix::fcntl::Flock;

use crate::cli::failure::{Exit, Failure};
use crate::cli::options::Settings;
use crate::cli::secrets::Secrets;
use crate::write::kept::{self, Kept};

#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    #[command(subcommand)]
    pub action: Option<RecoverAction>,

    /// As JSON, one line for each file
    #[arg(long)]
    pub json: bool,

    /// Options, as for mounting: spool_dir= above all
    #[arg(short = 'o', value_name = "OPT,OPT=VALUE", allow_hyphen_values = true, global = true)]
    pub options: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum RecoverAction {
    /// Upload to where it belongs: through the mount of that server, or to a SOURCE
    Push {
        /// As listed; the beginning will do
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,

        /// Everything
        #[arg(long, conflicts_with = "ids")]
        all: bool,

        /// Without a mount: ftp://[user@]host[:port]/folder, as for mounting
        #[arg(long, value_name = "SOURCE")]
        server: Option<OsString>,
    },
    /// Copy to a local file
    Save {
        #[arg(value_name = "ID")]
        id: String,

        /// A new file, or - for standard output
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Delete for good
    Drop {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// Runs it.
pub(super) fn run(args: &RecoverArgs, secrets: &Secrets) -> Result<(), Failure> {
    let spool = spool_dir(&args.options)?;
    let found = match kept::list(&spool) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        found => found.map_err(|error| local(&spool, &error))?,
    };
    match &args.action {
        None => {
            listing::show(&found, &spool, args.json);
            Ok(())
        }
        Some(RecoverAction::Push { ids, all, server }) => {
            if let Ok(folder) = spool.canonicalize() {
                crate::cli::check_private(&folder, "spool_dir")?;
            }
            let chosen = if *all {
                found.into_iter().filter(|kept| !kept.is_in_use).collect()
            } else {
                ids.iter().map(|id| choose(&found, id)).collect::<Result<Vec<_>, _>>()?
            };
            push::run(&chosen, server.as_deref(), &args.options, &spool, secrets)
        }
        Some(RecoverAction::Save { id, file }) => save(&choose(&found, id)?, file),
        Some(RecoverAction::Drop { ids }) => {
            let chosen = ids.iter().map(|id| choose(&found, id)).collect::<Result<Vec<_>, _>>()?;
            for kept in &chosen {
                let _lock = hold(kept)?;
                kept.remove().map_err(|error| local(&kept.file, &error))?;
            }
            Ok(())
        }
    }
}

/// The one with this name, or whose name begins so.
fn choose(found: &[Kept], id: &str) -> Result<Kept, Failure> {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    if let Some(kept) = found.iter().find(|kept| kept.id == id) {
        return Ok(kept.clone());
    }
    let mut like = found.iter().filter(|kept| kept.id.starts_with(id));
    match (like.next(), like.next()) {
        (Some(kept), None) => Ok(kept.clone()),
        (Some(_), Some(_)) => {
            usage(format!("{id}: there are several that begin so (`ftpfs recover` lists them)"))
        }
        (None, _) => usage(format!("{id}: there is none of this name (`ftpfs recover` lists them)")),
    }
}

/// Keeps everybody else off it.
fn hold(kept: &Kept) -> Result<Flock<File>, Failure> {
    match kept.lock() {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) if kept.is_in_use => {
            Err(Failure::new(Exit::Local, format!("{}: a mount is uploading it", kept.id)))
        }
        Ok(None) => Err(Failure::new(Exit::Local, "another `ftpfs recover` is at work")),
        Err(error) => Err(local(&kept.file, &error)),
    }
}

fn save(kept: &Kept, to: &Path) -> Result<(), Failure> {
    let _lock = hold(kept)?;
    let (file, start) = kept.open().map_err(|error| local(&kept.file, &error))?;
    let mut out: Box<dyn Write> = if to == Path::new("-") {
        Box::new(io::stdout().lock())
    } else {
        let made = File::options().write(true).create_new(true).mode(0o600).open(to);
        Box::new(made.map_err(|error| local(to, &error))?)
    };
    let size = kept.size();
    let mut buffer = vec![0; 128 * 1024];
    let mut at = 0;
    while at < size {
        let len = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..len).unwrap_or_default();
        piece.fill(0);
        // What is not here, at the end too, reads as zeros.
        let got = file.read_at(piece, start + at).map_err(|error| local(&kept.file, &error))?;
        let got = if got == 0 { len } else { got };
        out.write_all(piece.get(..got).unwrap_or_default()).map_err(|error| local(to, &error))?;
        at += got as u64;
    }
    out.flush().map_err(|error| local(to, &error))?;
    if let Some(record) = kept.record.as_ref().filter(|record| !record.is_whole()) {
        let parts: Vec<String> =
            record.parts.iter().take(10).map(|part| format!("{}-{}", part.start, part.end)).collect();
        super::complain(&format!(
            "warning: this is a part of the file; bytes {} are here, the others are zeros",
            parts.join(", ")
        ));
    }
    Ok(())
}

fn spool_dir(options: &[OsString]) -> Result<PathBuf, Failure> {
    let mut settings = Settings::new();
    for list in options {
        settings.apply(list).map_err(|message| Failure::new(Exit::Usage, message))?;
    }
    crate::cli::spool_folder(settings.spool_dir.as_deref())
}

fn local(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Local, format!("{}: {error}", path.display()))
}
