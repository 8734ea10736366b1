//! `cache_dir=`: what was read before the mount ended need not come again, and is never wrong.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::files::date;
use harness::patience::eventually_within;
use harness::scratch::Scratch;
use harness::scripted::Server;
use harness::{Kind, Mount, Target};

#[test]
fn what_was_read_before_is_not_fetched_again_after_a_remount() {
    let at = Place::new();
    for round in 0..2 {
        let mount = at.mount(&[]);
        at.compare(&mount);
        assert_eq!(at.server.counters().of("RETR") > 0, round == 0, "{:?}", at.server.counters().now());
        assert!(mount.unmount().success());
        at.server.counters().reset();
    }
}

#[test]
fn a_real_server_without_exact_listings_is_served_from_the_disk_as_well() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    let (cache, content) = (Scratch::new("cache"), content(7));
    server.put("file", &content);
    date(&server.root().join("file"), 3600);
    let option = format!("cache_dir={}", cache.path().display());
    for _ in 0..2 {
        let mount = Mount::new(&server, &[&option]);
        assert!(fs::read(mount.path().join("file")).unwrap() == content);
        let fetched = mount.log().contains("> RETR");
        assert_eq!(fetched, !server.root().join("second").exists(), "{}", mount.log());
        assert!(mount.unmount().success());
        server.put("second", "");
    }
}

#[test]
fn a_file_that_has_changed_meanwhile_is_read_anew() {
    let at = Place::new();
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
    let new = content(200);
    fs::write(at.server.root().join("big"), &new).unwrap();
    date(&at.server.root().join("big"), 1800);
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
    assert!(at.server.counters().of("RETR") > 1);
}

#[test]
fn files_of_the_cache_that_are_torn_or_strange_are_not_believed() {
    let at = Place::new();
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
    let files = at.files();
    assert!(files.len() >= 25, "{files:?}");
    for (i, file) in files.iter().enumerate() {
        let open = File::options().write(true).open(file).unwrap();
        match i % 4 {
            0 => open.set_len(100).unwrap(),
            1 => open.write_all_at(b"x", 60).unwrap(),
            2 => fs::rename(file, &files[(i + 1) % files.len()]).unwrap(),
            _ => open.set_len(1 << 30).unwrap(),
        }
    }
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
}

#[test]
fn the_limit_is_kept_while_it_is_written() {
    let at = Place::new();
    let mount = at.mount(&["cache_disk_size=1M"]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| at.compare(&mount));
        while !reader.is_finished() {
            let size: u64 =
                at.files().iter().filter_map(|file| Some(fs::metadata(file).ok()?.blocks() * 512)).sum();
            assert!(size <= 1 << 20, "{size}");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(mount.unmount().success());
    assert!(at.files().len() > 3);
}

#[test]
fn a_full_disk_turns_the_cache_off_and_nothing_else() {
    let at = Place::new();
    let point = at.cache.path();
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=400k,mode=700", "none"])
        .arg(point)
        .status()
        .unwrap();
    assert!(done.success());
    let tmpfs = Tmpfs(point.to_owned());
    let mount = at.mount(&[]);
    at.compare(&mount);
    let told = mount.log().matches("the disk cache is off").count();
    assert!(mount.unmount().success());
    drop(tmpfs);
    assert_eq!(told, 1);
}

#[test]
fn two_mounts_share_a_cache() {
    let at = Place::new();
    let mounts = [at.mount(&["cache_disk_size=2M"]), at.mount(&["cache_disk_size=2M"])];
    std::thread::scope(|scope| {
        for mount in &mounts {
            scope.spawn(|| (0..3).for_each(|_| at.compare(mount)));
        }
    });
    for mount in mounts {
        assert!(mount.unmount().success());
    }
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
}

#[test]
fn a_mount_that_is_killed_leaves_no_wrong_block() {
    let at = Place::new();
    for wait in [5, 20, 40, 60] {
        let mount = at.mount(&["cache_disk_size=2M"]);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(fs::read(mount.path().join("big"))));
            std::thread::sleep(Duration::from_millis(wait));
            mount.signal(nix::sys::signal::Signal::SIGKILL);
        });
        drop(mount);
        drop_mount(at.mount(&[]), |mount| at.compare(mount));
    }
}

#[test]
fn forgetting_includes_the_disk() {
    let at = Place::new();
    let mount = at.mount(&[]);
    at.compare(&mount);
    eventually_within(PATIENCE, "it", || at.files().len() >= 25);
    // A change that nothing shows.
    let (served, new) = (at.server.root().join("big"), content(99));
    let time = fs::metadata(&served).unwrap().modified().unwrap();
    fs::write(&served, &new).unwrap();
    File::options().write(true).open(&served).unwrap().set_modified(time).unwrap();
    mount.signal(nix::sys::signal::Signal::SIGHUP);
    eventually_within(PATIENCE, "it", || fs::read(mount.path().join("big")).unwrap() == new);
}

#[test]
fn the_cache_is_for_its_owner_only_and_not_inside_the_mount() {
    let at = Place::new();
    drop_mount(at.mount(&[]), |mount| at.compare(mount));
    for file in at.files() {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o077, 0);
    }
    let blocks = at.cache.path().join("blocks");
    assert_eq!(fs::metadata(&blocks).unwrap().mode() & 0o777, 0o700);
    std::os::unix::fs::chown(&blocks, Some(22001), None).unwrap();
    drop_mount(at.mount(&[]), |mount| {
        at.compare(mount);
        assert!(mount.log().contains("no disk cache"), "{}", mount.log());
    });
}

/// A scripted server with a few files, and a folder for a cache.
struct Place {
    server: Server,
    cache: Scratch,
    served: Scratch,
}

impl Place {
    fn new() -> Self {
        let served = Scratch::new("served");
        fs::write(served.path().join("big"), content(1)).unwrap();
        (0..5).for_each(|i| {
            fs::write(served.path().join(format!("small{i}")), format!("content {i}\n")).unwrap()
        });
        for entry in fs::read_dir(served.path()).unwrap() {
            date(&entry.unwrap().path(), 3600);
        }
        let server = Server::start(served.path()).unwrap();
        Self { server, cache: Scratch::new("cache"), served }
    }

    fn mount(&self, options: &[&str]) -> Mount {
        let folder = format!("cache_dir={}", self.cache.path().display());
        Mount::new(&self.server as &dyn Target, &[&[folder.as_str()], options].concat())
    }

    /// Everything in the mount is what the server has.
    fn compare(&self, mount: &Mount) {
        for entry in fs::read_dir(self.served.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let (here, there) = (mount.path().join(&name), self.served.path().join(&name));
            assert!(fs::read(here).unwrap() == fs::read(there).unwrap(), "{}", name.display());
        }
    }

    /// The files of the cache that hold blocks.
    fn files(&self) -> Vec<PathBuf> {
        let list = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let servers = list(&self.cache.path().join("blocks"));
        let buckets = servers.iter().flat_map(|server| list(server));
        buckets.flat_map(|bucket| list(&bucket)).collect()
    }
}

struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn drop_mount(mount: Mount, action: impl FnOnce(&Mount)) {
    action(&mount);
    assert!(mount.unmount().success());
}

/// 3 MiB and a bit.
fn content(seed: u32) -> Vec<u8> {
    (0..3_150_000u32).map(|i| (i / 7 + i / 4096 + seed) as u8).collect()
}

const PATIENCE: Duration = Duration::from_secs(20);
