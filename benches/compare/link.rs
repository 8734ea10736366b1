//! A long line between two network namespaces: packets that leave one TUN device come out of the other half a round trip
//! later.
//!
//! Real TCP on both sides, with its slow start and its windows: a relay of connections would hide both. The devices hand
//! over whole bursts (TSO) with their virtio header, which the other side takes as they are, so a line of this kind
//! carries gigabits with little work; on the wire that the kernel believes in they are packets of 1,500 bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;

/// The two namespaces and what lies between them; they go with the value.
pub struct Link {
    client: String,
    server: String,
    delay: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
    home: File,
}

/// Where the server is found, from both sides.
pub const SERVER: &str = "10.79.0.2";

impl Link {
    /// Needs root and /dev/net/tun.
    pub fn new() -> io::Result<Self> {
        let id = std::process::id();
        let link = Self {
            client: format!("ftpfs-client-{id}"),
            server: format!("ftpfs-server-{id}"),
            delay: Arc::default(),
            down: Arc::default(),
            home: File::open("/proc/thread-self/ns/net")?,
        };
        let near = link.device(&link.client, "10.79.0.1")?;
        let far = link.device(&link.server, SERVER)?;
        carry(near.try_clone()?, far.try_clone()?, link.delay.clone(), None);
        carry(far, near, link.delay.clone(), Some(link.down.clone()));
        Ok(link)
    }

    /// The round trip from now on.
    pub fn set_round_trip(&self, rtt: Duration) {
        self.delay.store(rtt.as_micros() as u64 / 2, Ordering::Relaxed);
    }

    /// Bytes that came from the server, headers included, since the last call.
    pub fn taken(&self) -> u64 {
        self.down.swap(0, Ordering::Relaxed)
    }

    /// Programs started by this thread are on the client's side from now on.
    pub fn enter_client(&self) {
        enter(&self.client).expect("the namespace is there");
    }

    /// On the server's side, where clients without a line between are, too.
    pub fn enter_server(&self) {
        enter(&self.server).expect("the namespace is there");
    }

    fn device(&self, namespace: &str, address: &str) -> io::Result<File> {
        ip(&["netns", "add", namespace])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        enter(namespace)?;
        let opened = tun();
        self.go_home()?;
        let tun = opened?;
        ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", DEVICE])?;
        // A device whose queue is short drops whole bursts, and TCP takes that for a bad line.
        ip(&["-n", namespace, "link", "set", DEVICE, "up", "txqueuelen", "20000"])?;
        Ok(tun)
    }

    fn go_home(&self) -> io::Result<()> {
        // SAFETY: changes the namespace of this thread; the descriptor is open.
        check(unsafe { libc::setns(self.home.as_raw_fd(), libc::CLONE_NEWNET) })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.go_home();
        for namespace in [&self.client, &self.server] {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

fn enter(namespace: &str) -> io::Result<()> {
    let namespace = File::open(format!("/run/netns/{namespace}"))?;
    // SAFETY: changes the namespace of this thread; the descriptor is open.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let done = Command::new("ip").args(arguments).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))))
}

fn tun() -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let header: libc::c_int = 10;
    // SAFETY: the pointers are to values of the kinds that these requests take, and live for the calls.
    unsafe {
        check(libc::ioctl(file.as_raw_fd(), TUNSETIFF, &request))?;
        check(libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, &header))?;
        check(libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4))?;
    }
    Ok(file)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves frames one way until the namespaces are gone.
fn carry(from: File, to: File, delay: Arc<AtomicU64>, count: Option<Arc<AtomicU64>>) {
    let (late, due): (SyncSender<Frame>, Receiver<Frame>) = sync_channel(IN_FLIGHT);
    thread::spawn(move || {
        let mut from = from;
        let mut buffer = vec![0; FRAME];
        while let Ok(length) = from.read(&mut buffer) {
            if let Some(count) = &count {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
            let at = Instant::now() + Duration::from_micros(delay.load(Ordering::Relaxed));
            if late.send((at, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut to = to;
        for (at, frame) in due {
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                thread::sleep(left);
            }
            // EINVAL: a frame that the kernel does not like (IPv6 autoconfiguration) is a lost one.
            let _ = to.write(&frame);
        }
    });
}

/// When it comes out, and what.
type Frame = (Instant, Vec<u8>);

/// Whether /dev/net/tun can be used here.
pub fn is_possible() -> bool {
    fs::exists("/dev/net/tun").unwrap_or(false) && nix::unistd::geteuid().is_root()
}

const DEVICE: &str = "line0";
/// A virtio header and the largest burst.
const FRAME: usize = 10 + 65_536;
/// Frames on their way at most.
const IN_FLIGHT: usize = 65_536;
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const TUN_F_CSUM: libc::c_ulong = 1;
const TUN_F_TSO4: libc::c_ulong = 2;
