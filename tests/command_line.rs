//! The command as a script meets it: exit codes, one-line errors, and passwords that stay out of sight. Nothing is mounted
//! here, so no privileges are needed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["-h", "--help"] {
        let output = ftpfs().arg(flag).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0));
        assert!(text.contains("credentials=FILE") && text.contains("Exit:"), "{text}");
    }
    let output = ftpfs().arg("-V").output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("ftpfs ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn all_options_are_explained_on_request() {
    let output = ftpfs().args(["-o", "help"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for words in ["allow_other", "sslv3 ", "refused: ", "no effect: for mount(8)"] {
        assert!(text.contains(words), "{words} is missing");
    }
}

#[test]
fn mistakes_on_the_command_line_end_with_1_and_one_line() {
    let folder = Scratch::new();
    let point = folder.path("point");
    for (source, option, words) in [
        ("ftp://h/", "frobnicate", "unknown option frobnicate"),
        ("ftp://h/", "max_con=3", "did you mean max_conns"),
        ("ftp://h/", "uid=no-such-user", "no-such-user"),
        ("ftp://h/", "remount", "unmount"),
        ("http://h/", "rw", "ftp://"),
        ("ftp://h:x/", "rw", "port"),
        ("ftp://h/%0aDELE", "rw", "line end"),
    ] {
        let output = ftpfs().args([source, &point, "-o", option]).output().expect("runs");
        assert_error(&output, 1, words);
    }
    assert_error(&ftpfs().output().expect("runs"), 1, "which server");
    assert_error(&ftpfs().arg("ftp://h/").output().expect("runs"), 1, "MOUNTPOINT");
}

#[test]
fn mistakes_in_a_configuration_file_are_told_with_file_and_line() {
    let folder = Scratch::new();
    let file = folder.path("config.toml");
    for (text, words) in [
        (
            "[server.work]\nsource = \"ftp://h/\"\nmax_con = 3\n",
            ":3: unknown option max_con: did you mean max_conns",
        ),
        ("[defaults]\ntimeout = \"soon\"\n", ":2: option timeout: a number"),
        ("[defaults\n", ":1: "),
        ("[server.work]\nsource = \"ftp://joe:hunter2@h/\"\n", ":2: a password stands here"),
    ] {
        std::fs::write(&file, text).expect("write");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
        for name in ["ftp://127.0.0.1:1/", "doctor"] {
            let mut command = ftpfs();
            command.arg(name);
            let last = if name == "doctor" { "ftp://127.0.0.1:1/".to_owned() } else { folder.path("point") };
            let list = format!("config={file},{}", folder.spool());
            let output = command.args([&last, "-o", &list]).output().expect("runs");
            assert_error(&output, 1, &format!("{file}{words}"));
            assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
        }
    }
    let output = ftpfs().args(["work:", &folder.path("point"), "-o", "config=/no/such/file"]).output();
    assert_error(&output.expect("runs"), 1, "/no/such/file: No such file");
}

#[test]
fn a_bad_mount_point_is_told_before_anything_is_asked() {
    let output = ftpfs().args(["ftp://joe@127.0.0.1:1/", "/no/such/folder"]).output().expect("runs");
    assert_error(&output, 4, "mkdir");
}

#[test]
fn an_unreachable_server_ends_with_3_in_the_foreground_and_in_the_background() {
    let folder = Scratch::new();
    for flags in [&["-f"][..], &[]] {
        let (_held, port) = closed_port();
        let output = ftpfs()
            .args([&format!("ftp://127.0.0.1:{port}/"), &folder.path("point"), "-o", &folder.spool()])
            .args(flags)
            .output()
            .expect("runs");
        assert_error(&output, 3, &format!("127.0.0.1:{port}"));
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_no_place_for_files_that_wait() {
    let folder = Scratch::new();
    let shared = folder.path("shared");
    std::fs::create_dir(&shared).expect("create");
    std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod");
    let (_held, port) = closed_port();
    let source = format!("ftp://127.0.0.1:{port}/");
    let run =
        |list: &str| ftpfs().args([&source, &folder.path("point"), "-f", "-o", list]).output().expect("runs");
    assert_error(&run(&format!("spool_dir={shared}")), 6, &format!("{shared}: others can write to it"));
    assert_error(&run(&format!("{},cache_dir={shared}", folder.spool())), 6, "set cache_dir=");
    // One in it will do.
    assert_error(&run(&format!("spool_dir={shared}/mine")), 3, "127.0.0.1");
    if nix::unistd::geteuid().is_root() {
        let theirs = folder.path("theirs");
        std::fs::create_dir(&theirs).expect("create");
        std::os::unix::fs::chown(&theirs, Some(65_534), None).expect("chown");
        assert_error(&run(&format!("spool_dir={theirs}")), 6, "belongs to somebody else");
    }
    let push = |list: &str| ftpfs().args(["recover", "push", "--all", "-o", list]).output().expect("runs");
    assert_error(&push(&format!("spool_dir={shared}")), 6, "others can write to it");
    assert_eq!(push(&format!("spool_dir={shared}/mine")).status.code(), Some(0));
}

#[test]
fn a_mount_helper_speaks_mounts_exit_codes_and_can_fake() {
    let folder = Scratch::new();
    let helper = folder.path("mount.ftpfs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ftpfs"), &helper).expect("symlink");
    let (_held, port) = closed_port();
    let source = format!("ftp://127.0.0.1:{port}/");
    let run = |flags: &[&str]| {
        let list = format!("rw,_netdev,nofail,x-systemd.automount,{}", folder.spool());
        Command::new(&helper)
            .env_clear()
            .args([&source, &folder.path("point"), "-n", "-o", &list])
            .args(flags)
            .output()
            .expect("runs")
    };
    assert_error(&run(&[]), 32, "cannot reach");
    let fake = run(&["-f"]);
    assert_eq!((fake.status.code(), fake.stderr.len()), (Some(0), 0));
}

#[test]
fn tls_is_never_silently_left_out() {
    let folder = Scratch::new();
    for (scheme, option) in [("ftpes", "rw"), ("ftp", "ssl"), ("ftps", "rw")] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        // A server that knows no TLS: refuses AUTH, and would take any password.
        let server = std::thread::spawn(move || {
            let mut stream = accept(&listener);
            let mut heard = String::new();
            let _ = stream.write_all(b"220 plain\r\n");
            let mut lines = BufReader::new(stream.try_clone().expect("clone"));
            loop {
                let mut line = Vec::new();
                match lines.read_until(b'\n', &mut line) {
                    Ok(1..) => heard.push_str(&String::from_utf8_lossy(&line)),
                    _ => return heard,
                }
                let _ = stream.write_all(b"500 what?\r\n");
            }
        });
        let output = ftpfs()
            .args([&format!("{scheme}://joe:hunter2@{address}/"), &folder.path("point"), "-f"])
            .args(["-o", &format!("timeout=2,{option},{}", folder.spool())])
            .output()
            .expect("runs");
        let heard = server.join().expect("no panic");
        assert!(!heard.contains("USER") && !heard.contains("hunter2"), "{heard}");
        assert_error(&output, 5, "TLS");
    }
    let output = ftpfs()
        .args(["ftp://h/", &folder.path("point"), "-o", &format!("pin={}", "0".repeat(64))])
        .output()
        .expect("runs");
    assert_error(&output, 1, "need TLS");
}

#[test]
fn passwords_are_not_to_be_seen_in_the_process_list_nor_in_the_environment() {
    let folder = Scratch::new();
    let list = format!("password=s3cret-option,account=s3cret-account,{}", folder.spool());
    for (source, list, variable) in [
        ("ftp://joe:s3cret-url@", list.as_str(), "s3cret-environment"),
        ("ftp://joe@", &folder.spool(), "s3cret-environment"),
        ("ftp://joe@", &format!("user=jim:s3cret,{}", folder.spool()), ""),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let source = format!("{source}{}/", listener.local_addr().expect("address"));
        let mut command = ftpfs();
        command.args(["-f", &source, &folder.path("point"), "-o", list]);
        if !variable.is_empty() {
            command.env("FTPFS_PASSWORD", variable);
        }
        let child = Running(command.stderr(Stdio::null()).spawn().expect("runs"));
        // It has gone to the network: all that reads arguments is behind it. No greeting comes, so it waits.
        let _session = accept(&listener);
        for file in ["cmdline", "environ"] {
            let content = std::fs::read(format!("/proc/{}/{file}", child.0.id())).expect("it runs");
            let content = String::from_utf8_lossy(&content).into_owned();
            assert!(!content.contains("s3cret"), "{file}: {content}");
            assert!(file != "cmdline" || content.contains("ftp://joe@"), "{content}");
        }
    }
}

#[test]
fn without_a_password_and_without_a_terminal_it_says_where_one_can_come_from() {
    let folder = Scratch::new();
    let output = Command::new("setsid")
        .args(["-w", env!("CARGO_BIN_EXE_ftpfs"), "ftp://joe@127.0.0.1:1/", &folder.path("point")])
        .args(["-o", &format!("netrc=/dev/null,{}", folder.spool())])
        .env_remove("FTPFS_PASSWORD")
        .output()
        .expect("setsid(1) of util-linux");
    assert_error(&output, 2, "password_stdin");
}

#[test]
fn a_credentials_file_for_everybody_is_refused() {
    let folder = Scratch::new();
    let file = folder.path("secret");
    std::fs::write(&file, "username=joe\npassword=hunter2\n").expect("write");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let output = ftpfs()
        .args(["ftp://127.0.0.1:1/", &folder.path("point")])
        .args(["-o", &format!("credentials={file},{}", folder.spool())])
        .output()
        .expect("runs");
    assert_error(&output, 6, "chmod 600");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
}

#[test]
fn a_password_on_standard_input_is_taken() {
    let folder = Scratch::new();
    let (_held, port) = closed_port();
    let mut child = ftpfs()
        .args(["-f", &format!("ftp://joe@127.0.0.1:{port}/"), &folder.path("point")])
        .args(["-o", &format!("password_stdin,{}", folder.spool())])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("piped").write_all(b"hunter2\n").expect("written");
    let output = child.wait_with_output().expect("ends");
    assert_error(&output, 3, "as joe");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("hunter2"));
}

fn ftpfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftpfs"));
    command.stdin(Stdio::null()).env_remove("FTPFS_PASSWORD").env_remove("FTPFS_LOG");
    command
}

/// One line on standard error, that begins with our name and holds these words.
fn assert_error(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.starts_with("ftpfs: ") && text.contains(words), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

/// A port on which nobody listens, nor will as long as the descriptor is held: bound, and that is all.
fn closed_port() -> (OwnedFd, u16) {
    let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("bind");
    let port = getsockname::<SockaddrIn>(held.as_raw_fd()).expect("address").port();
    (held, port)
}

fn accept(listener: &TcpListener) -> std::net::TcpStream {
    listener.set_nonblocking(true).expect("nonblocking");
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        match listener.accept() {
            Ok((stream, _)) => return stream,
            Err(_) if Instant::now() < limit => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("nobody came: {error}"),
        }
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of its own, with a mount point in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ftpfs-command-line-{}-{number}", std::process::id()));
        std::fs::create_dir_all(folder.join("point")).expect("create");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn spool(&self) -> String {
        format!("spool_dir={}", self.path("spool"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
