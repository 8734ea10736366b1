//! Machines on a small network: threads in network namespaces of their own, and what `ip` makes between them.
//!
//! Everything goes with the threads, which end with their [`Host`]. It takes root and `ip`; where namespaces cannot be had,
//! [`Host::new`] says why not.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};

/// A thread in a network namespace of its own, which does what it is given.
pub struct Host {
    work: Sender<Box<dyn FnOnce() + Send>>,
    /// Its thread, for `ip link ... netns`.
    pub thread: i32,
}

impl Host {
    pub fn new() -> Result<Self, String> {
        let (work, todo): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let own = unshare(CloneFlags::CLONE_NEWNET).map(|()| nix::unistd::gettid().as_raw());
            let goes_on = own.is_ok();
            let _ = tell.send(own);
            if goes_on {
                todo.into_iter().for_each(|action| action());
            }
        });
        let thread = told.recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(Self { work, thread })
    }

    /// What is run there, and what it starts, is in that network. A panic over there is one here.
    pub fn run<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let action = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
            let _ = tell.send(result);
        };
        self.work.send(Box::new(action)).expect("the thread lives as long as this value");
        match told.recv().expect("it answers") {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` there.
    pub fn ip(&self, arguments: &str) -> Result<(), String> {
        let arguments = arguments.to_owned();
        self.run(move || {
            let output = Command::new("ip").args(arguments.split(' ')).output();
            let output = output.map_err(|e| format!("ip: {e}"))?;
            if output.status.success() {
                return Ok(());
            }
            Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
        })
    }
}

/// A client, a router and a server, each a machine of its own: `10.1.0.2` — `10.1.0.1`, `10.2.0.1` — [`SERVER`].
///
/// What the router does with packets is a rule: `rule add iif toclient blackhole`. Its sides are `toclient` and `toserver`,
/// the one side of the others is `line`.
pub struct Lab {
    pub client: Host,
    pub router: Host,
    pub server: Host,
}

impl Lab {
    /// Own connections of the client's come from `ports`. None, said aloud, where such a network cannot be had.
    pub fn new(ports: (u16, u16)) -> Option<Self> {
        match Self::build(ports) {
            Ok(lab) => Some(lab),
            Err(why) => {
                super::skip(format!("no network of namespaces can be had here: {why}"));
                None
            }
        }
    }

    fn build(ports: (u16, u16)) -> Result<Self, String> {
        let (client, router, server) = (Host::new()?, Host::new()?, Host::new()?);
        for (name, side, number) in [("toclient", &client, 1), ("toserver", &server, 2)] {
            let host = side.thread.to_string();
            router.ip(&format!("link add {name} type veth peer name line netns {host}"))?;
            router.ip(&format!("addr add 10.{number}.0.1/24 dev {name}"))?;
            router.ip(&format!("link set {name} up"))?;
            side.ip("link set lo up")?;
            side.ip(&format!("addr add 10.{number}.0.2/24 dev line"))?;
            side.ip("link set line up")?;
            side.ip(&format!("route add default via 10.{number}.0.1"))?;
        }
        router.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(|e| e.to_string()))?;
        let lab = Self { client, router, server };
        lab.connect_from(ports)?;
        Ok(lab)
    }

    /// New connections of the client's come from these ports.
    pub fn connect_from(&self, (from, to): (u16, u16)) -> Result<(), String> {
        let range = format!("{from} {to}");
        let set = move || fs::write("/proc/sys/net/ipv4/ip_local_port_range", range);
        self.client.run(set).map_err(|e| e.to_string())
    }
}

/// Where the server of a [`Lab`] is.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
