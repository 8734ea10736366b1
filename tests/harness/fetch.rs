//! Gets server programs that the machine lacks, without installing anything: Debian's server packages exclude each other, so
//! they are unpacked side by side below the target folder; those in Python and Node get folders of their own there.
//!
//! Tests run in several processes and threads at once, so each kind of this happens under a file lock of its own: nobody who
//! wants a Debian package waits for a compiler. What is complete has its final name, what is not has another: an interrupted
//! fetch is simply done again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use super::scratch;

/// The folder that a Debian package unpacks to, with the shared libraries that `programs` in it lack beside it.
pub fn debian(package: &str, programs: &[&str]) -> Result<PathBuf, String> {
    let _only_one = lock("debian")?;
    let root = unpacked(package)?;
    for program in programs {
        complete(&root.join(program))?;
    }
    Ok(root)
}

/// The library path for programs from [`debian`].
pub fn library_path() -> String {
    let libs = scratch::cache().join("libs");
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    [libs.join("usr/lib").join(&triplet), libs.join("lib").join(&triplet)]
        .map(|p| p.display().to_string())
        .join(":")
}

/// A Python with these packages (`name==version`).
pub fn python(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let _only_one = lock(&format!("python-{name}"))?;
    let place = scratch::cache().join(format!("python-{name}"));
    let ready = place.join("ready");
    if !ready.exists() {
        let _ = fs::remove_dir_all(&place);
        // Debian's own one where there is one: servers that dropped root can run it, unlike one in /root.
        let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
        run(Command::new(python).args(["-m", "venv"]).arg(&place))?;
        run(Command::new(place.join("bin/pip")).args(["install", "--quiet"]).args(packages))?;
        fs::write(&ready, "").map_err(|e| e.to_string())?;
    }
    Ok(place.join("bin/python3"))
}

/// A folder whose `node_modules` holds this package (`name@version`).
pub fn npm(package: &str) -> Result<PathBuf, String> {
    let _only_one = lock("npm")?;
    let place = scratch::cache().join("npm");
    let ready = place.join("ready");
    if !ready.exists() {
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).map_err(|e| e.to_string())?;
        run(Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--prefix"])
            .arg(&place)
            .arg(package))?;
        fs::write(&ready, "").map_err(|e| e.to_string())?;
    }
    Ok(place)
}

/// Builds one of the programs in `tests/servers` (cargo projects of their own) and gives its path. Not optimised: that takes
/// longer than all that it ever does.
pub fn cargo(name: &str) -> Result<PathBuf, String> {
    let _only_one = lock("cargo")?;
    let target = scratch::cache().join("cargo");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name).join("Cargo.toml");
    run(cargo_itself()
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("RUSTFLAGS"))?;
    Ok(target.join("debug").join(format!("{name}-main")))
}

/// The file system exerciser, installed once as any developer would.
pub fn fsx() -> Result<PathBuf, String> {
    let _only_one = lock("fsx")?;
    let place = scratch::cache().join("fsx");
    let program = place.join("bin/fsx");
    if !program.exists() {
        run(cargo_itself()
            .args(["install", "--quiet", "--locked", "--debug", "--version", "0.3.2", "fsx", "--root"])
            .arg(&place)
            .env("CARGO_TARGET_DIR", place.join("build"))
            .env_remove("RUSTFLAGS"))?;
    }
    Ok(program)
}

/// The cargo that has built the tests, with its own compiler: a `rustc` from PATH may be rustup's, which asks a crate's
/// rust-toolchain.toml (when a test is not started by cargo, which sees to that).
fn cargo_itself() -> Command {
    let cargo = Path::new(env!("CARGO"));
    let mut command = Command::new(cargo);
    let compiler = cargo.with_file_name("rustc");
    if compiler.exists() {
        command.env("RUSTC", compiler);
    }
    command
}

/// A key and a certificate for localhost that signs itself, made once: (certificate, key).
pub fn certificate() -> Result<(PathBuf, PathBuf), String> {
    let _only_one = lock("certificate")?;
    let (cert, key) = (scratch::cache().join("cert.pem"), scratch::cache().join("key.pem"));
    if !cert.exists() {
        let unfinished = scratch::cache().join("cert.unfinished");
        run(Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&unfinished))?;
        fs::rename(&unfinished, &cert).map_err(|e| e.to_string())?;
    }
    Ok((cert, key))
}

fn unpacked(package: &str) -> Result<PathBuf, String> {
    let place = scratch::cache().join(package);
    if !place.exists() {
        let unfinished = scratch::cache().join(format!("{package}.unfinished"));
        unpack(package, &unfinished)?;
        fs::rename(&unfinished, &place).map_err(|e| e.to_string())?;
    }
    Ok(place)
}

fn unpack(package: &str, place: &Path) -> Result<(), String> {
    let download = scratch::cache().join("download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).map_err(|e| e.to_string())?;
    let mut get = Command::new("apt-get");
    get.args(["--quiet", "download", package]).current_dir(&download);
    if run(&mut get).is_err() {
        // The lists of a fresh machine are empty or old.
        run(Command::new("apt-get").args(["--quiet", "update"]))?;
        run(&mut get)?;
    }
    let file = fs::read_dir(&download).map_err(|e| e.to_string())?.flatten().next();
    let file = file.ok_or_else(|| format!("apt-get downloaded nothing for {package}"))?.path();
    fs::create_dir_all(place).map_err(|e| e.to_string())?;
    run(Command::new("dpkg").arg("-x").arg(file).arg(place))
}

/// Unpacks what ldd misses, and what that misses.
fn complete(program: &Path) -> Result<(), String> {
    let mut tried = HashSet::new();
    // Dependencies of dependencies: three levels deep at most in practice.
    for _ in 0..6 {
        let output = Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", library_path()).output();
        let output = output.map_err(|e| format!("ldd: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let missing: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("not found"))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        for library in missing {
            if !tried.insert(library.to_string()) {
                return Err(format!("{} lacks {library}", program.display()));
            }
            // Debian policy 8.1: the package is called after the soname.
            let (stem, version) = library.split_once(".so.").ok_or("a library without a version")?;
            let name = format!("{stem}{version}").replace('_', "-").to_lowercase();
            let place = scratch::cache().join("libs");
            let dashed = format!("{stem}-{version}").replace('_', "-").to_lowercase();
            let new_abi = format!("{name}t64");
            if [name, dashed, new_abi].iter().all(|package| unpack(package, &place).is_err()) {
                return Err(format!("no package found for {library}"));
            }
        }
    }
    Err(format!("{} still lacks libraries", program.display()))
}

fn lock(what: &str) -> Result<Flock<File>, String> {
    let file = File::create(scratch::cache().join(format!("{what}.lock"))).map_err(|e| e.to_string())?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
