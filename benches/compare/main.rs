//! ftpfs, rclone and plain FTP clients on one vsftpd, in one run, over lines of several lengths.
//!
//! ```text
//! cargo bench --bench compare -- [--rtt 0,20,100] [--only big,find] [--clients ftpfs,plain] [--runs 3] [--write] [--logs FOLDER]
//! ```
//!
//! Every measurement begins with a fresh mount, so nothing is known and no block is cached; the measurements of the clients
//! take turns, and the median counts. The absolute times belong to the machine: what can be compared are the ratios
//! within a run. `--write` puts the table and the chart into docs/. Needs root (namespaces), rclone and curl.

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
        for workload in workloads::ALL.iter().filter(|workload| wanted.has(workload.name)) {
            let mut row = Row::new(workload.title, rtt, workload.megabytes);
            for run in 0..wanted.runs {
                for &client in &wanted.clients {
                    let slow = !matches!(client, Client::Ftpfs | Client::Writeback | Client::Plain);
                    // rclone's minutes are measured once: they do not vary by the factors that matter.
                    if slow && run > 0 && row.median(client).is_none_or(|time| time > Duration::from_secs(5))
                    {
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
    let table = report::table(&rows);
    println!("\n{table}");
    if wanted.write {
        report::write(&rows, &table).expect("docs/ can be written");
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
    let mut mounted = Mounted::new(client, place);
    let run = || match &mounted {
        Some(mounted) => Some((workload.mounted)(mounted.path(), local)),
        None => Some((workload.plain?)(place, local)),
    };
    if workload.name.ends_with("-again") {
        run()?.ok();
    }
    link.taken();
    let started = Instant::now();
    let result = run()?;
    if client == Client::Writeback {
        eprintln!("the program ended after {:?}", started.elapsed());
        // Which waits for its uploads.
        drop(mounted.take());
    }
    let time = started.elapsed();
    let failed = result.err().map(|error| {
        if time >= workloads::LIMIT {
            format!("over {} s", workloads::LIMIT.as_secs())
        } else {
            error.to_string()
        }
    });
    let memory = match &mounted {
        Some(Mounted::Ftpfs(mount)) => Some(mount.peak_memory()),
        _ => None,
    };
    if let (Some(Mounted::Ftpfs(mount)), Some(log)) = (&mounted, log) {
        std::fs::write(log, mount.log()).expect("the folder for logs is there");
    }
    Some(Outcome { time, bytes: link.taken(), memory, failed })
}

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
