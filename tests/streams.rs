//! How many transfers, and how many bytes, reading in this or that order costs: counted, never timed.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use harness::scratch::Scratch;
use harness::scripted::Server;
use harness::{Kind, Mount, scripted, shell};

#[test]
fn readers_of_one_file_at_different_places_do_not_take_turns_with_one_stream() {
    let at = Place::new(|root| big(root, 64 << 20));
    let content = fs::read(at.server.root().join("big")).unwrap();
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (file, content) = (File::open(at.path("big")).unwrap(), &content);
            scope.spawn(move || {
                let mut block = vec![0; 128 << 10];
                for step in 0..64 {
                    let offset = ((reader * 16) << 20) + step * block.len();
                    file.read_exact_at(&mut block, offset as u64).unwrap();
                    assert!(block == content[offset..offset + block.len()]);
                }
            });
        }
    });
    let asked = 4 * 64 * (128 << 10);
    assert!(at.retrieved() <= 12, "{:?}", at.server.counters().now());
    assert!(at.sent() <= 2 * asked + ((4 * 8) << 20), "{} bytes for {asked}", at.sent());
}

#[test]
fn sixty_four_readers_at_once_each_get_their_bytes() {
    let at = Place::new(|root| {
        for i in 0..64u8 {
            fs::write(root.join(format!("f{i}")), vec![i; 300_000]).unwrap();
        }
        big(root, 8 << 20);
    });
    let content = fs::read(at.server.root().join("big")).unwrap();
    std::thread::scope(|scope| {
        for i in 0..64u8 {
            let (place, content) = (&at, &content);
            scope.spawn(move || {
                assert!(fs::read(place.path(&format!("f{i}"))).unwrap() == vec![i; 300_000]);
                let mut block = [0; 10_000];
                let offset = usize::from(i) * 120_000;
                File::open(place.path("big")).unwrap().read_exact_at(&mut block, offset as u64).unwrap();
                assert!(block == content[offset..offset + 10_000]);
            });
        }
    });
    assert!(at.retrieved() <= 64 * 4, "{:?}", at.server.counters().now());
}

#[test]
fn a_file_read_backwards_piece_by_piece_is_a_few_transfers() {
    let at = Place::new(|root| {
        let lines: String = (0..400_000).map(|i| format!("line {i}\n")).collect();
        fs::write(root.join("text"), lines).unwrap();
    });
    let size = fs::metadata(at.path("text")).unwrap().len();
    shell::ok(at.mount.path(), "tac text | tail -n 1 | grep -qx 'line 0'");
    assert!(at.retrieved() <= 12, "{:?}", at.server.counters().now());
    assert!(at.sent() as u64 <= 2 * size, "{} bytes for {size}", at.sent());
}

#[test]
fn the_end_and_then_pieces_of_the_middle_cost_what_they_are() {
    let at = Place::new(|root| big(root, 64 << 20));
    let file = File::open(at.path("big")).unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM).unwrap();
    // As a reader of zip, parquet or mp4 files: the directory at the end, then its members.
    let mut block = vec![0; 64 << 10];
    let places: Vec<u64> = (0..30).map(|i| (i * 7919 % 61) << 20 | 64 << 10).collect();
    for offset in [(64 << 20) - (64 << 10), (64 << 20) - (128 << 10)].iter().chain(&places) {
        file.read_exact_at(&mut block, *offset).unwrap();
    }
    assert!(at.retrieved() <= 36, "{:?}", at.server.counters().now());
}

#[test]
fn random_reads_of_64_kib_cost_little_more_than_twice_their_bytes() {
    let at = Place::new(|root| big(root, 200 << 20));
    let file = File::open(at.path("big")).unwrap();
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_RANDOM).unwrap();
    let mut block = vec![0; 64 << 10];
    for i in 0..50u64 {
        file.read_exact_at(&mut block, (i * 7919 % 199) << 20 | 4096).unwrap();
    }
    let asked = 50 * block.len();
    // Counted where the server writes: what its own kernel holds when it is cut is in it.
    assert!(at.sent() <= asked * 5 / 2, "{} bytes for {asked}", at.sent());
}

#[test]
fn a_strided_reader_gets_its_pieces_and_little_of_what_lies_between() {
    const SIZE: usize = 48 << 20;
    // Small steps are read through: fewer round trips, and never more than the file.
    for (piece, stride, most) in
        [(64 << 10, 256 << 10, SIZE * 5 / 8), (64 << 10, 1 << 20, SIZE * 5 / 32), (4096, 64 << 10, SIZE)]
    {
        let at = Place::new(|root| big(root, SIZE));
        let content = fs::read(at.server.root().join("big")).unwrap();
        let file = File::open(at.path("big")).unwrap();
        let mut block = vec![0; piece];
        for offset in (0..SIZE / stride).map(|step| step * stride) {
            file.read_exact_at(&mut block, offset as u64).unwrap();
            assert!(block == content[offset..offset + piece]);
        }
        assert!(at.sent() <= most + (1 << 20), "{} bytes of at most {most}", at.sent());
        assert!(at.retrieved() <= (SIZE / stride) as u64, "{} transfers", at.retrieved());
    }
}

#[test]
fn the_heads_of_large_files_cost_little_more_than_what_the_kernel_asks_for() {
    let at = Place::new(|root| {
        let content = vec![7; 4 << 20];
        (0..30).for_each(|i| fs::write(root.join(format!("f{i:02}")), &content).unwrap());
    });
    let mut block = vec![0; 64 << 10];
    for i in 0..30 {
        File::open(at.path(&format!("f{i:02}"))).unwrap().read_exact_at(&mut block, 0).unwrap();
    }
    // The kernel asks for 96 KiB. Segments of loopback are as large as that again, so this is more than on a real line.
    let asked = 30 * (96 << 10);
    assert!(at.sent() <= 2 * asked, "{} bytes for {asked}", at.sent());
}

#[test]
fn a_thousand_files_are_open_at_once() {
    let at = Place::new(|root| {
        for i in 0..1000 {
            fs::write(root.join(format!("f{i:03}")), format!("content of {i}\n")).unwrap();
        }
    });
    let files: Vec<_> = (0..1000).map(|i| File::open(at.path(&format!("f{i:03}"))).unwrap()).collect();
    for (i, file) in files.iter().enumerate() {
        let mut text = vec![0; 100];
        let got = file.read_at(&mut text, 0).unwrap();
        assert_eq!(String::from_utf8_lossy(&text[..got]), format!("content of {i}\n"));
    }
    assert!(at.retrieved() <= 1000, "each once: {}", at.retrieved());
}

#[test]
fn offsets_past_four_gib_are_read() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    let place = server.root().join("huge");
    let file = File::create(&place).unwrap();
    file.set_len((5 << 30) + 1234).unwrap();
    let marks: Vec<u64> = vec![0, (4 << 30) - 3, (4 << 30) + 70_001, (5 << 30) + 1224];
    for &mark in &marks {
        file.write_all_at(format!("{mark:010}").as_bytes(), mark).unwrap();
    }
    let mount = Mount::new(&server, &[]);
    let at = mount.path().join("huge");
    assert_eq!(fs::metadata(&at).unwrap().len(), (5 << 30) + 1234);
    let file = File::open(&at).unwrap();
    let mut text = [0; 10];
    for mark in marks.into_iter().rev() {
        file.read_exact_at(&mut text, mark).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), format!("{mark:010}"));
    }
}

/// `FTPFS_GIB=10` reads so many; and says what the CPU had to do for it, ours and curl's.
#[test]
fn memory_stays_within_the_cache_and_a_little_more() {
    let Some(server) = harness::Server::start(Kind::Vsftpd) else { return };
    let gib: Option<u64> = std::env::var("FTPFS_GIB").ok().and_then(|text| text.parse().ok());
    let size = gib.map_or(256 << 20, |gib| gib << 30);
    File::create(server.root().join("big")).unwrap().set_len(size).unwrap();
    let mount = Mount::new(&server, &[]);
    shell::ok(mount.path(), "cat big > /dev/null");
    let peak = mount.peak_memory() >> 10;
    assert!(peak <= 64 + 64, "{peak} MiB");
    if gib.is_some() {
        let stat = fs::read_to_string(format!("/proc/{}/stat", mount.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let cpu = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
        let target: &dyn harness::Target = &server;
        let url = target.url().replacen('@', &format!(":{}@", target.password()), 1);
        let curl = shell::ok(
            server.root(),
            &format!("bash -c 'TIMEFORMAT=\"%U user, %S system\"; time curl -sS -o /dev/null {url}big' 2>&1"),
        );
        eprintln!("{size} bytes: peak {peak} MiB; {} s user, {} s system; curl {curl}", cpu(11), cpu(12));
    }
}

/// A scripted server and its mount.
struct Place {
    mount: Mount,
    server: Server,
    _served: Scratch,
}

impl Place {
    fn new(sample: impl FnOnce(&Path)) -> Self {
        let served = Scratch::new("served");
        sample(served.path());
        // Small: what is in it counts as sent.
        let options = scripted::Options { send_buffer: Some(16 << 10), ..scripted::Options::default() };
        let server = Server::start_with(served.path(), options).unwrap();
        let mount = Mount::new(&server, &[]);
        Self { mount, server, _served: served }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.mount.path().join(name)
    }

    fn retrieved(&self) -> u64 {
        self.server.counters().of("RETR")
    }

    /// Bytes that went into data connections.
    fn sent(&self) -> usize {
        usize::try_from(self.server.counters().now().bytes_sent).unwrap()
    }
}

fn big(root: &Path, size: usize) {
    let content: Vec<u8> = (0..size as u32).map(|i| (i / 7 + i / 4096) as u8).collect();
    fs::write(root.join("big"), content).unwrap();
}
