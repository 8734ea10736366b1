//! What a program does with files when it looks at what close() says, which Rust's own does not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Writes a file, new or emptied; success is what close() says.
pub fn store(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    close(file)
}

/// close(), with its error.
pub fn close(file: File) -> io::Result<()> {
    nix::unistd::close(file.into_raw_fd()).map_err(io::Error::from)
}

/// What is in a folder, sorted.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// More than fits into the buffers between two sockets, and no multiple of anything.
pub fn content() -> Vec<u8> {
    (0..100_003u32).flat_map(u32::to_le_bytes).collect()
}

/// Sets the time of a file to so many seconds ago.
pub fn date(file: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}
