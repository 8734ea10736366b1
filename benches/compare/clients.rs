//! Who is measured: ftpfs, rclone in two modes, and clients that do not mount anything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::scratch::{Scratch, mounts_below};
use crate::harness::{Mount, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Ftpfs,
    /// With `writeback`, until the mount has ended: then the server has everything.
    Writeback,
    RcloneFull,
    RcloneOff,
    /// curl, or sessions that speak plain FTP, as many as the workload says.
    Plain,
}

impl Client {
    pub const ALL: [Self; 4] = [Self::Ftpfs, Self::Plain, Self::RcloneFull, Self::RcloneOff];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ftpfs => "ftpfs",
            Self::Writeback => "ftpfs-writeback",
            Self::RcloneFull => "rclone-full",
            Self::RcloneOff => "rclone-off",
            Self::Plain => "plain",
        }
    }
}

/// Where the server is, as the clients see it.
pub struct Place {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Target for Place {
    fn url(&self) -> String {
        format!("ftp://{}@{}:{}/", self.user, self.host, self.port)
    }

    fn password(&self) -> String {
        self.password.clone()
    }
}

/// A fresh mount by one of the clients: nothing is known of the server yet.
pub enum Mounted {
    Ftpfs(Mount),
    Rclone { child: Child, point: PathBuf, _scratch: Scratch },
}

impl Mounted {
    /// None for a client that does not mount.
    pub fn new(client: Client, place: &Place) -> Option<Self> {
        let mode = match client {
            Client::Plain => return None,
            Client::Ftpfs => return Some(Self::Ftpfs(Mount::new(place, &[]))),
            Client::Writeback => return Some(Self::Ftpfs(Mount::new(place, &["writeback"]))),
            Client::RcloneFull => "full",
            Client::RcloneOff => "off",
        };
        let scratch = Scratch::new("rclone");
        let (point, cache) = (scratch.path().join("point"), scratch.path().join("cache"));
        std::fs::create_dir(&point).expect("the scratch folder is ours");
        let password =
            Command::new("rclone").args(["obscure", &place.password]).output().expect("rclone is there");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "rclone", "mount", ":ftp:"])
            .arg(&point)
            .args([
                "--ftp-host",
                &place.host,
                "--ftp-port",
                &place.port.to_string(),
                "--ftp-user",
                &place.user,
            ])
            .args(["--ftp-pass", String::from_utf8_lossy(&password.stdout).trim()])
            .args([
                "--ftp-concurrency",
                "8",
                "--vfs-cache-mode",
                mode,
                "--config",
                "/dev/null",
                "--cache-dir",
            ])
            .arg(cache)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rclone starts");
        let until = Instant::now() + Duration::from_secs(30);
        while mounts_below(scratch.path()).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self::Rclone { child, point, _scratch: scratch })
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Ftpfs(mount) => mount.path(),
            Self::Rclone { point, .. } => point,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Self::Rclone { child, point, .. } = self else { return };
        let _ = Command::new("umount").arg("-l").arg(point).output();
        let _ = child.kill();
        let _ = child.wait();
    }
}
