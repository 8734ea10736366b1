//! ftpfs, rclone and plain FTP clients on one vsftpd, in one run, over lines of several lengths.
//!
//! ```text
//! cargo bench --bench compare -- [--rtt 0,20,100] [--only big,find] [--clients ftpfs,plain] [--runs 3] [--write] [--logs FOLDER]
//! ```
//!
//! Every measurement begins with a fresh mount, so nothing is known and no block is cached; the measurements of the clients
//! take turns, and the median counts. The absolute times belong to the machine: what can be compared are the ratios
//! within a run. `--write` puts the tables and the chart into docs/. Needs root (namespaces), git, rclone and curl.
//!
//! The whole takes about a quarter of an hour on a quiet machine, because what takes longer than [`LONG`] is measured once
//! (it is made of round trips, and those do not vary), nothing longer than [`workloads::LIMIT`], and rclone at 100 ms
//! only with large files. A client that fails at something is shown as failing, and the run goes on.

mod clients;
#[allow(dead_code, unused_imports, reason = "the tests' harness, of which this needs a part")]
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod link;
mod plain;
mod report;
mod workloads;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clients::{Client, Mounted, Place};
use harness::scratch::Scratch;
use harness::{Kind, Options, Server, Target};
use link::Link;
use report::{Outcome, Row};
use workloads::Workload;

fn main() {
    let wanted = Wanted::from_arguments();
    // The harness would have everything logged, which costs time.
    let level = if wanted.logs.is_some() { "ftpfs=debug" } else { "ftpfs=warn" };
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("FTPFS_LOG", level) };
    if !link::is_possible() {
        eprintln!("the delay needs root and /dev/net/tun");
        std::process::exit(1);
    }
    // While there is still a way out of here.
    harness::fetch::debian("vsftpd", &["usr/sbin/vsftpd"]).expect("vsftpd can be had");
    let link = Link::new().expect("namespaces and TUN devices can be made");
    link.enter_server();
    let options = Options { extra: vec![format!("listen_address={}", link::SERVER)], ..Options::default() };
    let server = Server::try_start(Kind::Vsftpd, &options).expect("vsftpd starts");
    let place = Place {
        host: link::SERVER.to_owned(),
        port: server.port(),
        user: server.user().to_owned(),
        password: server.password(),
    };
    let scratch = Scratch::new("compare");
    workloads::prepare(&server, scratch.path()).expect("there is room for 2 GiB");
    let mut rows = Vec::new();
    for &rtt in &wanted.rtts {
        link.set_round_trip(Duration::from_millis(rtt));
        if rtt == 0 {
            link.enter_server()
        } else {
            link.enter_client()
        }
        let chosen = |workload: &&Workload| wanted.has(workload.name) && workload.rtts.contains(&rtt);
        for workload in workloads::ALL.iter().filter(chosen) {
            let mut row = Row::new(workload.title, rtt, workload.megabytes);
            for run in 0..wanted.runs {
                for &client in wanted.clients.iter().filter(|client| is_measured(**client, workload, rtt)) {
                    if row.slowest(client).is_some_and(|time| time > LONG) {
                        continue;
                    }
                    let log =
                        wanted.logs.as_ref().map(|logs| logs.join(format!("{rtt}-{}-{run}", workload.name)));
                    let outcome = measure(workload, client, &place, scratch.path(), &link, log);
                    workloads::clean(&server, scratch.path());
                    if let Some(outcome) = outcome {
                        eprintln!("{rtt} ms, {}, {}: {outcome}", workload.name, client.name());
                        row.add(client, outcome);
                    }
                }
            }
            println!("{}", row.line());
            rows.push(row);
        }
    }
    let table = report::table(&rows) + "\n" + &report::costs(&rows);
    println!("\n{table}");
    if wanted.write {
        report::write(&rows, &table).expect("docs/ can be written");
    }
}

fn is_measured(client: Client, workload: &Workload, rtt: u64) -> bool {
    match client {
        Client::Ftpfs | Client::Plain => true,
        Client::Writeback => WRITES.contains(&workload.name),
        // Its first time would be measured in minutes.
        Client::RcloneFull | Client::RcloneOff if workload.name.ends_with("-again") => false,
        Client::RcloneFull => rtt < 100 || workload.both_modes,
        Client::RcloneOff => workload.both_modes,
    }
}

/// None when this client does not do this.
fn measure(
    workload: &Workload,
    client: Client,
    place: &Place,
    local: &std::path::Path,
    link: &Link,
    log: Option<PathBuf>,
) -> Option<Outcome> {
    if client == Client::Plain {
        workload.plain?;
    }
    let mut mounted = match Mounted::new(client, place) {
        Ok(mounted) => mounted,
        Err(failed) => return Some(Outcome { failed: Some(failed), ..Outcome::default() }),
    };
    let run = |mounted: &Option<Mounted>| match (mounted, workload.plain) {
        (Some(mounted), _) => (workload.mounted)(mounted.path(), local),
        (None, Some(plain)) => plain(place, local),
        (None, None) => Ok(()),
    };
    let cpu = |mounted: &Option<Mounted>| match mounted {
        Some(mounted) => mounted.cpu(),
        None => children(),
    };
    if workload.name.ends_with("-again") {
        run(&mounted).ok();
    }
    link.taken();
    let before = cpu(&mounted);
    let started = Instant::now();
    let result = run(&mounted);
    if client == Client::Writeback {
        // What counts is when the server has everything.
        mounted.iter_mut().for_each(Mounted::end);
    }
    let time = started.elapsed();
    let cpu = before.and_then(|before| cpu(&mounted)?.checked_sub(before));
    let failed = result.err().map(|error| {
        if time >= workloads::LIMIT {
            format!("over {} s", workloads::LIMIT.as_secs())
        } else {
            error.to_string()
        }
    });
    // A mount that has ended has none.
    let memory = match mounted.as_ref().filter(|_| client != Client::Writeback) {
        Some(Mounted::Ftpfs(mount)) => Some(mount.peak_memory()),
        _ => None,
    };
    if let (Some(Mounted::Ftpfs(mount)), Some(log)) = (&mounted, log) {
        std::fs::write(log, mount.log()).expect("the folder for logs is there");
    }
    Some(Outcome { time, bytes: link.taken(), memory, cpu, failed })
}

/// User and system time of the programs that have ended, curl among them.
fn children() -> Option<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).ok()?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    Some(Duration::from_micros(micros.try_into().ok()?))
}

/// What takes longer is measured once.
const LONG: Duration = Duration::from_secs(10);

struct Wanted {
    rtts: Vec<u64>,
    only: Vec<String>,
    clients: Vec<Client>,
    runs: usize,
    write: bool,
    /// A folder for what each ftpfs has said to its server, with times: where the round trips go.
    logs: Option<PathBuf>,
}

impl Wanted {
    fn from_arguments() -> Self {
        let mut wanted = Self {
            rtts: vec![0, 20, 100],
            only: Vec::new(),
            clients: Client::ALL.to_vec(),
            runs: 3,
            write: false,
            logs: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            match argument.as_str() {
                "--rtt" => wanted.rtts = value().split(',').filter_map(|rtt| rtt.parse().ok()).collect(),
                "--only" => wanted.only = value().split(',').map(str::to_owned).collect(),
                "--clients" => {
                    let names = value();
                    let named = |client: &Client| names.split(',').any(|name| name == client.name());
                    let all = Client::ALL.into_iter().chain([Client::Writeback]);
                    wanted.clients = all.filter(named).collect();
                }
                "--runs" => wanted.runs = value().parse().unwrap_or(3),
                "--write" => wanted.write = true,
                "--logs" => wanted.logs = Some(value().into()),
                // What cargo adds.
                "--bench" => {}
                _ => {
                    eprintln!(
                        "--rtt 0,20,100  --only NAME,…  --clients NAME,…  --runs N  --write  --logs FOLDER"
                    );
                    eprintln!("workloads: {:?}", workloads::ALL.iter().map(|w| w.name).collect::<Vec<_>>());
                    std::process::exit(2);
                }
            }
        }
        wanted
    }

    fn has(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// What `-o writeback` makes a difference to.
const WRITES: &[&str] = &["cp-in", "appends", "clone"];
