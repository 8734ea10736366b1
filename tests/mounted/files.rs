//! What is in files: every byte goes in and comes out as it was, whatever way a program writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::libc;

use crate::harness::patience::eventually;
use crate::harness::{Mounted, shell};
use crate::{errno, noise};

everywhere! {
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
        // A program started meanwhile by another test may hold the file open for a moment.
        eventually("nothing is left", || fs::read_dir(at.server.root()).unwrap().count() == 0);
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
