//! How mounts end: killed, signalled, unmounted by others, in use, copied into other namespaces; and what they never do: take
//! something else away, or leave a corpse ("Transport endpoint is not connected").

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::program::{self, text};
use harness::scratch::Scratch;
use harness::{Mount, scripted, shell};
use nix::sys::signal::Signal;

#[test]
fn a_killed_daemon_leaves_no_corpse() {
    let (_scratch, server) = served();
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        let mut mount = Mount::new(&server, &[]);
        let inside = Command::new("sleep").arg("60").current_dir(mount.path()).spawn().unwrap();
        mount.signal(signal);
        assert!(mount.wait(ENDS).is_some());
        until(|| !mount.is_mounted());
        // What lies below is there again.
        fs::write(mount.path().join("below"), "x").unwrap();
        kill(inside);
    }
}

#[test]
fn a_signal_unmounts_what_is_in_use_and_uploads_what_is_written() {
    let (_scratch, server) = served();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mount = Mount::new(&server, &[]);
        let inside = Command::new("sleep").arg("60").current_dir(mount.path()).spawn().unwrap();
        let mut file = File::create(mount.path().join("open")).unwrap();
        file.write_all(signal.as_str().as_bytes()).unwrap();
        mount.signal(signal);
        let ended = mount.wait(ENDS);
        assert!(ended.is_some_and(|status| status.success()), "{signal}: {ended:?}\n{}", mount.log());
        assert!(!mount.is_mounted());
        assert_eq!(fs::read(server.root().join("open")).unwrap(), signal.as_str().as_bytes());
        drop(file);
        kill(inside);
    }
}

#[test]
fn after_a_lazy_unmount_open_files_go_on_until_they_are_closed() {
    let (_scratch, server) = served();
    let mut mount = Mount::new(&server, &[]);
    let mut file = File::create(mount.path().join("open")).unwrap();
    let mut letter = File::open(mount.path().join("letter")).unwrap();
    // Kept by the shell that the test starts, if it were open there: so by its path from outside.
    shell::ok(Path::new("/"), &format!("umount -l '{}'", mount.path().display()));
    assert!(!mount.is_mounted());
    file.write_all(b"written afterwards").unwrap();
    let mut text = String::new();
    letter.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    drop(file);
    assert_eq!(fs::read(server.root().join("open")).unwrap(), b"written afterwards");
    drop(letter);
    assert!(mount.wait(ENDS).is_some_and(|status| status.success()), "{}", mount.log());
}

#[test]
fn a_mount_in_use_stays_when_umount_is_refused() {
    let (_scratch, server) = served();
    let mount = Mount::new(&server, &[]);
    let inside = Command::new("sleep").arg("60").current_dir(mount.path()).spawn().unwrap();
    let refused = Command::new("umount").arg(mount.path()).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("busy"), "{}", text(&refused));
    assert_eq!(fs::read(mount.path().join("letter")).unwrap(), b"hello\n");
    kill(inside);
    assert!(mount.unmount().success());
}

#[test]
fn a_second_mount_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let (_scratch, server) = served();
    let mount = Mount::new(&server, &[]);
    let output = ftpfs(&server).arg(mount.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("already mounted"), "{}", text(&output));
    assert_eq!(fs::read(mount.path().join("letter")).unwrap(), b"hello\n");
}

#[test]
fn a_folder_that_is_not_empty_gets_its_files_back() {
    let (_scratch, server) = served();
    let scratch = Scratch::new("mount");
    let point = scratch.path().join("point");
    fs::create_dir(&point).unwrap();
    fs::write(point.join("mine"), "kept").unwrap();
    let output = ftpfs(&server).arg(&point).args(spool(&scratch)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(point.join("letter").exists() && !point.join("mine").exists());
    shell::ok(Path::new("/"), &format!("umount '{}'", point.display()));
    assert_eq!(fs::read(point.join("mine")).unwrap(), b"kept");
}

/// Who mounts below, or instead, is not harmed by our end: a mount is known by its number, never by its path.
#[test]
fn what_others_have_mounted_in_the_same_place_is_left_alone() {
    let (_scratch, server) = served();
    let script = r#"
        mount -t tmpfs below "$POINT" && echo one > "$POINT/below"
        "$PROGRAM" -f -o "spool_dir=$SPOOL" "$URL" "$POINT" & daemon=$!
        for _ in $(seq 200); do test -e "$POINT/letter" && break || sleep 0.05; done
        umount "$POINT"
        wait $daemon
        test "$(cat "$POINT/below")" = one
        # And one that somebody has laid over it.
        "$PROGRAM" -f -o "spool_dir=$SPOOL" "$URL" "$POINT" & daemon=$!
        for _ in $(seq 200); do test -e "$POINT/letter" && break || sleep 0.05; done
        mount -t tmpfs above "$POINT" && echo two > "$POINT/above"
        kill -TERM $daemon
        wait $daemon || true
        test "$(cat "$POINT/above")" = two
        umount "$POINT"
    "#;
    in_namespace(&server, script);
}

/// A container that was started meanwhile has a copy of every mount. It neither keeps the daemon alive nor loses its own.
#[test]
fn a_copy_in_another_namespace_does_not_keep_the_daemon() {
    let (_scratch, server) = served();
    let script = r#"
        "$PROGRAM" -f -o "spool_dir=$SPOOL" "$URL" "$POINT" & daemon=$!
        for _ in $(seq 200); do test -e "$POINT/letter" && break || sleep 0.05; done
        unshare --mount --propagation private sleep 60 & container=$!
        for _ in $(seq 200); do
            test "$(readlink /proc/$container/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" && break || sleep 0.05
        done
        umount "$POINT"
        wait $daemon
        kill $container
    "#;
    in_namespace(&server, script);
}

#[test]
fn the_daemon_keeps_nothing_of_its_caller() {
    let (_scratch, server) = served();
    let scratch = Scratch::new("mount");
    let point = scratch.path().join("point");
    fs::create_dir(&point).unwrap();
    // Comes back although the pipes are read to their end, and descriptor 7 was left open by mistake.
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", "exec 7</etc/passwd; \"$@\" </dev/zero", "sh"])
        .arg(program::path())
        .args(spool(&scratch))
        .arg(server.url())
        .arg(&point)
        .env("FTPFS_PASSWORD", server.password())
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told =
        shell::ok(Path::new("/"), &format!("'{}' status --json '{}'", program::path(), point.display()));
    let (_, pid) = told.split_once(r#""pid":"#).unwrap();
    let pid: String = pid.chars().take_while(char::is_ascii_digit).collect();
    let link = |path: &str| fs::read_link(format!("/proc/{pid}/{path}")).unwrap();
    for stream in 0..3 {
        assert_eq!(link(&format!("fd/{stream}")), Path::new("/dev/null"));
    }
    assert_eq!(link("cwd"), Path::new("/"));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let kept =
        open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).find(|path| path.ends_with("passwd"));
    assert_eq!(kept, None);
    shell::ok(Path::new("/"), &format!("umount '{}'", point.display()));
}

#[test]
fn a_second_signal_ends_the_wait_and_keeps_what_is_not_uploaded() {
    let (_scratch, server) = served();
    let mut mount = Mount::new(&server, &["timeout=100"]);
    let mut writer = shell::Script::start(
        mount.path(),
        "f = open('open', 'wb'); f.write(b'not yet sent'); f.flush(); pause()",
    );
    writer.await_pause();
    server.faults().add(scripted::Rule::on("STOR").act(scripted::Fault::Silent));
    mount.signal(Signal::SIGTERM);
    until(|| server.counters().of("STOR") > 0);
    mount.signal(Signal::SIGTERM);
    let ended = mount.wait(ENDS);
    assert_eq!(ended.and_then(|status| status.code()), Some(7), "{}", mount.log());
    let kept = shell::ok(&mount.spool(), "grep -rl 'not yet sent' unsent");
    assert_eq!(kept.lines().count(), 1, "{kept}");
}

#[test]
fn the_log_file_is_opened_anew_on_hup() {
    let (_scratch, server) = served();
    let logs = Scratch::new("logs");
    let file = logs.path().join("log");
    let mount = Mount::new(&server, &[&format!("log_file={}", file.display())]);
    until(|| fs::read_to_string(&file).is_ok_and(|text| text.contains("is mounted on")));
    fs::rename(&file, logs.path().join("log.1")).unwrap();
    mount.signal(Signal::SIGHUP);
    until(|| fs::read_to_string(&file).is_ok_and(|text| text.contains("HUP")));
}

fn served() -> (Scratch, scripted::Server) {
    let scratch = Scratch::new("scripted");
    fs::write(scratch.path().join("letter"), "hello\n").unwrap();
    let server = scripted::Server::start(scratch.path()).unwrap();
    (scratch, server)
}

fn ftpfs(server: &scripted::Server) -> Command {
    let mut command = Command::new("timeout");
    command.args(["60", &program::path(), &server.url()]).env("FTPFS_PASSWORD", server.password());
    command.stdin(Stdio::null());
    command
}

fn spool(scratch: &Scratch) -> [String; 2] {
    ["-o".to_owned(), format!("spool_dir={}", scratch.path().join("spool").display())]
}

/// A script in a mount namespace of its own, where copies of other tests' mounts have been let go.
#[track_caller]
fn in_namespace(server: &scripted::Server, script: &str) {
    let scratch = Scratch::new("mount");
    let point = scratch.path().join("point");
    fs::create_dir(&point).unwrap();
    let prepare = r#"awk '/ - fuse/ { print $5 }' /proc/self/mountinfo |
        while read -r at; do umount -l "$(printf '%b' "$at")"; done; set -x"#;
    let output = Command::new("timeout")
        .args(["60", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-e", "-u", "-c", &format!("{prepare}\n{script}")])
        .env("PROGRAM", program::path())
        .env("URL", server.url())
        .env("FTPFS_PASSWORD", server.password())
        .env("POINT", point)
        .env("SPOOL", scratch.path().join("spool"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{}", text(&output));
}

fn kill(mut child: std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + ENDS;
    while !condition() {
        assert!(Instant::now() < limit, "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Uploads, the grace for copies, and a slow machine.
const ENDS: Duration = Duration::from_secs(30);
