//! Listings: `ls -l` lines for LIST, facts for MLSD and MLST (RFC 3659, section 7).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::time;

/// What LIST sends for a folder or a file.
pub fn list(path: &Path, hidden: bool) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if !fs::metadata(path)?.is_dir() {
        let name = path.file_name().unwrap_or_default().as_bytes();
        line(&mut out, path, name, &fs::symlink_metadata(path)?);
        return Ok(out);
    }
    if hidden {
        line(&mut out, path, b".", &fs::metadata(path)?);
        line(&mut out, path, b"..", &fs::metadata(path)?);
    }
    for (name, found) in entries(path)? {
        if hidden || name.first() != Some(&b'.') {
            line(&mut out, &path.join(std::ffi::OsStr::from_bytes(&name)), &name, &found);
        }
    }
    Ok(out)
}

/// What NLST sends.
pub fn nlst(path: &Path) -> io::Result<Vec<u8>> {
    Ok(entries(path)?.into_iter().flat_map(|(name, _)| [name, b"\r\n".to_vec()].concat()).collect())
}

/// What MLSD sends.
pub fn mlsd(path: &Path) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let itself = fs::metadata(path)?;
    let entries = entries(path)?;
    out.extend(facts("cdir", &itself).into_bytes());
    out.extend(b" .\r\n");
    out.extend(facts("pdir", &itself).into_bytes());
    out.extend(b" ..\r\n");
    for (name, found) in entries {
        let at = path.join(std::ffi::OsStr::from_bytes(&name));
        out.extend(facts(&kind(&at, &found), &found).into_bytes());
        out.push(b' ');
        out.extend(&name);
        out.extend(b"\r\n");
    }
    Ok(out)
}

/// The line of facts in an MLST reply, without the path.
pub fn mlst(path: &Path) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    Ok(facts(&kind(path, &found), &found))
}

fn entries(path: &Path) -> io::Result<Vec<(Vec<u8>, Metadata)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Gone in the meantime: not there.
        if let Ok(metadata) = entry.metadata() {
            found.push((entry.file_name().into_vec(), metadata));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn line(out: &mut Vec<u8>, path: &Path, name: &[u8], found: &Metadata) {
    let letter = match () {
        () if found.is_dir() => 'd',
        () if found.is_symlink() => 'l',
        () if found.is_file() => '-',
        () => 'p',
    };
    let mode = found.permissions().mode();
    let bits: String =
        (0..9).map(|i| if mode & (0o400 >> i) == 0 { '-' } else { ['r', 'w', 'x'][i % 3] }).collect();
    let modified = time::column(found.modified().unwrap_or(SystemTime::UNIX_EPOCH), SystemTime::now());
    let (links, uid, gid, size) = (found.nlink(), found.uid(), found.gid(), found.len());
    out.extend(format!("{letter}{bits} {links:4} {uid:<8} {gid:<8} {size:12} {modified} ").bytes());
    out.extend(name);
    if found.is_symlink()
        && let Ok(target) = fs::read_link(path)
    {
        out.extend(b" -> ");
        out.extend(target.as_os_str().as_bytes());
    }
    out.extend(b"\r\n");
}

fn kind(path: &Path, found: &Metadata) -> String {
    match () {
        () if found.is_dir() => "dir".into(),
        () if found.is_symlink() => match fs::read_link(path) {
            Ok(target) => format!("OS.unix=slink:{}", target.display()),
            Err(_) => "OS.unix=slink".into(),
        },
        () if found.is_file() => "file".into(),
        () => "OS.unix=special".into(),
    }
}

fn facts(kind: &str, found: &Metadata) -> String {
    let modify = time::stamp(found.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let mode = found.permissions().mode() & 0o7777;
    let size = if found.is_dir() { String::new() } else { format!("size={};", found.len()) };
    format!(
        "type={kind};{size}modify={modify};UNIX.mode=0{mode:o};unique={:x}g{:x};",
        found.dev(),
        found.ino()
    )
}
