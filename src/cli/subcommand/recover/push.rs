//! Uploading what was kept: by a mount, or in a session of its own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::Flock;

use super::{hold, local};
use crate::cli::failure::{Exit, Failure};
use crate::cli::secrets::Secrets;
use crate::cli::subcommand::control;
use crate::cli::{Wanted, config, credentials, logging, understand};
use crate::fs::FileSystem;
use crate::status::{self, NOT_OURS};
use crate::write::journal;
use crate::write::kept::{self, Kept};

/// Uploads them one after the other, and says what became of each.
pub(super) fn run(
    chosen: &[Kept],
    server: Option<&OsStr>,
    options: &[OsString],
    spool: &Path,
    secrets: &Secrets,
) -> Result<(), Failure> {
    let session = match server {
        Some(server) => Some(Direct::open(server, options, spool, secrets)?),
        None => None,
    };
    let mut failed = 0;
    for kept in chosen {
        let outcome = match &session {
            Some(session) => session.push(kept),
            None => hold(kept).map_err(|failure| failure.message).and_then(|_lock| control::push(kept)),
        };
        match outcome {
            Ok(told) if told.is_empty() => println!("{}: uploaded", kept.id),
            Ok(told) => println!("{}: {told}", kept.id),
            Err(why) => {
                failed += 1;
                crate::cli::complain(&format!("{}: {why}", kept.id));
            }
        }
    }
    if let Some(session) = session {
        session.filesystem.shutdown(Duration::ZERO, || false);
    }
    if failed > 0 {
        return Err(Failure::new(
            Exit::Unconfirmed,
            format!("{failed} file(s) could not be uploaded; they stay"),
        ));
    }
    Ok(())
}

/// A session without a mount.
struct Direct {
    filesystem: Arc<FileSystem>,
    /// Of everything: what other mounts of this server left is none of our business.
    locks: Vec<Flock<File>>,
}

impl Direct {
    fn open(server: &OsStr, options: &[OsString], spool: &Path, secrets: &Secrets) -> Result<Self, Failure> {
        let Wanted { source, mut settings, .. } = understand(server, options)?;
        logging::start(settings.debug, 0, settings.log_file.as_deref())
            .map_err(|error| Failure::new(Exit::Local, format!("cannot open the log file: {error}")))?;
        let mut locks = Vec::new();
        for journal in journal::look(spool).map_err(|error| local(spool, &error))? {
            locks.extend(journal::lock(&journal.folder).map_err(|error| local(&journal.folder, &error))?);
        }
        let unsent = spool.join(kept::FOLDER);
        if unsent.is_dir() {
            match journal::lock(&unsent).map_err(|error| local(&unsent, &error))? {
                Some(lock) => locks.push(lock),
                None => return Err(Failure::new(Exit::Local, "another `ftpfs recover` is at work")),
            }
        }
        settings.filesystem.spool_dir = spool.to_owned();
        settings.filesystem.writeback = false;
        settings.filesystem.read_only = false;
        let credentials = credentials::find(&source, &settings.login, secrets)?;
        let user = credentials.user.clone();
        let config = config(source, credentials, &settings);
        let place = format!("{}:{}", config.host, config.port);
        let filesystem = FileSystem::start(config, settings.filesystem)
            .map_err(|error| Failure::from_ftp(&error, &place, &user))?;
        Ok(Self { filesystem, locks })
    }

    fn push(&self, kept: &Kept) -> Result<String, String> {
        if kept.is_in_use {
            return Err("a mount is uploading it".to_owned());
        }
        log::debug!("{}, with {} locks", kept.file.display(), self.locks.len());
        let belongs = || kept.record.as_ref().map(|record| format!("{}{}", record.server, record.path));
        status::push(&self.filesystem, &kept.file).map_err(|why| match why.as_str() {
            NOT_OURS => format!("it belongs to {}", belongs().unwrap_or_default()),
            _ => why,
        })
    }
}
