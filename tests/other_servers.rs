//! A day's work on servers that are less common than the four that every promise is checked on. Each of them does
//! something that a client does not expect: facts that are missing, replies in the wrong order, commands that do not exist.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use std::fs;
use std::os::unix::fs::FileExt;

use harness::{Mounted, shell};

on_each_server! {
    [inetutils Inetutils, linux_ftpd LinuxFtpd, aioftp Aioftp, twisted Twisted, libunftp Libunftp, ftp_srv FtpSrv]

    fn files_are_listed_and_read(at: &mut Mounted) {
        let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        at.server.put("folder/data", &content);
        at.server.put("folder/a name with blanks", "x");
        at.server.put("empty", "");
        assert_eq!(at.ok("ls folder"), "a name with blanks\ndata\n");
        assert!(at.read("folder/data") == content);
        assert_eq!(fs::metadata(at.path("folder/data")).unwrap().len(), 800_000);
        assert_eq!(at.ok("cat empty 'folder/a name with blanks'"), "x");
        assert!(!at.path("folder/none").exists());
    }

    fn files_are_read_at_any_offset(at: &mut Mounted) {
        let content: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        at.server.put("data", &content);
        let file = fs::File::open(at.path("data")).unwrap();
        // Backwards: nothing that was read ahead helps, and Twisted, which has no REST, begins anew each time.
        for offset in [2_799_990usize, 1_500_001, 700_000, 3] {
            let mut bytes = [0; 10];
            file.read_exact_at(&mut bytes, offset as u64).unwrap();
            assert_eq!(bytes, content[offset..offset + 10], "at {offset}");
        }
    }

    fn files_are_written_changed_and_removed(at: &mut Mounted) {
        let before = fs::read_dir(at.server.root()).unwrap().count();
        at.ok("seq 100000 > ../in && mkdir -p a/b && cp ../in a/b/numbers && cmp ../in a/b/numbers");
        shell::ok(at.server.root(), &format!("cmp a/b/numbers '{}'", at.path("../in").display()));
        at.ok("echo end >> a/b/numbers && echo end >> ../in && cmp ../in a/b/numbers");
        at.ok("echo short > a/b/numbers && mv a/b/numbers a/moved");
        assert_eq!(at.server.read("a/moved"), b"short\n");
        at.remount();
        assert_eq!(at.ok("cat a/moved && ls a/b"), "short\n");
        at.ok("rm -r a");
        assert_eq!(fs::read_dir(at.server.root()).unwrap().count(), before);
    }

    fn a_server_that_restarts_is_found_again(at: &mut Mounted) {
        at.server.put("one", "1");
        at.server.put("folder/two", "2");
        assert_eq!(at.ok("cat one"), "1");
        at.server.restart();
        assert_eq!(at.ok("ls folder && cat folder/two"), "two\n2");
    }
}
