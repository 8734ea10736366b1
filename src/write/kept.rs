//! What could not be uploaded is kept: the bytes in a file of their own, and beside it where they belong and why.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Draft;
use super::spool::make_folder;

/// Copies the unsent bytes of a draft to `folder`/unsent/ and returns the file's name. A text file with the same name
/// and `.info` says where they belong.
///
/// # Errors
/// Those of the local disk.
pub fn keep(draft: &Draft, folder: &Path, server: &str, path: &str, reason: &str) -> io::Result<PathBuf> {
    let folder = folder.join("unsent");
    make_folder(&folder)?;
    let base = path.rsplit('/').next().unwrap_or_default();
    let plain: String =
        base.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut attempt = 0u32;
    let (name, file) = loop {
        let name = folder.join(format!("{seconds}-{}-{attempt}-{plain}", std::process::id()));
        match File::options().write(true).create_new(true).mode(0o600).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            opened => break (name, opened?),
        }
    };
    let parts = draft.unsent();
    let mut buffer = vec![0; 128 * 1024];
    for part in &parts {
        let mut at = part.start;
        while at < part.end {
            let len = buffer.len().min((part.end - at) as usize);
            draft.copy_out(at, &mut buffer[..len])?;
            file.write_all_at(&buffer[..len], at)?;
            at += len as u64;
        }
    }
    file.set_len(draft.size())?;
    file.sync_all()?;
    let info_name =
        name.with_file_name(format!("{}.info", name.file_name().unwrap_or_default().to_string_lossy()));
    let mut info = File::options().write(true).create(true).truncate(true).mode(0o600).open(info_name)?;
    writeln!(info, "server: {server}\npath: {path}\nsize: {}\nreason: {reason}", draft.size())?;
    for part in &parts {
        writeln!(info, "bytes: {}-{}", part.start, part.end)?;
    }
    info.sync_all()?;
    Ok(name)
}
