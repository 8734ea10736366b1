//! What a soak has done, and how long each call took: a system call of a program, not a step that is made of several.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::harness::files::close;

#[derive(Default)]
pub struct Tally {
    pub faults: AtomicU64,
    pub operations: AtomicU64,
    pub errors: AtomicU64,
    pub compared: AtomicU64,
    calls: AtomicU64,
    under_way: Mutex<BTreeMap<u64, Call>>,
    /// Of each kind.
    longest: Mutex<BTreeMap<&'static str, (Duration, Call)>>,
}

#[derive(Clone, Debug)]
struct Call {
    what: String,
    began: Instant,
    /// As in the program's log.
    at: jiff::Timestamp,
    is_told: bool,
}

impl Tally {
    /// Makes one system call on a path, and remembers how long it took.
    pub fn call<T>(
        &self,
        name: &'static str,
        path: &Path,
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().display();
        let what = format!("{name} {folder}/{}", path.file_name().unwrap_or_default().display());
        let call = Call { what, began: Instant::now(), at: jiff::Timestamp::now(), is_told: false };
        self.under_way.lock().unwrap().insert(number, call);
        let outcome = make();
        let mut call = self.under_way.lock().unwrap().remove(&number).unwrap();
        let took = call.began.elapsed();
        call.what += &outcome.as_ref().err().map_or(String::new(), |error| format!(" ({error})"));
        let mut longest = self.longest.lock().unwrap();
        let entry = longest.entry(name).or_insert_with(|| (took, call.clone()));
        if took > entry.0 {
            *entry = (took, call);
        }
        drop(longest);
        outcome
    }

    /// Whether a call has been under way for too long; each is told once.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        let mut found = false;
        for call in self.under_way.lock().unwrap().values_mut() {
            if call.began.elapsed() > limit && !call.is_told {
                call.is_told = true;
                found = true;
                eprintln!("under way since {}: {} ({:?})", call.at, call.what, call.began.elapsed());
            }
        }
        found
    }

    /// The longest call that the server need not have confirmed a file for, and the longest for which it must.
    pub fn longest(&self) -> (Duration, Duration) {
        let longest = self.longest.lock().unwrap();
        let (confirmed, other): (Vec<_>, Vec<_>) =
            longest.iter().partition(|(name, _)| ["close", "fsync"].contains(*name));
        let most = |of: Vec<(_, &(Duration, Call))>| of.into_iter().map(|(_, call)| call.0).max();
        (most(other).unwrap_or_default(), most(confirmed).unwrap_or_default())
    }

    /// The longest call of each kind, a line each.
    pub fn say(&self) -> String {
        let mut text = format!("{} calls; the longest:\n", self.calls.load(Ordering::Relaxed));
        for (took, call) in self.longest.lock().unwrap().values() {
            text += &format!("    {:.3} s since {}: {}\n", took.as_secs_f64(), call.at, call.what);
        }
        text
    }

    /// Writes a file, new or emptied; success is what close() says.
    pub fn store(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let file = self.call("creat", path, || File::create(path))?;
        self.write(path, &file, content)?;
        self.close(path, file)
    }

    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = self.call("open", path, || File::open(path))?;
        let mut content = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = self.call("read", path, || file.read(&mut piece))?;
            if read == 0 {
                break;
            }
            content.extend_from_slice(&piece[..read]);
        }
        self.close(path, file)?;
        Ok(content)
    }

    pub fn write(&self, path: &Path, mut file: &File, content: &[u8]) -> io::Result<()> {
        content.chunks(256 << 10).try_for_each(|piece| self.call("write", path, || file.write_all(piece)))
    }

    pub fn patch(&self, path: &Path, file: &File, offset: u64, content: &[u8]) -> io::Result<()> {
        self.call("pwrite", path, || file.write_all_at(content, offset))?;
        self.call("fsync", path, || file.sync_all())
    }

    pub fn close(&self, path: &Path, file: File) -> io::Result<()> {
        self.call("close", path, || close(file))
    }

    pub fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut entries = self.call("opendir", folder, || fs::read_dir(folder))?;
        let mut names = Vec::new();
        while let Some(name) = self.call("readdir", folder, || {
            entries.next().transpose().map(|entry| entry.map(|entry| entry.file_name()))
        })? {
            names.push(name.to_string_lossy().into_owned());
        }
        Ok(names)
    }
}
