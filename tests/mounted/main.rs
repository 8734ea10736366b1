//! A mounted server behaves like a local folder: what ordinary programs and plain file calls do, on each of four servers.
//! After every change the bytes on the server's side are compared, not only what the mount says.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
#[path = "../harness/mod.rs"]
mod harness;

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Each promise on the main servers and on some that allow few sessions. Every other number on every server:
/// `FTPFS_MAX_SESSIONS=3 cargo test --test mounted`.
macro_rules! everywhere {
    ($($promise:tt)*) => {
        $crate::on_each_server! {
            [
                vsftpd Vsftpd, proftpd Proftpd, pure_ftpd PureFtpd, pyftpdlib Pyftpdlib,
                one_session Vsftpd 1, two_sessions Proftpd 2
            ]
            $($promise)*
        }
    };
}

mod files;
mod folders;
mod odd_names;

/// Writes and waits for the server: the standard library drops the error of close().
fn write_synced(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"x")?;
    file.sync_all()
}

#[track_caller]
fn errno<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e.raw_os_error().unwrap_or_else(|| panic!("no number: {e}")),
    }
}

/// Bytes that no compression, conversion or off-by-one leaves unnoticed; always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
