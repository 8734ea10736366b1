//! mount(8), umount(8) and fstab: what an administrator does, with util-linux's real programs.
//!
//! They look for helpers in /sbin only. So these scripts run in private mount and process namespaces, where a folder with the
//! helpers is laid over /sbin (and a private fstab over /etc/fstab); the machine is left as it was.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::scratch::Scratch;
use harness::scripted::{Fault, Rule};
use harness::{Kind, Mount, Server, Target, scripted, shell, skip};

#[test]
fn mount_by_either_type_works_with_the_words_that_mount_adds() {
    let stage = Stage::new();
    for kind in ["ftpfs", "fuse.ftpfs"] {
        stage.ok(&format!(
            r#"mount -t {kind} -o rw,dev,suid,noatime,_netdev,nofail,comment=mine,credentials=$SECRET,spool_dir=$SPOOL "$URL" point
            grep " $PWD/point fuse.ftpfs " /proc/mounts || exit 9
            ! grep -q "$PASSWORD" /proc/mounts || exit 10
            test "$(cat point/letter)" = hello
            echo world > point/reply
            umount point"#
        ));
        assert_eq!(fs::read(stage.server.root().join("reply")).unwrap(), b"world\n");
        fs::remove_file(stage.server.root().join("reply")).unwrap();
    }
}

#[test]
fn mount_a_mounts_what_a_private_fstab_says() {
    let stage = Stage::new();
    stage.ok(r#"mkdir 'my files' off
        cat > fstab <<END
$URL $PWD/point fuse.ftpfs _netdev,nofail,credentials=$SECRET,spool_dir=$SPOOL 0 0
$URL $PWD/my\\040files ftpfs ro,_netdev,x-systemd.automount,credentials=$SECRET,spool_dir=$SPOOL 0 0
$URL $PWD/off fuse.ftpfs noauto,_netdev,credentials=$SECRET,spool_dir=$SPOOL 0 0
END
        mount -a -T fstab
        test "$(cat point/letter)" = hello
        test "$(cat 'my files/letter')" = hello
        not touch 'my files/new' 2>/dev/null
        test "$(findmnt -n -t fuse.ftpfs -S "$URL" | wc -l)" = 2
        # What is mounted stays as it is.
        mount -a -T fstab
        test "$(findmnt -n -t fuse.ftpfs -S "$URL" | wc -l)" = 2
        mount -T fstab "$PWD/off"
        umount point 'my files' off"#);
}

#[test]
fn a_server_with_a_name_can_stand_in_fstab_and_on_the_command_line() {
    let stage = Stage::new();
    stage.ok(r#"lay_over_etc
        host=${URL#ftp://}; host=${host%%[:/]*}
        cat > /etc/ftpfs.toml <<END
[defaults]
spool_dir = "$SPOOL"
[host."$host"]
ro = true
[server.work]
source = "$URL"
user = "guest"
password = "$PASSWORD"
ro = false
END
        echo "work: $PWD/point fuse.ftpfs _netdev,nofail,x-gvfs-show 0 0" > fstab
        # A password for everybody to read is no password.
        chmod 644 /etc/ftpfs.toml
        mount -a -T fstab 2> why && exit 9
        cat why
        grep -q '/etc/ftpfs.toml:8: .*chmod 600' why
        not grep -q "$PASSWORD" why
        chmod 600 /etc/ftpfs.toml
        mount -a -T fstab
        mount -a -T fstab
        test "$(findmnt -n -S work: | wc -l)" = 1
        grep "^work: $PWD/point fuse.ftpfs rw" /proc/mounts
        test "$(cat point/letter)" = hello
        echo there > point/reply
        "$PROGRAM" status point | grep -q "guest@$host"
        umount point
        "$PROGRAM" doctor work: | grep -q 'can be mounted: ftpfs work:'
        # What is more special counts more, and the command most of all.
        "$PROGRAM" -o "credentials=$SECRET" "$URL" "$PWD/point"
        not touch point/new
        umount point
        "$PROGRAM" -o "credentials=$SECRET,rw" "$URL" "$PWD/point"
        touch point/new
        umount point
        "$PROGRAM" wrok: "$PWD/point" 2> why && exit 10
        grep -q '\[server.wrok\]' why"#);
}

/// As a new user does: the line from the README, `mount -a`; then somebody pulls the server's plug, and puts it in again.
#[test]
fn the_line_from_the_readme_outlives_its_server() {
    let stage = Stage::new();
    let readme = include_str!("../README.md");
    let line = readme.lines().find(|line| line.contains("fuse.ftpfs") && line.contains("_netdev")).unwrap();
    let mut fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let path = stage.folder.path();
    fields[0] = stage.server.url().replace("guest@", "");
    fields[1] = path.join("point").display().to_string();
    let (options, _) = fields[3].split_once("credentials=").unwrap();
    let secret = path.join("secret").display().to_string();
    fields[3] = format!(
        "{options}credentials={secret},timeout=5,dir_timeout=0,spool_dir={}",
        path.join("spool").display()
    );
    fs::write(path.join("fstab"), fields.join(" ") + "\n").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let asked = |name: &str| {
                (0..2000).any(|_| {
                    std::thread::sleep(Duration::from_millis(20));
                    path.join(name).exists()
                })
            };
            if asked("pull") {
                stage.server.faults().add(scripted::Rule::on("CONNECT").act(scripted::Fault::Silent));
                stage.server.drop_sessions();
                fs::write(path.join("pulled"), "").unwrap();
            }
            if asked("plug-in") {
                stage.server.faults().clear();
            }
        });
        stage.ok(r#"mount -a -T fstab
            test "$(cat point/letter)" = hello
            touch pull
            while not test -e pulled; do sleep 0.02; done
            # An error, and no freeze.
            code=0; timeout 30 ls point/other 2> why || code=$?
            cat why
            test $code = 2
            timeout 5 stat -f point > /dev/null
            touch plug-in
            for _ in $(seq 300); do cat point/letter 2>/dev/null && break || sleep 0.1; done
            # A connection that is still being made may cost one time-out. (A shell's echo does not look at close().)
            echo on > on
            for _ in $(seq 20); do cp on point/on && break || sleep 0.1; done
            cmp on point/on
            test "$(cat point/letter)" = hello
            umount point"#);
    });
    assert_eq!(fs::read(stage.server.root().join("on")).unwrap(), b"on\n");
}

#[test]
fn a_service_gets_its_password_from_systemds_credentials() {
    let stage = Stage::new();
    stage.ok(r#"mkdir credentials
        printf guest > credentials/ftpfs.user
        printf '%s\n' "$PASSWORD" > credentials/ftpfs.password
        export CREDENTIALS_DIRECTORY=$PWD/credentials
        "$PROGRAM" -o spool_dir=$SPOOL "$URL" "$PWD/point"
        test "$(cat point/letter)" = hello
        umount point"#);
}

#[test]
fn where_there_is_no_terminal_systemd_asks_for_the_password() {
    if !Path::new("/usr/bin/systemd-ask-password").exists() {
        return skip("there is no systemd-ask-password");
    }
    let stage = Stage::new();
    stage.ok(r#"asks=/usr/bin/systemd-ask-password
        mount -t tmpfs none /run && mkdir -p /run/systemd/system
        printf '#!/bin/sh\necho "$@" > %s/asked\necho "%s"\n' "$PWD" "$PASSWORD" > asks && chmod 755 asks
        mount --bind asks $asks
        setsid -w mount -t fuse.ftpfs -o user=guest,spool_dir=$SPOOL "$URL" point < /dev/null
        grep -q 'Password of guest on' asked
        grep -q 'timeout=60' asked
        test "$(cat point/letter)" = hello
        umount point
        # Nobody is there.
        printf '#!/bin/sh\nexit 1\n' > asks
        setsid -w mount -t fuse.ftpfs -o user=guest,spool_dir=$SPOOL "$URL" point < /dev/null 2> why && exit 9
        grep -q 'nobody has answered' why
        rm asked
        setsid -w mount -t fuse.ftpfs -o user=guest,no_prompt,spool_dir=$SPOOL "$URL" point < /dev/null 2> why && exit 9
        grep -q 'no_prompt' why
        not test -e asked"#);
}

/// As a container's first process, with a mount that travels out of the container, and a program outside that has written
/// something and has not closed it.
#[test]
fn as_pid_1_it_uploads_what_is_pending_when_the_container_is_stopped() {
    let stage = Stage::new();
    stage.ok(
        r#"mkdir -p shared && mount --bind shared shared && mount --make-shared shared && mkdir shared/data
        unshare --mount --pid --fork --kill-child --mount-proc --propagation unchanged \
            "$PROGRAM" -f -o "allow_other,credentials=$SECRET,spool_dir=$SPOOL" "$URL" "$PWD/shared/data" &
        container=$!
        up() { findmnt shared/data >/dev/null && "$PROGRAM" status "$PWD/shared/data"; }
        for _ in $(seq 200); do up && break || sleep 0.05; done
        test "$(cat shared/data/letter)" = hello
        { printf 'to be continued'; exec sleep 60; } > shared/data/pending &
        for _ in $(seq 200); do test -s shared/data/pending && break || sleep 0.05; done
        not grep -q continued "$SERVED/pending"
        first=$(ps -o pid= --ppid $container | tr -d ' ')
        grep -q "^NSpid:.*[[:space:]]1$" /proc/$first/status
        kill -TERM $first
        wait $container
        test "$(cat "$SERVED/pending")" = 'to be continued'
        not findmnt shared/data >/dev/null"#,
    );
}

#[test]
fn fake_verbose_sloppy_and_remount_are_answered() {
    let stage = Stage::new();
    stage.ok(r#"mount -f -n -t ftpfs -o credentials=$SECRET "$URL" point
        not findmnt point >/dev/null
        mount -n -s -v -t ftpfs -o credentials=$SECRET,spool_dir=$SPOOL "$URL" point
        findmnt point >/dev/null
        mount -o remount,ro point 2> why && exit 9
        cat why
        grep -q unmount why
        findmnt point >/dev/null
        umount point"#);
}

#[test]
fn a_mount_that_fails_says_why_and_ends_with_32() {
    let stage = Stage::new();
    stage.ok(r#"printf 'username=guest\npassword=wrong\n' > bad && chmod 600 bad
        mount -t fuse.ftpfs -o credentials=$PWD/bad,spool_dir=$SPOOL "$URL" point 2> why && exit 9
        test $? = 32
        grep -q 'login failed' why
        mount -t fuse.ftpfs -o credentials=$SECRET,spool_dir=$SPOOL ftp://127.0.0.1:1/ point 2> why && exit 10
        test $? = 32
        grep -q 'cannot reach' why
        mount -t fuse.ftpfs -o frobnicate,credentials=$SECRET "$URL" point 2> why && exit 11
        test $? = 1
        grep -q 'unknown option frobnicate' why
        not findmnt point >/dev/null"#);
}

#[test]
fn with_delay_connect_mount_a_works_while_the_server_is_down() {
    let stage = Stage::new();
    stage.ok(
        r#"echo "ftp://127.0.0.1:1/ $PWD/point fuse.ftpfs _netdev,nofail,delay_connect,credentials=$SECRET,spool_dir=$SPOOL 0 0" > fstab
        mount -a -T fstab
        findmnt point >/dev/null
        ls point 2> why && exit 9
        cat why
        umount point"#,
    );
}

#[test]
fn an_ordinary_user_mounts_and_unmounts_what_fstab_allows() {
    let stage = Stage::new();
    stage.ok(
        r#"# Some containers have a /dev/fuse for root only.
        mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse
        chown nobody point "$SECRET" && mkdir spool-nobody && chown nobody spool-nobody
        echo "$URL $PWD/point fuse.ftpfs noauto,user,_netdev,credentials=$SECRET,spool_dir=$PWD/spool-nobody 0 0" > fstab
        mount --bind fstab /etc/fstab
        as_user() { setpriv --reuid nobody --regid nogroup --clear-groups env -i "$@"; }
        as_user /bin/mount "$PWD/point"
        test "$(as_user /bin/cat "$PWD/point/letter")" = hello
        grep " $PWD/point fuse.ftpfs .*nosuid,nodev.*user_id=65534" /proc/mounts
        as_user /bin/umount "$PWD/point"
        not findmnt point >/dev/null
        # The owner and root can ask what it does; the owner can end it.
        as_user /bin/mount "$PWD/point"
        as_user "$PROGRAM" status "$PWD/point" | grep -q connections
        "$PROGRAM" list | grep "$PWD/point .*to upload"
        as_user /bin/sh -c 'echo later > "$0/later"' "$PWD/point"
        # Not even other programs of the same user can look into its memory, where the password is.
        daemon=$("$PROGRAM" status --json "$PWD/point" | sed 's/.*"pid":\([0-9]*\).*/\1/')
        not as_user /bin/cat "/proc/$daemon/environ"
        not as_user /bin/cat "/proc/$daemon/maps"
        as_user "$PROGRAM" umount "$PWD/point"
        not findmnt point >/dev/null
        # Killed, it leaves no corpse: the watchdog unmounts, by fusermount3.
        as_user /bin/mount "$PWD/point"
        kill -KILL $("$PROGRAM" status --json "$PWD/point" | sed 's/.*"pid":\([0-9]*\).*/\1/')
        for _ in $(seq 200); do findmnt point >/dev/null || break; sleep 0.05; done
        not findmnt point >/dev/null"#,
    );
}

#[test]
fn a_server_that_comes_later_is_used_then() {
    for kind in Kind::MAIN {
        let Some(mut server) = Server::start(kind) else { continue };
        server.put("sub/letter", "hello");
        let below = Below { url: format!("{}sub", server.url()), password: server.password() };
        server.stop();
        let mount = Mount::new(&below, &["delay_connect", "timeout=5"]);
        let refused = fs::read_dir(mount.path()).map(drop).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EHOSTUNREACH), "{kind:?}: {refused}");
        server.restart();
        let limit = Instant::now() + Duration::from_secs(30);
        let content = loop {
            match fs::read(mount.path().join("letter")) {
                Ok(content) => break content,
                Err(error) if Instant::now() > limit => panic!("{kind:?}: {error}\n{}", mount.log()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        assert_eq!(content, b"hello");
        shell::ok(mount.path(), "echo there > reply && mkdir folder && rmdir folder");
        assert_eq!(server.read("sub/reply"), b"there\n");
    }
}

#[test]
fn a_refused_password_is_not_sent_again_and_again_when_programs_keep_looking() {
    let scratch = Scratch::new("scripted");
    let server = scripted::Server::start(scratch.path()).unwrap();
    let wrong = Below { url: server.url(), password: "wrong".into() };
    let mount = Mount::new(&wrong, &["delay_connect"]);
    for _ in 0..5 {
        let refused = fs::read_dir(mount.path()).map(drop).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EACCES), "{refused}");
    }
    assert_eq!(server.counters().of("PASS"), 1);
}

#[test]
fn umount_comes_back_when_the_server_has_everything() {
    let stage = Stage::new();
    let slow = Fault::Delay(Duration::from_millis(1500));
    stage.server.faults().add(Rule::on("STOR").act(slow));
    stage.ok(r#"mount -t fuse.ftpfs -o writeback,credentials=$SECRET,spool_dir=$SPOOL "$URL" point
        daemon=$("$PROGRAM" status --json point | sed 's/.*"pid":\([0-9]*\).*/\1/')
        for i in 1 2 3 4; do echo $i > point/$i; done
        not test -s "$SERVED/4"
        umount point 2> said
        for i in 1 2 3 4; do test "$(cat "$SERVED/$i")" = $i; done
        not findmnt point >/dev/null
        not grep -q '^State:.[^Z]' /proc/$daemon/status
        cat said
        grep -q 'files to upload' said"#);
}

/// The daemon is silent until its end: longer than a daemon that runs may take for any other answer.
#[test]
fn umount_waits_as_long_as_the_mount_may_take() {
    let stage = Stage::new();
    stage.server.faults().add(Rule::on("STOR").act(Fault::Delay(Duration::from_secs(8))));
    stage.ok(r#"mount -t fuse.ftpfs -o writeback,credentials=$SECRET,spool_dir=$SPOOL "$URL" point
        echo text > point/letter
        umount point
        test "$(cat "$SERVED/letter")" = text"#);
}

#[test]
fn umount_says_what_the_server_has_not_confirmed() {
    let stage = Stage::new();
    stage.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    stage.ok(
        r#"mount -t fuse.ftpfs -o writeback,umount_timeout=1,credentials=$SECRET,spool_dir=$SPOOL "$URL" point
        echo text > point/letter
        umount point 2> said && exit 9
        test $? = 32
        cat said
        grep -q '1 file(s) could not be confirmed.*ftpfs recover' said
        not findmnt point >/dev/null"#,
    );
}

#[test]
fn umount_waits_for_nobody_who_will_not_end() {
    let stage = Stage::new();
    stage.server.faults().add(Rule::on("STOR").act(Fault::Silent));
    stage.ok(
        r#"mount -t fuse.ftpfs -o writeback,umount_timeout=50,credentials=$SECRET,spool_dir=$SPOOL "$URL" point
        mkdir other && mount --bind point other
        echo text > point/letter
        timeout 20 umount other
        # In another namespace, with a copy of the mount.
        timeout 20 unshare --mount --propagation private umount point
        findmnt point >/dev/null
        # In use: refused at once, and it stays.
        exec 3< point/letter
        timeout 20 umount point 2> said && exit 9
        test $? = 32
        grep -q busy said
        test "$(cat point/letter)" = text
        timeout 20 umount -l point
        not findmnt point >/dev/null"#,
    );
}

/// A server, and a place where scripts meet mount(8) as they would after an installation.
struct Stage {
    server: scripted::Server,
    folder: Scratch,
    _served: Scratch,
}

impl Stage {
    fn new() -> Self {
        let served = Scratch::new("served");
        fs::write(served.path().join("letter"), "hello\n").unwrap();
        let server = scripted::Server::start(served.path()).unwrap();
        let folder = Scratch::new("stage");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["helpers", "point", "spool"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // An installed one (FTPFS_PROGRAM) has its helpers in /sbin already.
        if std::env::var_os("FTPFS_PROGRAM").is_none() {
            // A user other than root must be able to run it, wherever it was built.
            fs::copy(env!("CARGO_BIN_EXE_ftpfs"), folder.path().join("helpers/ftpfs")).unwrap();
            for name in ["mount.ftpfs", "mount.fuse.ftpfs", "umount.fuse.ftpfs"] {
                symlink("ftpfs", folder.path().join("helpers").join(name)).unwrap();
            }
        }
        let secret = folder.path().join("secret");
        fs::write(&secret, format!("username=guest\npassword={}\n", server.password())).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        Self { server, folder, _served: served }
    }

    #[track_caller]
    fn ok(&self, script: &str) {
        let Output { status, stdout, stderr } = Command::new("timeout")
            .args(["60", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-e", "-u", "-c", &format!("{PREPARE}{script}")])
            .current_dir(self.folder.path())
            .env("URL", self.server.url().replace("guest@", ""))
            .env("PASSWORD", self.server.password())
            .env("PROGRAM", std::env::var("FTPFS_PROGRAM").unwrap_or("helpers/ftpfs".into()))
            .env("SECRET", self.folder.path().join("secret"))
            .env("SPOOL", self.folder.path().join("spool"))
            .env("SERVED", self.server.root())
            .env_remove("FTPFS_PASSWORD")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            status.success(),
            "{status}: {script}\n{}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    }
}

/// A server with another URL or password than its own.
struct Below {
    url: String,
    password: String,
}

impl Target for Below {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn password(&self) -> String {
        self.password.clone()
    }
}

/// Copies of other tests' mounts are let go. Where overlays cannot be had (inside some containers), a copy of the folder is bound instead.
const PREPARE: &str = r#"
awk '/ - fuse/ { print $5 }' /proc/self/mountinfo | while read -r at; do umount -l "$(printf '%b' "$at")"; done
sbin=$(readlink -f /sbin)
test ! -e helpers/ftpfs || mount -t overlay overlay -o "lowerdir=$PWD/helpers:$sbin" "$sbin" 2>/dev/null || {
    cp -a "$sbin" copy && cp -a helpers/. copy/ && mount --bind copy "$sbin"
}
# What is written to /etc is written to a copy.
lay_over_etc() {
    mkdir etc etc.work
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$PWD/etc,workdir=$PWD/etc.work" /etc 2>/dev/null || {
        cp -a /etc/. etc/ && mount --bind etc /etc
    }
}
# What begins with `!` does not end a script.
not() { if "$@"; then return 1; fi; }
set -x
"#;
