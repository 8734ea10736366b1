//! Public exercisers on a mount: fio with verification, dbench. Where they are not installed the tests are skipped, said aloud.
//! They take long: `cargo test --test suites -- --ignored`.

#[allow(dead_code, unused_imports, reason = "each test binary uses its own part of the harness")]
mod harness;

use harness::{Kind, Mount, Server, shell};

#[test]
#[ignore = "takes long; needs fio"]
fn fio_verifies_what_it_wrote() {
    let Some((server, mount)) = mounted("fio") else { return };
    for how in ["write", "randwrite", "rw"] {
        let job = format!(
            "fio --name=j --filename={how} --rw={how} --bs=4k-128k --size=8m --ioengine=psync --fsync_on_close=1 \
             --verify=crc32c --do_verify=1 --verify_fatal=1 --allow_file_create=1 --output=../{how}.log --randseed=7"
        );
        shell::ok(mount.path(), &job);
        assert_eq!(server.read(how).len(), 8 << 20, "{how}");
    }
}

#[test]
#[ignore = "takes long; needs dbench"]
fn dbench_runs_to_its_end() {
    let Some((_server, mount)) = mounted("dbench") else { return };
    let load = "/usr/share/dbench/client.txt";
    shell::ok(mount.path(), &format!("dbench -c {load} -D . -t 20 2"));
}

fn mounted(program: &str) -> Option<(Server, Mount)> {
    if !shell::has(program) {
        return None;
    }
    let server = Server::start(Kind::Vsftpd)?;
    let mount = Mount::new(&server, &[]);
    Some((server, mount))
}
