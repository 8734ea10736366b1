//! ftpfs in a minute: `cargo run --release --example demo`.
//!
//! Starts a small FTP server on 127.0.0.1 with a few files, mounts it with the real program, shows what ordinary commands
//! make of it, and leaves it mounted until Ctrl-C. Then everything is gone: mount, server, files. With `--once`, or without
//! a terminal, it ends by itself.

#[allow(dead_code, unused_imports, reason = "the demo's server behaves; the tests use its bad sides")]
#[path = "../scripted/mod.rs"]
mod scripted;

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let once = std::env::args().any(|argument| argument == "--once") || !io::stdin().is_terminal();
    // Blocked before any thread starts, and waited for at the end: Ctrl-C takes the orderly way out.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|e| e.to_string())?;

    what_is_missing()?;
    let program = program()?;
    let place = Place::new()?;
    let served = place.0.join("server");
    sample(&served).map_err(|e| format!("{}: {e}", served.display()))?;
    let server = scripted::Server::start(&served).map_err(|e| format!("server: {e}"))?;
    let mount = Mounted::new(&program, &server, place.0.join("mnt"))?;

    println!("An FTP server serves {} at {}", served.display(), server.url());
    println!("ftpfs has mounted it on {}\n", mount.point.display());
    for command in SHOWN {
        show(&mount.point, command)?;
    }
    println!("What has arrived on the server's side:\n");
    for command in ["cat notes/todo.txt", "ls -l copies"] {
        show(&served, command)?;
    }
    if !once {
        println!("It stays mounted on {} until you press Ctrl-C. Look around!", mount.point.display());
        signals.wait().map_err(|e| e.to_string())?;
        println!();
    }
    mount.end()?;
    drop(server);
    drop(place);
    println!("Unmounted; server and files are gone.");
    Ok(())
}

fn show(folder: &Path, command: &str) -> Result<(), String> {
    println!("$ {command}");
    let limited = Command::new("timeout").args(["30", "sh", "-c", command]).current_dir(folder).status();
    let status = limited.map_err(|e| format!("timeout: {e}"))?;
    println!();
    if status.success() { Ok(()) } else { Err(format!("`{command}` failed: {status}")) }
}

/// The files that the server has.
fn sample(root: &Path) -> io::Result<()> {
    for folder in ["notes", "recipes", "copies"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("README.txt"), "Everything here comes from an FTP server.\n")?;
    fs::write(root.join("notes/todo.txt"), "water the plants\n")?;
    fs::write(root.join("notes/trip to Ghent.txt"), "train at 9:12, two tickets\n")?;
    fs::write(root.join("recipes/pancakes.txt"), "2 eggs, 1 cup of milk, 1 cup of flour\n")?;
    fs::write(root.join("recipes/soup.txt"), "3 onions, 1 litre of water, patience\n")?;
    fs::write(root.join("numbers.bin"), (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
}

fn what_is_missing() -> Result<(), String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse: `modprobe fuse` loads the kernel module; \
            a container needs `--device /dev/fuse --cap-add SYS_ADMIN`"
            .into());
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    if let Err(e) = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Err(format!(
            "/dev/fuse cannot be opened ({e}): run the demo as root, or `sudo chmod 666 /dev/fuse`"
        ));
    }
    let found = Command::new("fusermount3").arg("-V").output();
    found.map(|_| ()).map_err(|_| {
        "fusermount3 is missing: install the package `fuse3` (apt-get install fuse3, dnf install fuse3)"
            .into()
    })
}

/// The program beside this one: target/release/ftpfs for target/release/examples/demo. `cargo run --example` does not
/// build it.
fn program() -> Result<PathBuf, String> {
    let demo = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = demo.parent().and_then(Path::parent).ok_or("this program lies in an odd place")?;
    let program = folder.join("ftpfs");
    let cargo = std::env::var_os("CARGO");
    if cargo.is_none() && program.exists() {
        return Ok(program);
    }
    let mut build = Command::new(cargo.unwrap_or("cargo".into()));
    build.args(["build", "--quiet", "--bin", "ftpfs", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    if let Some(target) = folder.parent() {
        build.arg("--target-dir").arg(target);
    }
    let built = build.status().map_err(|e| format!("cargo: {e}"))?;
    if built.success() { Ok(program) } else { Err("ftpfs could not be built".into()) }
}

/// A folder of ours below the temporary one.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, String> {
        let place = std::env::temp_dir().join(format!("ftpfs-demo-{}", std::process::id()));
        fs::create_dir(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        Ok(Self(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Never through a mount: should it still be there, the server's files are none of our business.
        let _ = Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(&self.0).status();
    }
}

/// ftpfs, running.
struct Mounted {
    process: Child,
    point: PathBuf,
}

impl Mounted {
    fn new(program: &Path, server: &scripted::Server, point: PathBuf) -> Result<Self, String> {
        fs::create_dir(&point).map_err(|e| format!("{}: {e}", point.display()))?;
        let mut command = Command::new(program);
        command.arg("-f").arg(server.url()).arg(&point).env("FTPFS_PASSWORD", server.password());
        // A group of its own: the terminal's Ctrl-C reaches the demo only, which then unmounts.
        command.stdin(Stdio::null()).process_group(0);
        let process = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let mut mounted = Self { process, point };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !mounted.is_there() {
            if let Some(status) = mounted.process.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("ftpfs ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err("ftpfs has not mounted within 20 seconds".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(mounted)
    }

    /// Unmounts as a user would; says when something was left undone.
    fn end(mut self) -> Result<(), String> {
        self.unmount(false);
        match self.ended() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("ftpfs ended with {status}")),
            None => Err("ftpfs has not ended after its unmount".into()),
        }
    }

    fn is_there(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        table.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == self.point))
    }

    fn unmount(&self, lazy: bool) {
        let (program, arguments): (_, &[&str]) = match (nix::unistd::geteuid().is_root(), lazy) {
            (true, false) => ("umount", &[]),
            (true, true) => ("umount", &["--lazy"]),
            (false, false) => ("fusermount3", &["-u"]),
            (false, true) => ("fusermount3", &["-u", "-z"]),
        };
        let _ = Command::new("timeout").args(["20", program]).args(arguments).arg(&self.point).status();
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_there() {
            self.unmount(true);
        }
        if self.ended().is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// What is shown, inside the mount.
const SHOWN: [&str; 8] = [
    "ls -la",
    "cat README.txt 'notes/trip to Ghent.txt'",
    "grep -r onions .",
    "echo 'call grandma' >> notes/todo.txt",
    "cp -r recipes numbers.bin copies/",
    "mv copies/recipes copies/cookbook && ls -l copies",
    "cmp numbers.bin copies/numbers.bin && echo the same",
    "df -h . | tail -n 1",
];
