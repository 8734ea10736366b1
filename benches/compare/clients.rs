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
    pub fn new(client: Client, place: &Place) -> Result<Option<Self>, String> {
        let mode = match client {
            Client::Plain => return Ok(None),
            Client::Ftpfs | Client::Writeback => {
                let options: &[&str] = if client == Client::Writeback { &["writeback"] } else { &[] };
                let mount = Mount::attempt(place, options).map_err(|refused| refused.log)?;
                return Ok(Some(Self::Ftpfs(mount)));
            }
            Client::RcloneFull => "full",
            Client::RcloneOff => "off",
        };
        let scratch = Scratch::new("rclone");
        let (point, cache) = (scratch.path().join("point"), scratch.path().join("cache"));
        std::fs::create_dir(&point).expect("the scratch folder is ours");
        let password =
            Command::new("rclone").args(["obscure", &place.password]).output().map_err(|e| e.to_string())?;
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
            .map_err(|error| format!("rclone: {error}"))?;
        let until = Instant::now() + Duration::from_secs(30);
        while mounts_below(scratch.path()).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let is_mounted = !mounts_below(scratch.path()).is_empty();
        let mounted = Self::Rclone { child, point, _scratch: scratch };
        if is_mounted { Ok(Some(mounted)) } else { Err("rclone does not mount".to_owned()) }
    }

    /// User and system time of ftpfs so far.
    pub fn cpu(&self) -> Option<Duration> {
        let Self::Ftpfs(mount) = self else { return None };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", mount.pid())).ok()?;
        // The name in front may hold blanks. In hundredths of a second.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()?
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        Some(Duration::from_millis(10 * (fields.get(10)? + fields.get(11)?)))
    }

    /// Ends a mount of ours, and waits until it has ended.
    pub fn end(&mut self) {
        if let Self::Ftpfs(mount) = self {
            mount.umount();
        }
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
