//! How a block lies in its file, and what the file is called. Pure, and fuzzed: what is on the disk may be anybody's, half
//! written, or of another program version.
//!
//! A file holds a mark, a checksum and the bytes. The checksum is made over what the block *is* (which server, path, size,
//! time and place in the file) and over its bytes, so a file that was cut short, overwritten or moved to another name is
//! not taken for a block.

use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;

/// Names one content of one file on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// None for a time before 1970.
    pub fn new(server: &str, path: &[u8], size: u64, modified: SystemTime) -> Option<Self> {
        let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::MAX).as_secs();
        if modified == u64::MAX {
            return None;
        }
        let mut hash = Sha256::new();
        for field in [server.as_bytes(), path] {
            // With their lengths: no two keys have the same bytes.
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        hash.update(&size.to_le_bytes());
        hash.update(&modified.to_le_bytes());
        Some(Self(hash.finish()))
    }

    /// Folder and file name of a block.
    pub fn name(&self, index: u64) -> String {
        let hex: String = self.0.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let (folder, file) = hex.split_at(2);
        format!("{folder}/{file}-{index:x}")
    }
}

/// What the file of a block begins with.
pub fn head(key: &Key, index: u64, data: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (mark, sum) = head.split_at_mut(MARK.len());
    mark.copy_from_slice(MARK);
    sum.copy_from_slice(&checksum(key, index, data));
    head
}

/// The bytes of a block, if this is the file of that block, whole.
pub fn data<'f>(key: &Key, index: u64, file: &'f [u8]) -> Option<&'f [u8]> {
    let (head, data) = file.split_at_checked(HEAD)?;
    let (mark, sum) = head.split_at_checked(MARK.len())?;
    (mark == MARK && sum == checksum(key, index, data)).then_some(data)
}

/// The number in the file that tells how many bytes all blocks take.
pub fn total(file: &[u8]) -> Option<u64> {
    std::str::from_utf8(file).ok()?.strip_suffix('\n')?.parse().ok()
}

fn checksum(key: &Key, index: u64, data: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&key.0);
    hash.update(&index.to_le_bytes());
    hash.update(data);
    hash.finish()
}

/// Bytes in front of a block's own.
pub const HEAD: usize = MARK.len() + 32;
/// The number changes with the form, and with the size of a block.
const MARK: &[u8; 8] = b"ftpfs-2\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &[u8], size: u64, second: u64) -> Key {
        Key::new("ftp://u@h:21", path, size, SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap()
    }

    #[test]
    fn only_the_whole_block_under_its_own_name_is_one() {
        let key = key(b"/a", 10, 7);
        let file = [head(&key, 3, b"content").as_slice(), b"content"].concat();
        assert_eq!(data(&key, 3, &file), Some(b"content".as_slice()));
        assert_eq!(data(&key, 4, &file), None);
        for cut in 0..file.len() {
            assert_eq!(data(&key, 3, &file[..cut]), None);
            let mut changed = file.clone();
            changed[cut] ^= 1;
            assert_eq!(data(&key, 3, &changed), None);
        }
        assert_eq!(data(&key, 3, &[file.as_slice(), b"x"].concat()), None);
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let keys = [key(b"/a", 10, 7), key(b"/b", 10, 7), key(b"/a", 11, 7), key(b"/a", 10, 8)];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != one && other.name(0) != one.name(0)));
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Key::new("s", b"/a", 1, before), None);
    }

    #[test]
    fn a_total_is_a_number_and_nothing_else() {
        assert_eq!(total(b"123\n"), Some(123));
        for odd in [&b""[..], b"12", b"-1\n", b"1e3\n", b"99999999999999999999\n", b"\xff\n"] {
            assert_eq!(total(odd), None);
        }
    }
}
