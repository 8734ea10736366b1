//! Programs that people use work in a mounted folder, unmodified and without options: cp -r, git, rsync, tar, sqlite3, vim. And
//! what wears mounts out in real life: a big file, a small limit of sessions, a server that restarts.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use harness::{Kind, Mounted, Options, shell};

on_each_server! {
    fn five_hundred_documents_go_in_agree_and_are_removed(at: &mut Mounted) {
        at.ok("mkdir ../docs && cd / && find usr/share/doc usr/share/common-licenses usr/lib/python3* usr/include -type f \
            -size -200k 2>/dev/null | head -n 500 > /tmp/ftpfs-list-$$ && xargs -d '\\n' cp --parents -t \
            \"$OLDPWD/../docs\" < /tmp/ftpfs-list-$$; rm /tmp/ftpfs-list-$$");
        let count = shell::ok(&at.path("../docs"), "find . -type f | wc -l");
        assert_eq!(count.trim(), "500", "this machine has too few files to copy");
        at.ok("cp -r ../docs docs && diff -r ../docs docs");
        shell::ok(at.server.root(), &format!("diff -r docs '{}'", at.path("../docs").display()));
        at.remount();
        assert_eq!(at.ok("find docs -type f | wc -l").trim(), "500");
        at.ok("rm -r docs");
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 0);
    }

    fn git_clones_commits_and_checks_a_repository(at: &mut Mounted) {
        let git = "git -c user.name=t -c user.email=t@example.org";
        at.ok(&format!("{git} init -q ../repository && cd ../repository && \
            for i in $(seq 40); do mkdir -p d$((i % 5)) && seq $i 500 > d$((i % 5))/file$i; done && \
            chmod +x d1/file1 && {git} add . && {git} commit -qm first"));
        at.ok("git clone -q ../repository clone");
        assert_eq!(at.ok("git -C clone status --porcelain"), "");
        at.ok("git -C clone fsck --full");
        at.ok(&format!("cd clone && echo more >> d1/file1 && rm d2/file2 && {git} commit -qam second && git gc -q"));
        at.remount();
        assert_eq!(at.ok("git -C clone status --porcelain && git -C clone rev-list --count HEAD"), "2\n");
        at.ok("git -C clone fsck --full && rm -rf clone");
    }

    fn rsync_sends_nothing_the_second_time(at: &mut Mounted) {
        if !shell::has("rsync") {
            return;
        }
        at.ok("mkdir -p ../site/css ../site/img && seq 3000 > ../site/index.html && seq 50 > ../site/css/a.css && \
            head -c 300000 /dev/urandom > ../site/img/b && touch -d '2018-05-06 07:08:09' ../site/css/a.css");
        at.ok("rsync -rt ../site/ site/");
        shell::ok(at.server.root(), &format!("diff -r site '{}'", at.path("../site").display()));
        // Lines for files. Folders' times cannot be set on vsftpd and pyftpdlib, and change with what is put into them.
        assert_eq!(at.ok("rsync -rti ../site/ site/ | grep -v '^.d' || true"), "");
        at.remount();
        assert_eq!(at.ok("rsync -rti ../site/ site/ | grep -v '^.d' || true"), "", "after mounting again");
        at.ok("echo new >> ../site/css/a.css");
        let sent = at.ok("rsync -rti ../site/ site/");
        assert!(sent.lines().any(|line| line.contains("css/a.css")) && !sent.contains("index.html"), "{sent}");
        at.ok("rsync -rt --inplace ../site/ site/ && rsync -rt --delete ../site/css/ site/ && diff -r ../site/css site");
    }

    fn tar_unpacks_into_and_packs_from_the_mount(at: &mut Mounted) {
        at.ok("mkdir -p ../t/x && for i in $(seq 60); do seq $i > ../t/x/$i; done && tar -C .. -cf ../t.tar t");
        at.ok("tar -xf ../t.tar && diff -r t ../t && tar -cf packed.tar t && tar -df packed.tar");
        at.remount();
        assert_eq!(at.ok("tar -tf packed.tar | grep -c /x/.").trim(), "60");
    }

    fn sqlite_keeps_its_database(at: &mut Mounted) {
        if !shell::has("sqlite3") {
            return;
        }
        at.ok("sqlite3 db 'create table t(a integer primary key, b text)'");
        at.ok("for i in 1 2 3 4 5; do sqlite3 db \"insert into t(b) values(hex(randomblob(2000)))\"; done");
        at.ok("sqlite3 db 'begin; update t set b = upper(b); delete from t where a = 2; commit;'");
        at.remount();
        assert_eq!(at.ok("sqlite3 db 'select count(*), sum(a) from t; pragma integrity_check'"), "4|13\nok\n");
        let copy = at.path("../copy");
        fs::copy(at.server.root().join("db"), &copy).unwrap();
        let counted = shell::ok(at.mount.path(), "sqlite3 ../copy 'select count(*) from t'");
        assert_eq!(counted, "4\n", "as the server has it");
    }

    fn vim_saves_what_was_edited(at: &mut Mounted) {
        if !shell::has("vim") {
            return;
        }
        at.server.put("page.html", "<p>old</p>\n".repeat(100));
        at.ok("vim -u NONE -i NONE -es -c 'set backup writebackup' -c '%s/old/new/' -c 'wq' page.html");
        assert!(at.server.read("page.html") == "<p>new</p>\n".repeat(100).as_bytes());
        assert_eq!(at.ok("ls -A | grep -v '~$'"), "page.html\n", "no swap file stays");
    }

    fn a_server_that_restarts_is_found_again(at: &mut Mounted) {
        at.server.put("before/file", "one");
        at.server.put("after/file", "two");
        assert_eq!(at.ok("ls before && cat before/file"), "file\none");
        at.server.stop();
        // Whatever is said now, it is said within the time-out.
        shell::run(at.mount.path(), "ls after; cat after/file; mkdir new");
        at.server.restart();
        assert_eq!(at.ok("ls after && cat after/file"), "file\ntwo");
        at.ok("echo three > after/new && cat before/file");
        assert_eq!(at.server.read("after/new"), b"three\n");
    }

    fn an_open_file_is_read_on_after_the_server_restarted(at: &mut Mounted) {
        let content: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_be_bytes).collect();
        at.server.put("film", &content);
        let mut file = File::open(at.path("film")).unwrap();
        let mut start = vec![0; 100_000];
        file.read_exact(&mut start).unwrap();
        at.server.restart();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert!([start, rest].concat() == content);
        let mut end = [0; 4];
        file.read_exact_at(&mut end, content.len() as u64 - 4).unwrap();
        assert_eq!(end, 1_999_999u32.to_be_bytes());
    }
}

#[test]
fn four_readers_at_once_get_by_with_two_sessions_and_with_one() {
    for kind in Kind::MAIN {
        for sessions in [2, 1] {
            let options = Options { max_sessions: Some(sessions), ..Options::default() };
            let Some(at) = Mounted::new(kind, &options, &[]) else { continue };
            for i in 1..=4u32 {
                at.server
                    .put(&format!("f{i}"), (i..2_000_000).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
            }
            at.ok("mkdir ../out && for i in 1 2 3 4; do cat f$i > ../out/f$i & p=\"$p $!\"; done; for i in $p; do wait $i || exit 1; done");
            shell::ok(at.server.root(), &format!("diff -r . '{}'", at.path("../out").display()));
            // Writing and reading at once, and looking around meanwhile.
            at.ok("cp f1 g1 & p=$!; cat f2 > ../out/g2 && ls -l > ../out/ls && wait $p && cmp f1 g1");
        }
    }
}

#[test]
fn a_gigabyte_goes_in_and_out_unchanged_in_little_memory() {
    let everywhere = std::env::var_os("FTPFS_BIG").is_some_and(|v| v == "all");
    for kind in Kind::MAIN.into_iter().take(if everywhere { 4 } else { 1 }) {
        let Some(mut at) = Mounted::new(kind, &Options::default(), &[]) else { continue };
        at.ok("openssl enc -aes-128-ctr -pass pass:x -nosalt -in /dev/zero 2>/dev/null | head -c 1073741824 > ../big");
        at.ok("cp ../big big");
        shell::ok(at.server.root(), &format!("cmp big '{}'", at.path("../big").display()));
        let writing = at.mount.peak_memory();
        at.remount();
        at.ok("cmp big ../big");
        let reading = at.mount.peak_memory();
        eprintln!("{kind:?}: {writing} KiB after writing, {reading} KiB after reading");
        assert!(writing < 150 * 1024 && reading < 150 * 1024, "{writing} and {reading} KiB");
    }
}
