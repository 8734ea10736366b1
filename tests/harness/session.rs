//! What tests do with a session of their own, without a mount: [`read`] a file, name a [`path`].

use ftpfs::ftp::{Error, RemotePath, Session};

/// A file's bytes from `offset` on, as far as its transfer is confirmed.
pub fn read(session: &mut Session, path: &RemotePath, offset: u64) -> Result<Vec<u8>, Error> {
    let mut download = session.retrieve(path, offset)?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 65_536]);
    loop {
        match download.read(&mut buffer)? {
            0 => break,
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
    download.finish()?;
    Ok(all)
}

pub fn path(name: &str) -> RemotePath {
    RemotePath::parse(name.as_bytes()).unwrap()
}
