//! Folders, and what is said of what is in them: listings, names that change, times, modes, links, error numbers, other users.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::libc;

use crate::harness::patience::eventually;
use crate::harness::{Kind, Mounted, servers, shell};
use crate::{errno, write_synced};

everywhere! {
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
        // Of a pipe the shell tells the last program's end only: ls would fail unseen.
        assert_eq!(at.ok("ls many > ../list && wc -l < ../list").trim(), count.to_string());
        assert_eq!(at.ok("ls many > ../list && tail -n 1 ../list").trim(), format!("file-{:05}", count - 1));
        assert_eq!(at.ok("ls -l many > ../list && grep -c '^-' ../list").trim(), count.to_string());
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
        // Who has it open at the moment when the change is noticed is told so (ESTALE).
        let new = || fs::read(at.path("shared")).is_ok_and(|found| found == b"new and longer");
        eventually("the new content", new);
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
}
