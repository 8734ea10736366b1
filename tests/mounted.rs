//! A mounted server behaves like a local folder: what ordinary programs and plain file calls do, on each of four servers.
//! After every change the bytes on the server's side are compared, not only what the mount says.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use harness::patience::eventually;
use harness::{Kind, Mounted, servers, shell};
use nix::libc;

on_each_server! {
    [
        vsftpd Vsftpd, proftpd Proftpd, pure_ftpd PureFtpd, pyftpdlib Pyftpdlib,
        // Servers that allow few sessions. Every other number on every server: FTPFS_MAX_SESSIONS=3 cargo test --test mounted
        one_session Vsftpd 1, two_sessions Proftpd 2
    ]

    fn ls_shows_names_sizes_kinds_and_times(at: &mut Mounted) {
        at.server.put("letter", "Dear reader,\n");
        at.server.make_folder("drawer");
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        File::open(at.server.root().join("letter")).unwrap().set_modified(yesterday).unwrap();
        let listing = at.ok("ls -la");
        assert!(listing.lines().any(|line| line.starts_with('-') && line.ends_with(" letter")), "{listing}");
        assert!(listing.lines().any(|line| line.starts_with('d') && line.ends_with(" drawer")), "{listing}");
        assert_eq!(at.ok("ls -A"), "drawer\nletter\n");
        let found = fs::metadata(at.path("letter")).unwrap();
        assert_eq!((found.len(), found.is_file()), (13, true));
        // A listing may know the minute only.
        let wanted = fs::metadata(at.server.root().join("letter")).unwrap().mtime();
        assert!((found.mtime() - wanted).abs() < 60, "{} instead of {wanted}", found.mtime());
    }

    fn an_old_file_shows_its_year_and_a_file_of_this_minute_is_not_from_the_future(at: &mut Mounted) {
        at.server.put("old", "x");
        at.server.put("new", "x");
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(at.server.root().join("old")).unwrap().set_modified(old).unwrap();
        // 2001-09-09 01:46:40 UTC. LIST has the day only, in the server's time zone.
        let found = fs::metadata(at.path("old")).unwrap().mtime();
        assert!((found - 1_000_000_000).abs() <= 86_400 + 14 * 3600, "{found}");
        let found = fs::metadata(at.path("new")).unwrap().modified().unwrap();
        let age = SystemTime::now().duration_since(found).unwrap_or_default();
        assert!(found <= SystemTime::now() + Duration::from_secs(1) && age < Duration::from_secs(180), "{age:?}");
    }

    fn cat_shows_what_the_server_has(at: &mut Mounted) {
        let content = noise(300_000);
        at.server.put("data", &content);
        at.server.put("empty", "");
        // Binary is binary: nothing is taken for a line end.
        at.server.put("lines", "a\r\nb\nc\r");
        at.ok("cat data > ../out");
        assert_eq!(fs::read(at.path("../out")).unwrap(), content);
        assert_eq!(at.read("empty"), b"");
        assert_eq!(at.read("lines"), b"a\r\nb\nc\r");
    }

    fn cp_brings_files_in_and_out_byte_for_byte(at: &mut Mounted) {
        for size in [0, 1, 4095, 4096, 4097, 131_072, 1_000_003] {
            let content = noise(size);
            fs::write(at.path("../in"), &content).unwrap();
            at.ok(&format!("cp ../in file{size}"));
            assert!(at.server.read(format!("file{size}")) == content, "{size} bytes went in changed");
            at.ok(&format!("cp file{size} ../out"));
            assert!(fs::read(at.path("../out")).unwrap() == content, "{size} bytes came out changed");
        }
    }

    fn cp_over_an_existing_file_leaves_nothing_of_the_old_one(at: &mut Mounted) {
        at.server.put("file", noise(100_000));
        at.ok("echo short > ../in && cp ../in file && cat file");
        assert_eq!(at.server.read("file"), b"short\n");
        at.remount();
        assert_eq!(at.read("file"), b"short\n");
    }

    fn cp_r_copies_trees_both_ways_and_diff_r_agrees(at: &mut Mounted) {
        at.ok("mkdir -p ../tree/a/b ../tree/c && seq 5000 > ../tree/a/numbers && echo x > ../tree/a/b/x && : > ../tree/c/empty");
        at.ok("cp -r ../tree . && diff -r ../tree tree");
        shell::ok(at.server.root(), &format!("diff -r tree '{}'", at.path("../tree").display()));
        at.ok("cp -r tree ../back && diff -r ../tree ../back");
        at.remount();
        assert_eq!(at.ok("cat tree/a/b/x; wc -l < tree/a/numbers; ls tree"), "x\n5000\na\nc\n");
    }

    fn grep_r_and_find_reach_every_file(at: &mut Mounted) {
        for (path, text) in [("one", "needle"), ("a/two", "hay"), ("a/b/three", "needle"), ("a/b/c/four", "hay")] {
            at.server.put(path, text);
        }
        assert_eq!(at.ok("grep -rl needle . | sort"), "./a/b/three\n./one\n");
        assert_eq!(at.ok("find . -type f | sort"), "./a/b/c/four\n./a/b/three\n./a/two\n./one\n");
        assert_eq!(at.ok("find . -type d | sort"), ".\n./a\n./a/b\n./a/b/c\n");
    }

    fn mkdir_mv_and_rm_r_change_the_server(at: &mut Mounted) {
        at.ok("mkdir -p a/b/c && echo 1 > a/b/c/file && mv a/b moved && mv moved/c/file moved/renamed");
        assert_eq!(at.server.read("moved/renamed"), b"1\n");
        assert!(!at.server.root().join("a/b").exists() && !at.server.root().join("moved/c/file").exists());
        assert_eq!(at.ok("cat moved/renamed; ls a moved/c"), "1\na:\n\nmoved/c:\n");
        at.ok("rm -r moved a && ls -A");
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 0);
    }

    fn echo_appends_to_a_file_and_keeps_what_was_there(at: &mut Mounted) {
        let old = noise(200_000);
        at.server.put("log", &old);
        at.ok("echo one >> log && echo two >> log && echo first >> new");
        assert!(at.server.read("log") == [old.as_slice(), b"one\ntwo\n"].concat());
        assert_eq!(at.server.read("new"), b"first\n");
        at.remount();
        assert_eq!(at.ok("tail -n 2 log | tail -c 8"), "one\ntwo\n");
    }

    fn sed_i_edits_in_place(at: &mut Mounted) {
        at.server.put("page", "colour\ncolour\n");
        at.ok("sed -i s/colour/color/ page");
        assert_eq!(at.server.read("page"), b"color\ncolor\n");
        assert_eq!(at.ok("ls -A"), "page\n");
        at.ok("sed -i.bak 1d page");
        assert_eq!((at.server.read("page"), at.server.read("page.bak")), (b"color\n".to_vec(), b"color\ncolor\n".to_vec()));
    }

    fn dd_notrunc_changes_the_middle_only(at: &mut Mounted) {
        let mut content = noise(400_000);
        at.server.put("image", &content);
        at.ok("printf PATCH | dd of=image bs=1 seek=200000 conv=notrunc status=none");
        content[200_000..200_005].copy_from_slice(b"PATCH");
        assert!(at.server.read("image") == content);
        // Past the end: the gap reads as zeros.
        at.ok("printf END | dd of=image bs=1 seek=500000 conv=notrunc status=none");
        content.resize(500_000, 0);
        content.extend(b"END");
        assert!(at.server.read("image") == content && at.read("image") == content);
    }

    fn touch_sets_times_that_last(at: &mut Mounted) {
        at.ok("echo x > file && touch -d '2020-02-03 04:05:06 UTC' file");
        assert_eq!(fs::metadata(at.path("file")).unwrap().mtime(), 1_580_702_706);
        assert_eq!(fs::metadata(at.server.root().join("file")).unwrap().mtime(), 1_580_702_706);
        at.ok("cp -p file copy && touch -r file made");
        assert_eq!(fs::metadata(at.server.root().join("copy")).unwrap().mtime(), 1_580_702_706);
        assert_eq!(fs::metadata(at.server.root().join("made")).unwrap().mtime(), 1_580_702_706);
        at.ok("echo more >> copy");
        assert!(fs::metadata(at.path("copy")).unwrap().mtime() > 1_700_000_000, "writing makes a file new");
    }

    fn truncate_works_both_ways(at: &mut Mounted) {
        let content = noise(100_000);
        at.server.put("file", &content);
        at.ok("truncate -s 1000 file");
        assert!(at.server.read("file") == content[..1000]);
        at.ok("truncate -s 5000 file");
        assert!(at.server.read("file") == [&content[..1000], &[0; 4000]].concat());
        assert_eq!(fs::metadata(at.path("file")).unwrap().len(), 5000);
        at.ok("truncate -s 0 file && truncate -s 300 new");
        assert_eq!((at.server.read("file"), at.server.read("new")), (vec![], vec![0; 300]));
    }

    fn open_flags_mean_what_they_say(at: &mut Mounted) {
        at.server.put("there", "old content");
        let mut exclusive = OpenOptions::new();
        exclusive.write(true).create_new(true);
        assert_eq!(errno(exclusive.open(at.path("there"))), libc::EEXIST);
        exclusive.open(at.path("fresh")).unwrap().write_all(b"x").unwrap();
        assert_eq!(at.server.read("fresh"), b"x");
        drop(File::create(at.path("there")).unwrap());
        assert_eq!(at.server.read("there"), b"");
        assert_eq!(errno(OpenOptions::new().write(true).open(at.path("missing"))), libc::ENOENT);
    }

    fn one_handle_reads_what_it_wrote(at: &mut Mounted) {
        at.server.put("both", "0123456789");
        let mut file = OpenOptions::new().read(true).write(true).open(at.path("both")).unwrap();
        file.write_all_at(b"ab", 4).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123ab6789");
        file.set_len(6).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"!").unwrap();
        file.sync_all().unwrap();
        assert_eq!(at.server.read("both"), b"0123ab!", "after fsync");
        file.write_all_at(b"Z", 0).unwrap();
        drop(file);
        assert_eq!(at.server.read("both"), b"Z123ab!", "after close");
    }

    fn a_file_written_backwards_and_with_holes_is_right(at: &mut Mounted) {
        let file = File::create(at.path("sparse")).unwrap();
        file.write_all_at(b"end", 300_000).unwrap();
        file.write_all_at(b"middle", 150_000).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        drop(file);
        let mut wanted = vec![0; 300_003];
        for (offset, text) in [(0, b"start".as_slice()), (150_000, b"middle"), (300_000, b"end")] {
            wanted[offset..offset + text.len()].copy_from_slice(text);
        }
        assert!(at.server.read("sparse") == wanted && at.read("sparse") == wanted);
    }

    fn reads_at_any_offset_give_the_bytes_that_are_there(at: &mut Mounted) {
        let content = noise(3_000_000);
        at.server.put("film", &content);
        let file = File::open(at.path("film")).unwrap();
        for (offset, length) in [(2_999_990, 10), (0, 10), (1_500_000, 70_000), (1_400_000, 1), (2_000_000, 300_000), (5, 5)] {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset as u64).unwrap();
            assert!(bytes == content[offset..offset + length], "{length} bytes at {offset}");
        }
        assert_eq!(file.read_at(&mut [0; 100], 3_000_000).unwrap(), 0);
        assert_eq!(file.read_at(&mut [0; 100], 9_000_000).unwrap(), 0);
        assert_eq!(file.read_at(&mut [0; 100], 2_999_950).unwrap(), 50);
    }

    fn rename_replaces_an_existing_file(at: &mut Mounted) {
        at.server.put("new", "new content");
        at.server.put("old", "old");
        fs::rename(at.path("new"), at.path("old")).unwrap();
        assert_eq!((at.read("old"), at.server.read("old")), (b"new content".to_vec(), b"new content".to_vec()));
        assert!(!at.path("new").exists() && !at.server.root().join("new").exists());
        assert_eq!(errno(fs::rename(at.path("new"), at.path("other"))), libc::ENOENT);
    }

    fn mv_n_leaves_an_existing_file_alone(at: &mut Mounted) {
        at.server.put("new", "new");
        at.server.put("old", "old");
        // Its exit status differs between versions of coreutils; the files are what counts.
        shell::run(at.mount.path(), "mv -n new old");
        assert_eq!((at.server.read("new"), at.server.read("old")), (b"new".to_vec(), b"old".to_vec()));
    }

    fn a_renamed_folder_takes_everything_with_it(at: &mut Mounted) {
        at.server.put("before/deep/file", "x");
        at.ok("cat before/deep/file");
        fs::rename(at.path("before"), at.path("after")).unwrap();
        assert_eq!(at.read("after/deep/file"), b"x");
        assert!(!at.path("before/deep/file").exists());
        at.ok("echo y >> after/deep/file");
        assert_eq!(at.server.read("after/deep/file"), b"xy\n");
    }

    fn a_file_removed_while_open_can_still_be_read(at: &mut Mounted) {
        let content = noise(200_000);
        at.server.put("doomed", &content);
        let mut file = File::open(at.path("doomed")).unwrap();
        fs::remove_file(at.path("doomed")).unwrap();
        assert!(!at.path("doomed").exists());
        assert_eq!(file.metadata().unwrap().nlink(), 0, "who waited for a lock file learns that it was removed");
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert!(read == content);
        drop(file);
        eventually("the file is gone", || fs::read_dir(at.server.root()).unwrap().count() == 0);
    }

    fn a_folder_of_removed_files_that_are_open_is_empty_to_rename_and_rmdir(at: &mut Mounted) {
        at.ok("mkdir -p one two three && echo text > one/file && echo more > two/file");
        let mut open = ["one/file", "two/file"].map(|name| File::open(at.path(name)).unwrap());
        at.ok("rm one/file two/file && mv -T three one && rmdir two && ls -A");
        let mut text = String::new();
        open[0].read_to_string(&mut text).unwrap();
        open[1].read_to_string(&mut text).unwrap();
        assert_eq!(text, "text\nmore\n");
        drop(open);
        assert_eq!(at.ok("ls -A"), "one\n");
        eventually("only that on the server", || fs::read_dir(at.server.root()).unwrap().count() == 1);
    }

    fn a_scratch_file_removed_while_open_can_still_be_written(at: &mut Mounted) {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).open(at.path("scratch")).unwrap();
        file.write_all(b"first").unwrap();
        fs::remove_file(at.path("scratch")).unwrap();
        file.write_all(b" second").unwrap();
        let mut text = vec![0; 12];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(text, b"first second");
        drop(file);
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 0, "nothing may come back at close");
    }

    fn errors_have_their_proper_numbers(at: &mut Mounted) {
        at.server.put("file", "x");
        at.server.put("full/file", "x");
        at.server.make_folder("empty");
        let long = "n".repeat(256);
        assert_eq!(errno(fs::read(at.path("missing"))), libc::ENOENT);
        assert_eq!(errno(fs::read(at.path("missing/file"))), libc::ENOENT);
        assert_eq!(errno(fs::read(at.path("file/below"))), libc::ENOTDIR);
        assert_eq!(errno(fs::read(at.path("empty"))), libc::EISDIR);
        assert_eq!(errno(OpenOptions::new().write(true).open(at.path("empty"))), libc::EISDIR);
        assert_eq!(errno(fs::write(at.path("missing/file"), "")), libc::ENOENT);
        assert_eq!(errno(fs::write(at.path(&long), "")), libc::ENAMETOOLONG);
        assert_eq!(errno(fs::create_dir(at.path("full"))), libc::EEXIST);
        assert_eq!(errno(fs::create_dir(at.path("file"))), libc::EEXIST);
        assert_eq!(errno(fs::create_dir(at.path("missing/folder"))), libc::ENOENT);
        assert_eq!(errno(fs::remove_dir(at.path("full"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::remove_dir(at.path("missing"))), libc::ENOENT);
        assert_eq!(errno(fs::remove_dir(at.path("file"))), libc::ENOTDIR);
        assert_eq!(errno(nix::unistd::unlink(&at.path("empty")).map_err(std::io::Error::from)), libc::EISDIR);
        assert_eq!(errno(fs::remove_file(at.path("missing"))), libc::ENOENT);
        assert_eq!(errno(fs::rename(at.path("file"), at.path("empty"))), libc::EISDIR);
        assert_eq!(errno(fs::rename(at.path("empty"), at.path("file"))), libc::ENOTDIR);
        assert_eq!(errno(fs::rename(at.path("empty"), at.path("full"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::rename(at.path("full"), at.path("full/below"))), libc::EINVAL);
        fs::remove_dir(at.path("empty")).unwrap();
        assert!(!at.server.root().join("empty").exists());
        assert_eq!(at.server.read("full/file"), b"x");
    }

    fn what_the_server_forbids_is_permission_denied(at: &mut Mounted) {
        at.server.put("secret", "x");
        at.server.put("sealed/file", "x");
        let mode = |path: &str, mode| fs::set_permissions(at.server.root().join(path), fs::Permissions::from_mode(mode));
        mode("secret", 0o000).unwrap();
        mode("sealed", 0o555).unwrap();
        assert_eq!(errno(fs::read(at.path("secret"))), libc::EACCES);
        assert_eq!(errno(write_synced(&at.path("sealed/new"))), libc::EACCES);
        assert_eq!(errno(fs::create_dir(at.path("sealed/folder"))), libc::EACCES);
        assert_eq!(errno(fs::remove_file(at.path("sealed/file"))), libc::EACCES);
        assert_eq!(at.read("sealed/file"), b"x");
    }

    fn what_ftp_has_no_command_for_is_not_permitted(at: &mut Mounted) {
        at.ok("echo text > file");
        let told = at.ok("for make in 'mkfifo x' 'mknod x b 1 2' 'ln file x' 'ln -s file x'; do LC_ALL=C $make 2>&1; done | grep -c 'not permitted'");
        assert_eq!(told, "4\n");
        assert_eq!(at.ok("ls -A"), "file\n");
    }

    fn a_name_with_a_line_end_is_refused_and_never_sent(at: &mut Mounted) {
        at.server.put("victim", "x");
        for name in ["new\nline", "cr\rname", "x\r\nDELE /victim", "\n", "\r"] {
            assert_eq!(errno(fs::write(at.path(name), "x")), libc::EINVAL, "{name:?}");
            assert_eq!(errno(fs::create_dir(at.path(name))), libc::EINVAL, "{name:?}");
            assert_eq!(errno(fs::rename(at.path("victim"), at.path(name))), libc::EINVAL, "{name:?}");
        }
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 1);
        assert_eq!(at.server.read("victim"), b"x");
    }

    fn files_with_odd_names_on_the_server_can_be_read_renamed_and_removed(at: &mut Mounted) {
        let names: Vec<&[u8]> = ODD_NAMES.iter().copied().filter(|name| is_readable(at.kind(), name)).collect();
        for name in &names {
            let path = at.server.root().join(OsStr::from_bytes(name));
            fs::write(&path, name).unwrap();
            servers::own(&path);
        }
        let mut listed: Vec<Vec<u8>> =
            fs::read_dir(at.mount.path()).unwrap().map(|e| e.unwrap().file_name().as_bytes().to_vec()).collect();
        listed.sort();
        let mut wanted: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        wanted.sort();
        assert_eq!(shown(&listed), shown(&wanted));
        for name in &names {
            let path = at.path(OsStr::from_bytes(name));
            assert_eq!(fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")), *name);
            assert_eq!(fs::metadata(&path).unwrap().len(), name.len() as u64);
        }
        for name in names {
            let path = at.path(OsStr::from_bytes(name));
            fs::rename(&path, at.path("plain")).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            fs::remove_file(at.path("plain")).unwrap();
        }
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), 0);
    }

    fn an_odd_name_is_stored_exactly_or_refused(at: &mut Mounted) {
        for name in ODD_NAMES {
            let name = OsStr::from_bytes(name);
            let (file, folder) = (at.path(name), at.path("folders").join(name));
            fs::create_dir_all(at.path("folders")).unwrap();
            match write_synced(&file) {
                Ok(()) => assert_eq!(at.server.read(name), b"x", "{name:?}"),
                Err(e) => assert!(!is_storable(at.kind(), name.as_bytes()), "{name:?}: {e}"),
            }
            match fs::create_dir(&folder) {
                Ok(()) => assert!(at.server.root().join("folders").join(name).is_dir(), "{name:?}"),
                Err(e) => assert!(!is_storable(at.kind(), name.as_bytes()), "folder {name:?}: {e}"),
            }
            for folder in ["", "folders"] {
                for entry in fs::read_dir(at.server.root().join(folder)).unwrap() {
                    let found = entry.unwrap().file_name();
                    assert!(found == name || found == "folders", "{name:?} was stored as {found:?}");
                }
            }
            let _ = fs::remove_file(&file);
            let _ = fs::remove_dir(&folder);
            let left = |folder: &str| fs::read_dir(at.server.root().join(folder)).unwrap().count();
            // A program started meanwhile by another test may hold the file open for a moment.
            eventually("they are removed", || (left(""), left("folders")) == (1, 0));
        }
    }

    fn folders_with_odd_names_can_be_entered(at: &mut Mounted) {
        let names: Vec<&[u8]> = ODD_NAMES.iter().copied().filter(|name| is_readable(at.kind(), name)).collect();
        for name in &names {
            let folder = Path::new(OsStr::from_bytes(name));
            at.server.make_folder(folder.join("below"));
            let file = at.server.root().join(folder).join("file");
            fs::write(&file, name).unwrap();
            servers::own(&file);
        }
        for name in &names {
            // Debian's ProFTPD forbids commands in which a slash follows a star.
            if at.kind() == Kind::Proftpd && name.contains(&b'*') {
                continue;
            }
            let folder = at.path(OsStr::from_bytes(name));
            let mut found: Vec<_> = fs::read_dir(&folder)
                .unwrap_or_else(|e| panic!("{folder:?}: {e}"))
                .map(|entry| entry.unwrap().file_name())
                .collect();
            found.sort();
            assert_eq!(found, ["below", "file"], "{folder:?}");
            assert_eq!(fs::read(folder.join("file")).unwrap_or_else(|e| panic!("{folder:?}: {e}")), *name);
        }
    }

    fn hidden_files_are_there(at: &mut Mounted) {
        at.server.put(".hidden", "x");
        at.server.put(".config/inner", "y");
        assert_eq!(at.ok("ls -A"), ".config\n.hidden\n");
        assert_eq!(at.ok("cat .hidden .config/inner"), "xy");
        at.ok("echo z > .new && rm .hidden && rm -r .config");
        assert_eq!(at.ok("ls -A"), ".new\n");
        assert_eq!(at.server.read(".new"), b"z\n");
    }

    fn a_folder_of_ten_thousand_files_is_listed_in_full(at: &mut Mounted) {
        // Pure-FTPd lists 10,000 entries as it comes, `.` and `..` among them, and says that it has cut the rest.
        let count = if at.kind() == Kind::PureFtpd { 9_990 } else { 10_000 };
        let folder = at.server.root().join("many");
        fs::create_dir(&folder).unwrap();
        for number in 0..count {
            fs::write(folder.join(format!("file-{number:05}")), "").unwrap();
        }
        assert_eq!(at.ok("ls many | wc -l").trim(), count.to_string());
        assert_eq!(at.ok("ls many | tail -n 1").trim(), format!("file-{:05}", count - 1));
        assert_eq!(at.ok("ls -l many | grep -c '^-'").trim(), count.to_string());
        assert!(at.path("many/file-05000").exists() && !at.path("many/file-x").exists());
    }

    fn links_on_the_server_lead_where_they_point(at: &mut Mounted) {
        at.server.put("folder/file", "reached");
        for (target, link) in [("folder/file", "to-file"), ("folder", "to-folder"), ("nowhere", "dangling")] {
            symlink(target, at.server.root().join(link)).unwrap();
            servers::own(&at.server.root().join(link));
        }
        assert_eq!(at.read("to-file"), b"reached");
        assert_eq!(at.read("to-folder/file"), b"reached");
        assert_eq!(at.ok("ls to-folder/"), "file\n");
        assert_eq!(errno(fs::read(at.path("dangling"))), libc::ENOENT);
        // Removing a link leaves what it points to.
        fs::remove_file(at.path("to-file")).unwrap();
        assert_eq!(at.server.read("folder/file"), b"reached");
    }

    fn a_link_cannot_be_made_and_says_so(at: &mut Mounted) {
        at.server.put("file", "x");
        let refused = errno(symlink("target", at.path("link")));
        assert!([libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS].contains(&refused), "{refused}");
        let refused = errno(fs::hard_link(at.path("file"), at.path("link")));
        assert!([libc::EPERM, libc::EOPNOTSUPP, libc::ENOSYS].contains(&refused), "{refused}");
    }

    fn chmod_reaches_the_server(at: &mut Mounted) {
        at.server.put("script", "#!/bin/sh\necho ran\n");
        at.ok("chmod 755 script");
        assert_eq!(fs::metadata(at.server.root().join("script")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(at.path("script")).unwrap().mode() & 0o777, 0o755);
    }

    fn what_another_client_writes_is_seen_after_a_while(at: &mut Mounted) {
        at.server.put("shared", "old");
        assert_eq!(at.read("shared"), b"old");
        assert!(!at.path("later").exists());
        at.server.put("shared", "new and longer");
        at.server.put("later", "x");
        eventually("the new content", || fs::read(at.path("shared")).unwrap() == b"new and longer");
        eventually("the new file", || at.path("later").exists());
        fs::remove_file(at.server.root().join("later")).unwrap();
        eventually("the file to go", || !at.path("later").exists());
    }

    fn other_users_get_in_only_when_asked_for(at: &mut Mounted) {
        at.server.put("file", "x");
        let as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        shell::fails(Path::new("/"), &format!("{as_nobody} cat '{}'", at.path("file").display()));
        at.mount.remount(&at.server, &["allow_other"]);
        let read = shell::ok(Path::new("/"), &format!("{as_nobody} cat '{}'", at.path("file").display()));
        assert_eq!(read, "x");
    }

    fn many_files_written_at_once_all_arrive(at: &mut Mounted) {
        at.ok("for i in $(seq 20); do (seq $i 2000 > f$i; cat f$i > g$i) & done; wait");
        for i in 1..=20 {
            let wanted: String = (i..=2000).map(|n| format!("{n}\n")).collect();
            assert!(at.server.read(format!("f{i}")) == wanted.as_bytes(), "f{i}");
            assert!(at.server.read(format!("g{i}")) == wanted.as_bytes(), "g{i}");
        }
    }

    fn what_was_written_is_still_there_after_unmounting(at: &mut Mounted) {
        let content = noise(2_000_000);
        fs::write(at.path("../in"), &content).unwrap();
        at.ok("cp ../in big && mkdir d && echo x > d/x && touch -d '2019-01-01 UTC' d/x");
        at.remount();
        assert!(at.read("big") == content);
        assert_eq!(at.ok("cat d/x; ls -A"), "x\nbig\nd\n");
        assert_eq!(fs::metadata(at.server.root().join("d/x")).unwrap().mtime(), 1_546_300_800);
    }
}

/// Names as bytes: what people really call their files, and what breaks naive clients.
const ODD_NAMES: &[&[u8]] = &[
    b" leading",
    b"  two leading",
    b"trailing ",
    b"in  the middle",
    b"100%",
    b"%41%0A",
    b"#hash",
    b"[brackets]",
    b"st*r",
    b"what?",
    b"back\\slash",
    b"{braces}",
    b"-dash",
    b"--",
    b"~tilde",
    b"a -> b",
    b"quo\"te",
    b"it's",
    b"semi;colon",
    b"comma,equals=",
    b"$HOME",
    b"a&b|c<d>",
    b"...",
    b"Nov 21 12:00 file",
    b"-rw-r--r-- 1 x x 1 Jan 1 00:00 y",
    b"tab\there",
    b"\xc3\xbcml\xc3\xa4ut",
    b"u\xcc\x88 decomposed",
    b"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    b"\xf0\x9f\x90\xa7",
    b"latin1-\xe9",
    b"\xff\xfe",
];

/// What facts about the servers say (section 8 of the survey): a name that is there can be listed and read.
fn is_readable(kind: Kind, name: &[u8]) -> bool {
    let utf8 = std::str::from_utf8(name).is_ok();
    let control = name.iter().any(u8::is_ascii_control);
    match kind {
        // It lists names with a backslash, and prohibits every command about them.
        Kind::PureFtpd => !control && !name.contains(&b'\\'),
        Kind::Pyftpdlib => utf8,
        _ => true,
    }
}

/// And a name that is given is kept as it is.
fn is_storable(kind: Kind, name: &[u8]) -> bool {
    let odd_here = match kind {
        Kind::PureFtpd => name.ends_with(b" ") || name.contains(&b'\\'),
        Kind::Proftpd => name.contains(&b'*'),
        _ => false,
    };
    is_readable(kind, name) && !odd_here
}

fn shown(names: &[Vec<u8>]) -> Vec<String> {
    names.iter().map(|name| name.escape_ascii().to_string()).collect()
}

/// Writes and waits for the server: the standard library drops the error of close().
fn write_synced(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"x")?;
    file.sync_all()
}

#[track_caller]
fn errno<T>(result: std::io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e.raw_os_error().unwrap_or_else(|| panic!("no number: {e}")),
    }
}

/// Bytes that no compression, conversion or off-by-one leaves unnoticed; always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
