//! What is measured: what programs do in a mount, and what a plain client does for the same.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::clients::Place;
use crate::harness::{Server, Target};
use crate::plain::Session;

/// One row of the table.
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    /// Megabytes when the speed is shown instead of the time.
    pub megabytes: Option<f64>,
    /// Round trips over which it is measured.
    pub rtts: &'static [u64],
    /// Whether both modes of rclone are of interest: they differ for large files only.
    pub both_modes: bool,
    /// In a mount; the second path is a folder on a local disk.
    pub mounted: fn(&Path, &Path) -> io::Result<()>,
    pub plain: Option<fn(&Place, &Path) -> io::Result<()>>,
}

pub const ALL: &[Workload] = &[
    Workload {
        name: "big",
        title: "one big file",
        megabytes: Some(BIG as f64 / 1e6),
        rtts: EVERYWHERE,
        both_modes: true,
        mounted: |mount, _| sh(mount, "cat big0 > /dev/null"),
        plain: Some(|place, local| curl(place, local, "curl -sS -o /dev/null $url/big0")),
    },
    Workload {
        name: "four",
        title: "four big files at once",
        megabytes: Some(4.0 * BIG as f64 / 1e6),
        rtts: EVERYWHERE,
        both_modes: true,
        mounted: |mount, _| sh(mount, "for i in 0 1 2 3; do cat big$i > /dev/null & done; wait"),
        plain: Some(|place, local| {
            curl(place, local, "for i in 0 1 2 3; do curl -sS -o /dev/null $url/big$i & done; wait")
        }),
    },
    Workload {
        name: "random",
        title: "200 random reads of 4 KiB",
        megabytes: None,
        rtts: NEARBY,
        both_modes: false,
        mounted: |mount, _| {
            let file = File::open(mount.join("big0"))?;
            // Without it the kernel takes some for a sequential reader's and asks for more.
            let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM;
            nix::fcntl::posix_fadvise(&file, 0, 0, advice)?;
            random(|offset| file.read_exact_at(&mut [0; 4096], offset))
        },
        plain: Some(|place, _| {
            let mut session = Session::open(place)?;
            random(|offset| session.fetch("RETR big0", offset, 4096).map(drop))
        }),
    },
    Workload {
        name: "heads",
        title: "first 64 KiB of 50 files of 8 MiB",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, _| {
            (0..50).try_for_each(|i| {
                File::open(mount.join(format!("heads/{i:03}")))?.read_exact_at(&mut vec![0; 65_536], 0)
            })
        },
        plain: Some(|place, _| {
            let mut session = Session::open(place)?;
            (0..50).try_for_each(|i| session.fetch(&format!("RETR heads/{i:03}"), 0, 65_536).map(drop))
        }),
    },
    Workload {
        name: "cp-out",
        title: "cp -r of 500 files of 4 KiB out",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, local| sh(mount, &format!("cp -r small {}", local.display())),
        plain: Some(|place, _| {
            eight(place, &|session, i| session.fetch(&format!("RETR small/{i:03}"), 0, usize::MAX).map(drop))
        }),
    },
    Workload {
        name: "cp-in",
        title: "cp -r of 500 files of 4 KiB in",
        megabytes: None,
        rtts: NEARBY,
        both_modes: false,
        mounted: |mount, local| sh(mount, &format!("cp -r {} new", local.join("source").display())),
        plain: Some(|place, _| {
            Session::open(place)?.command("MKD new")?;
            eight(place, &|session, i| session.store(&format!("new/{i:03}"), &[b'x'; 4096]))
        }),
    },
    Workload {
        name: "grep",
        title: "grep -r in 500 files of 4 KiB",
        megabytes: None,
        rtts: NEARBY,
        both_modes: false,
        mounted: |mount, _| sh(mount, "grep -r needle small; test $? = 1"),
        plain: None,
    },
    Workload {
        name: "find",
        title: "find over 100 folders of 20 files",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, _| sh(mount, "test $(find folders | wc -l) = 2101"),
        plain: Some(|place, _| {
            let mut session = Session::open(place)?;
            session.fetch("LIST folders", 0, usize::MAX)?;
            (0..100).try_for_each(|i| session.fetch(&format!("LIST folders/{i:03}"), 0, usize::MAX).map(drop))
        }),
    },
    Workload {
        name: "ls",
        title: "ls -l of 10,000 entries",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, _| sh(mount, "test $(ls -l many | wc -l) = 10001"),
        plain: Some(|place, _| Session::open(place)?.fetch("LIST many", 0, usize::MAX).map(drop)),
    },
    Workload {
        name: "ls-again",
        title: "ls -l of 10,000 entries, the second time",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, _| sh(mount, "test $(ls -l many | wc -l) = 10001"),
        plain: None,
    },
    Workload {
        name: "upload",
        title: "upload of one big file",
        megabytes: Some(BIG as f64 / 1e6),
        rtts: EVERYWHERE,
        both_modes: true,
        mounted: |mount, local| sh(mount, &format!("cp {} up", local.join("big").display())),
        plain: Some(|place, local| curl(place, local, "curl -sS -T big $url/up")),
    },
    Workload {
        name: "clone",
        title: "git clone of 100 files into the mount",
        megabytes: None,
        rtts: NEARBY,
        both_modes: false,
        mounted: |mount, local| {
            sh(
                mount,
                &format!(
                    "git clone -q --no-local {} clone && test -f clone/99",
                    local.join("repository").display()
                ),
            )
        },
        plain: None,
    },
    Workload {
        name: "appends",
        title: "20 appends of one line to a log of 4 MiB",
        megabytes: None,
        rtts: EVERYWHERE,
        both_modes: false,
        mounted: |mount, _| sh(mount, "for i in $(seq 20); do echo line $i >> log; done"),
        plain: Some(|place, _| {
            let mut session = Session::open(place)?;
            (0..20).try_for_each(|i| session.append("log", format!("line {i}\n").as_bytes()))
        }),
    },
];

/// Fills the served folder, and a local one with what is copied in.
pub fn prepare(server: &Server, local: &Path) -> io::Result<()> {
    let pattern: Vec<u8> = (0..BIG).map(|i| (i / 7 % 251) as u8).collect();
    (0..4).for_each(|i| server.put(&format!("big{i}"), &pattern));
    fs::write(local.join("big"), &pattern)?;
    for i in 0..50 {
        server.put(&format!("heads/{i:03}"), &pattern[..8 << 20]);
    }
    fs::create_dir(local.join("source"))?;
    for i in 0..500 {
        server.put(&format!("small/{i:03}"), [b'x'; 4096]);
        fs::write(local.join(format!("source/{i:03}")), [b'x'; 4096])?;
    }
    for i in 0..100 {
        (0..20).for_each(|j| server.put(&format!("folders/{i:03}/{j:02}"), "x"));
    }
    (0..10_000).for_each(|i| server.put(&format!("many/a file with number {i:05}"), ""));
    server.put("log", &pattern[..4 << 20]);
    let repository = local.join("repository");
    fs::create_dir(&repository)?;
    (0..100).try_for_each(|i| fs::write(repository.join(i.to_string()), vec![i as u8; 1000 * i]))?;
    let commit = "git init -q . && git add . && git -c user.name=x -c user.email=x commit -q -m first";
    sh(&repository, commit)
}

/// Removes what a workload has written.
pub fn clean(server: &Server, local: &Path) {
    let _ = fs::remove_dir_all(server.root().join("new"));
    let _ = fs::remove_dir_all(server.root().join("clone"));
    let _ = fs::remove_file(server.root().join("up"));
    let _ = fs::remove_dir_all(local.join("small"));
}

fn sh(folder: &Path, script: &str) -> io::Result<()> {
    let limit = LIMIT.as_secs().to_string();
    let done = Command::new("timeout").args([&limit, "sh", "-c", script]).current_dir(folder).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr))))
}

fn curl(place: &Place, local: &Path, script: &str) -> io::Result<()> {
    let with = place.url().replacen('@', &format!(":{}@", place.password), 1);
    sh(local, &format!("url={}; {script}", with.trim_end_matches('/')))
}

fn random(mut read: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let started = Instant::now();
    let mut seed = 88_172_645_463_325_252_u64;
    for _ in 0..200 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        read(seed % (BIG as u64 / 4096) * 4096)?;
        if started.elapsed() > LIMIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// 500 things done by eight plain sessions.
fn eight(place: &Place, each: &(dyn Fn(&mut Session, usize) -> io::Result<()> + Sync)) -> io::Result<()> {
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..8)
            .map(|first| {
                scope.spawn(move || {
                    let mut session = Session::open(place)?;
                    (first..500).step_by(8).try_for_each(|i| each(&mut session, i))
                })
            })
            .collect();
        sessions
            .into_iter()
            .try_for_each(|session| session.join().map_err(|_| io::Error::other("panicked"))?)
    })
}

const EVERYWHERE: &[u64] = &[0, 20, 100];
/// What takes half a minute and more at 100 ms, and shows nothing new there.
const NEARBY: &[u64] = &[0, 20];
/// Bytes of a big file: larger than any cache of ours.
const BIG: usize = 256 << 20;
/// What takes longer is not waited for.
pub const LIMIT: Duration = Duration::from_secs(50);
