//! Few sessions: servers that allow one, two or three of them, a limit that drops, an account that two mounts share, and many
//! programs at once. Everything goes on, only slower; and nothing waits for itself.
//!
//! `tests/mounted` keeps its promises on servers with one and with two sessions as well, and every test of real servers does with any
//! number by `FTPFS_MAX_SESSIONS` (`tests/harness/servers.rs`). `FTPFS_OPERATIONS` makes the long test here longer.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::files::store;
use harness::patience::eventually;
use harness::scratch::Scratch;
use harness::scripted::{Fault, Options, Rule, Server};
use harness::standstill::Guard;
use harness::{Kind, Mount, Relay, shell};

#[test]
fn sixty_four_programs_share_one_session_two_or_eight() {
    for (kind, sessions) in [(Kind::Vsftpd, 1), (Kind::Proftpd, 2), (Kind::PureFtpd, 8)] {
        let options = harness::Options { max_sessions: Some(sessions), ..Default::default() };
        let Some(server) = harness::Server::start_with(kind, &options) else { continue };
        let mount = Mount::new(&server, &[]);
        let guard = mount.guard(STUCK);
        std::thread::scope(|scope| {
            for number in 0..64 {
                let (mount, guard) = (&mount, &guard);
                scope.spawn(move || {
                    // Each in a folder of its own and in one that all of them share.
                    for command in [
                        format!("mkdir d{number}"),
                        format!("seq {number} 5000 > d{number}/a"),
                        format!("cp d{number}/a d{number}/b"),
                        format!("mkdir -p shared && echo {number} > shared/f{number}"),
                        "ls shared > /dev/null".to_owned(),
                        format!("mv d{number}/b shared/b{number}"),
                        format!("cmp d{number}/a shared/b{number}"),
                        format!("echo end >> d{number}/a"),
                        format!("tail -n 1 d{number}/a | grep -qx end"),
                        format!("rm shared/b{number}"),
                    ] {
                        shell::ok(mount.path(), &command);
                        guard.tick();
                    }
                });
            }
        });
        for number in 0..64 {
            let wanted: String =
                (number..=5000).map(|n| format!("{n}\n")).chain(["end\n".to_owned()]).collect();
            assert!(server.read(format!("d{number}/a")) == wanted.as_bytes(), "{kind:?} d{number}/a");
            assert_eq!(server.read(format!("shared/f{number}")), format!("{number}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(server.root().join("shared")).unwrap().count(), 64, "{kind:?}");
    }
}

#[test]
fn ten_thousand_mixed_operations_come_to_their_end() {
    let total =
        std::env::var("FTPFS_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_u64);
    for (sessions, total) in [(1, total / 5), (3, total)] {
        let scratch = Scratch::new("served");
        let options = Options { max_sessions: sessions, ..Options::default() };
        let server = Server::start_with(scratch.path(), options).unwrap();
        let mut mount = Mount::new(&server, &[]);
        mount.may_take(STUCK + Duration::from_millis(total * 20));
        let guard = mount.guard(STUCK);
        let slowest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (path, guard, slowest) = (mount.path(), &guard, &slowest);
                scope.spawn(move || mix(path, worker, total / WORKERS, guard, slowest));
            }
        });
        assert!(guard.ticks() >= total / WORKERS * WORKERS);
        assert!(server.counters().now().most_open <= sessions as u64);
        eprintln!(
            "{sessions} sessions: {} operations, the slowest took {} ms",
            guard.ticks(),
            slowest.load(Ordering::Relaxed)
        );
        // Nothing is left waiting inside.
        eventually("an idle queue", || mount.status(&[]).contains("0 jobs for a connection, 0 calls"));
    }
}

/// One program of several: works in a folder of its own, where it knows what to expect, and in one that all of them use at once.
fn mix(root: &Path, worker: u64, count: u64, guard: &Guard, slowest: &AtomicU64) {
    let mut dice = worker * 7919 + 1;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let own = root.join(format!("own{worker}"));
    fs::create_dir(&own).unwrap();
    let _ = fs::create_dir(root.join("shared"));
    let mut known: [Option<Vec<u8>>; 4] = [const { None }; 4];
    for step in 0..count {
        let started = Instant::now();
        let slot = roll(4) as usize;
        let at = own.join(format!("f{slot}"));
        let shared = root.join("shared").join(format!("s{}", roll(6)));
        match roll(10) {
            0..=2 => {
                let content = format!("{worker} {step} ").repeat(1 + roll(2000) as usize).into_bytes();
                store(&at, &content).unwrap();
                known[slot] = Some(content);
            }
            3 => {
                let other = roll(4) as usize;
                let moved = fs::rename(&at, own.join(format!("f{other}")));
                assert_eq!(moved.is_ok(), known[slot].is_some(), "{moved:?}");
                if other != slot && known[slot].is_some() {
                    known[other] = known[slot].take();
                }
            }
            4 => {
                let removed = fs::remove_file(&at);
                assert_eq!(removed.is_ok(), known[slot].take().is_some(), "{removed:?}");
            }
            5 => {
                let count = fs::read_dir(&own).unwrap().count();
                assert_eq!(count, known.iter().flatten().count());
            }
            // What others do there at the same time decides; only that it ends is asked.
            6 => drop(store(&shared, &vec![worker as u8; roll(100_000) as usize])),
            7 => drop(fs::read(&shared)),
            8 => drop(fs::rename(&shared, root.join("shared").join(format!("s{}", roll(6))))),
            _ => assert_eq!(fs::read(&at).ok(), known[slot], "{}", at.display()),
        }
        slowest.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        guard.tick();
    }
}

#[test]
fn a_limit_that_drops_while_work_is_under_way_only_makes_it_slower() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &["timeout=20"]);
    let guard = mount.guard(STUCK);
    let stop = AtomicBool::new(false);
    let work = || {
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (mount, guard, stop) = (&mount, &guard, &stop);
                scope.spawn(move || {
                    let folder = mount.path().join(format!("w{worker}"));
                    let _ = fs::create_dir(&folder);
                    for round in 0..200_u32 {
                        if round >= 20 && stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let at = folder.join((round % 5).to_string());
                        let content = round.to_le_bytes().repeat(2000 + round as usize);
                        store(&at, &content).unwrap();
                        assert!(fs::read(&at).unwrap() == content);
                        guard.tick();
                    }
                });
            }
            for limit in [3, 1, 2] {
                let before = guard.ticks();
                eventually("some work", || guard.ticks() > before + 20);
                server.set_max_sessions(limit);
                server.drop_sessions();
            }
            stop.store(true, Ordering::SeqCst);
        });
    };
    work();
    assert!(server.counters().now().open <= 2);
}

#[test]
fn two_mounts_share_the_only_two_sessions_of_an_account() {
    let scratch = Scratch::new("served");
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 2, ..Options::default() }).unwrap();
    let first = Mount::new(&server, &[]);
    let second = Mount::new(&server, &[]);
    std::thread::scope(|scope| {
        for mount in [&first, &second] {
            for worker in 0..4 {
                let name = format!("{}-{worker}", mount.pid());
                scope.spawn(move || {
                    let guard = mount.guard(STUCK);
                    for round in 0..20_u8 {
                        let content = vec![round; 50_000];
                        store(&mount.path().join(&name), &content).unwrap();
                        assert!(fs::read(mount.path().join(&name)).unwrap() == content);
                        guard.tick();
                    }
                });
            }
        }
    });
    assert!(server.counters().now().most_open <= 2);
}

#[test]
fn a_mount_that_rests_gives_sessions_back_to_one_that_has_none() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("file"), "text").unwrap();
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 2, ..Options::default() }).unwrap();
    let first = Mount::new(&server, &["timeout=4"]);
    let second = Mount::new(&server, &["delay_connect", "timeout=20"]);
    // The first takes both, if its programs are there at the same time.
    eventually("two sessions", || {
        std::thread::scope(|scope| {
            for n in 0..4 {
                let path = first.path().join(format!("n{n}"));
                scope.spawn(move || store(&path, &vec![1; 300_000]).unwrap());
            }
        });
        server.counters().now().open == 2
    });
    assert_eq!(fs::read(second.path().join("file")).unwrap(), b"text");
    assert_eq!(fs::read(first.path().join("n1")).unwrap().len(), 300_000);
}

#[test]
fn ls_during_a_big_download_with_two_sessions_takes_three_round_trips_at_most() {
    let scratch = Scratch::new("served");
    for folder in ["a", "b", "c", "d"] {
        fs::create_dir(scratch.path().join(folder)).unwrap();
        fs::write(scratch.path().join(folder).join("inside"), "x").unwrap();
    }
    File::create(scratch.path().join("film")).unwrap().set_len(4 << 30).unwrap();
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 2, ..Options::default() }).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["no_prefetch"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (path, stop) = (mount.path().join("film"), &stop);
        scope.spawn(move || {
            let mut film = File::open(path).unwrap();
            let mut block = vec![0; 1 << 20];
            while !stop.load(Ordering::SeqCst) && film.read(&mut block).is_ok_and(|n| n > 0) {}
        });
        eventually("the download", || relay.traffic().bytes_down > 20 << 20);
        for folder in ["a", "b", "c", "d"] {
            eventually("a second session", || mount.status(&[]).contains(": ready"));
            relay.reset();
            let names: Vec<_> = fs::read_dir(mount.path().join(folder)).unwrap().collect();
            let traffic = relay.traffic();
            assert_eq!(names.len(), 1);
            // A data connection that is made while somebody waits is a round trip, too; a second is for whoever comes next.
            let trips = traffic.turns + traffic.data_connections.min(1);
            eprintln!("{folder}: {trips} round trips: {traffic:?}");
            assert!(trips <= 3, "{folder}: {traffic:?}");
            eventually("the download goes on", || relay.traffic().bytes_down > 5 << 20);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn more_programs_than_sessions_wait_their_turn_and_none_is_refused() {
    let scratch = Scratch::new("served");
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 1, ..Options::default() }).unwrap();
    File::create(scratch.path().join("film")).unwrap().set_len(1 << 30).unwrap();
    fs::write(scratch.path().join("letter"), "text").unwrap();
    let mount = Mount::new(&server, &[]);
    let mut film = Command::new("cat")
        .arg(mount.path().join("film"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the download", || server.counters().now().bytes_sent > 20 << 20);
    // The only session is taken by the film: what is short goes in between.
    assert_eq!(fs::read(mount.path().join("letter")).unwrap(), b"text");
    shell::ok(mount.path(), "ls && mkdir new && mv letter new/ && echo more >> new/letter && rm -r new");
    let _ = film.kill();
    let _ = film.wait();
    assert_eq!(server.counters().now().most_open, 1);
}

#[test]
fn what_was_to_come_ahead_does_not_wait_for_ever_on_the_only_session() {
    let scratch = Scratch::new("served");
    for number in 0..400 {
        fs::write(scratch.path().join(format!("f{number:03}")), "text").unwrap();
    }
    let server = Server::start(scratch.path()).unwrap();
    let relay = Relay::new(&server);
    let mount = Mount::new(&relay, &["timeout=20"]);
    relay.delay(Duration::from_millis(5));
    let waiting = || {
        let told = mount.status(&[]);
        let line = told.lines().find(|line| line.contains("jobs for a connection")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    // A walk over neighbours: what follows is planned. From f300 on it is held up, so that it still waits when somebody looks.
    server.faults().add(Rule::on("RETR").path("f3").act(Fault::Silent));
    let mut walk = (0..400).map(|number| fs::read(mount.path().join(format!("f{number:03}"))).unwrap());
    while waiting() < 10 {
        assert_eq!(walk.next().expect("a plan"), b"text");
    }
    server.set_max_sessions(1);
    server.faults().clear();
    server.drop_sessions();
    eventually("an empty queue", || waiting() == 0);
    assert_eq!(walk.by_ref().take(20).filter(|text| text == b"text").count(), 20);
    eventually("an empty queue again", || waiting() == 0);
}

#[test]
fn free_space_is_asked_for_on_the_only_session_too() {
    let scratch = Scratch::new("served");
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 1, ..Options::default() }).unwrap();
    let features =
        "211-Features:\r\n AVBL\r\n MLST type*;size*;modify*;\r\n EPSV\r\n SIZE\r\n MDTM\r\n211 End";
    server.faults().add(Rule::on("FEAT").act(Fault::Reply(features.into())));
    server.faults().add(Rule::on("AVBL").act(Fault::Reply("213 409600000".into())));
    let mount = Mount::new(&server, &[]);
    // Until it knows that there will be no second one.
    eventually("a limit", || {
        shell::ok(mount.path(), "for n in 1 2 3 4; do echo $n > f$n & done; wait");
        mount.status(&[]).contains("at most 1\n")
    });
    let blocks = || shell::ok(Path::new("/"), &format!("stat -f -c %a*%S {}", mount.path().display()));
    eventually("the server's word", || blocks().trim() == "100000*4096");
}

#[test]
fn close_has_its_turn_on_the_only_session_while_others_ask_without_end() {
    let scratch = Scratch::new("served");
    fs::write(scratch.path().join("letter"), "text").unwrap();
    (0..8).for_each(|n| fs::create_dir(scratch.path().join(format!("d{n}"))).unwrap());
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 1, ..Options::default() }).unwrap();
    // So that there is always somebody else in line.
    server.faults().add(Rule::on("MLSD").act(Fault::Delay(Duration::from_millis(20))));
    let mount = Mount::new(&server, &["attr_timeout=600", "dir_timeout=0", "no_prefetch"]);
    let stop = AtomicBool::new(false);
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (folder, stop) = (mount.path().join(format!("d{n}")), &stop);
            scope.spawn(move || while !stop.load(Ordering::SeqCst) && fs::read_dir(&folder).is_ok() {});
        }
        eventually("many questions", || server.counters().of("MLSD") > 50);
        let (path, closed) = (mount.path().join("new"), &closed);
        scope.spawn(move || {
            store(&path, b"text").unwrap();
            closed.store(true, Ordering::SeqCst);
        });
        let until = Instant::now() + STUCK;
        while !closed.load(Ordering::SeqCst) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::SeqCst);
        assert!(
            Instant::now() < until,
            "close() has waited for {STUCK:?}: {} listings",
            server.counters().of("MLSD")
        );
    });
    assert_eq!(fs::read(scratch.path().join("new")).unwrap(), b"text");
}

#[test]
fn a_reader_has_its_turn_on_the_only_session_while_others_ask_without_end() {
    let scratch = Scratch::new("served");
    let film: Vec<u8> = (0..3_u32 << 20).flat_map(u32::to_le_bytes).collect();
    fs::write(scratch.path().join("film"), &film).unwrap();
    (0..8).for_each(|n| fs::create_dir(scratch.path().join(format!("d{n}"))).unwrap());
    let server =
        Server::start_with(scratch.path(), Options { max_sessions: 1, ..Options::default() }).unwrap();
    server.faults().add(Rule::on("MLSD").act(Fault::Delay(Duration::from_millis(20))));
    let mount = Mount::new(&server, &["attr_timeout=600", "dir_timeout=0", "no_prefetch", "max_conns=1"]);
    let (stop, has_read) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (folder, stop) = (mount.path().join(format!("d{n}")), &stop);
            scope.spawn(move || while !stop.load(Ordering::SeqCst) && fs::read_dir(&folder).is_ok() {});
        }
        eventually("many questions", || server.counters().of("MLSD") > 50);
        let (path, film, has_read) = (mount.path().join("film"), &film, &has_read);
        scope.spawn(move || {
            assert!(fs::read(path).unwrap() == *film);
            has_read.store(true, Ordering::SeqCst);
        });
        let until = Instant::now() + STUCK;
        while !has_read.load(Ordering::SeqCst) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::SeqCst);
        let counts = server.counters().now();
        assert!(Instant::now() < until, "it reads after {STUCK:?}: {:?}", counts.commands);
        // None of its transfers was in vain.
        assert!(server.counters().of("RETR") <= 100, "{:?}", counts.commands);
    });
}

#[test]
fn a_connection_that_ends_without_a_word_is_a_limit_only_when_the_next_one_does_too() {
    let scratch = Scratch::new("served");
    (0..8).for_each(|n| fs::create_dir(scratch.path().join(format!("d{n}"))).unwrap());
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &["dir_timeout=0", "no_prefetch"]);
    server.faults().add(Rule::on("MLSD").act(Fault::Delay(Duration::from_millis(20))));
    server.drop_sessions();
    shell::ok(mount.path(), "ls > ../out");
    // The line broke just then, perhaps.
    server.faults().add(Rule::on("CONNECT").once().act(Fault::Close));
    let all = || shell::ok(mount.path(), "for n in 0 1 2 3 4 5 6 7; do ls d$n & done; wait");
    eventually("several sessions", || {
        all();
        server.counters().now().open >= 3
    });
    assert!(!mount.status(&[]).contains("at most 1\n"), "{}", mount.log());
    // And here it is what the server does.
    server.faults().add(Rule::on("CONNECT").after(1).act(Fault::Close));
    server.drop_sessions();
    eventually("a limit", || {
        all();
        mount.status(&[]).contains("at most 1\n")
    });
}

#[test]
fn a_session_that_cannot_have_a_data_connection_does_not_ask_for_one_without_end() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &["max_conns=1", "cache_timeout=600"]);
    shell::ok(mount.path(), "ls > ../out");
    for verb in ["EPSV", "PASV", "EPRT", "PORT"] {
        server.faults().add(Rule::on(verb).act(Fault::Reply("425 No ports left.".into())));
    }
    // Whatever it had is gone.
    server.drop_sessions();
    shell::ok(mount.path(), "mkdir new");
    let asked =
        || ["EPSV", "PASV", "EPRT", "PORT"].iter().map(|verb| server.counters().of(verb)).sum::<u64>();
    eventually("an attempt", || mount.log().contains("cannot prepare a data connection"));
    let before = asked();
    // Programs that take some time and ask the server nothing.
    (0..30).for_each(|_| drop(mount.status(&[])));
    assert!(asked() <= before + 4, "{} after {before}: {:?}", asked(), server.counters().now().commands);
    shell::ok(mount.path(), "for n in 1 2 3 4 5; do mkdir d$n; done");
    let told = mount.log().matches("warn: cannot prepare a data connection").count();
    assert_eq!(told, 1, "{}", mount.log());
}

#[test]
fn whoever_joins_a_listing_that_waits_for_the_only_session_waits_his_own_time_for_it() {
    let scratch = Scratch::new("served");
    ["a", "b", "c", "d"].iter().for_each(|name| fs::create_dir(scratch.path().join(name)).unwrap());
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &["max_conns=1", "timeout=4", "cache_timeout=600", "no_prefetch"]);
    shell::ok(mount.path(), "ls . a b c > ../out");
    // Three of them take longer than anybody waits.
    server.faults().add(Rule::on("MKD").act(Fault::Delay(Duration::from_millis(1800))));
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            // In one folder the kernel makes them one after another.
            let path = mount.path().join(name).join("new");
            scope.spawn(move || fs::create_dir(path));
        }
        eventually("the line", || mount.status(&[]).contains("2 jobs for a connection"));
        let list = || fs::read_dir(mount.path().join("d")).map(Iterator::count);
        assert_eq!(list().unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        assert_eq!(list().unwrap(), 0);
    });
}

#[test]
fn the_session_that_proved_the_login_is_looked_after_before_anybody_asks() {
    let scratch = Scratch::new("served");
    let server = Server::start(scratch.path()).unwrap();
    let mount = Mount::new(&server, &[]);
    eventually("a session that is ready", || mount.status(&[]).contains(": ready"));
}

const WORKERS: u64 = 16;
/// Nothing at all has come to its end for so long: it never will. Twice the default time-out.
const STUCK: Duration = Duration::from_secs(60);
